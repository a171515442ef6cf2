"""A run through the Jobs API of a local Ray cluster: submitted, watched, stopped, resumed, fetched.

    python tests/bench/cluster.py [CONFIG] [--workers n] [--devices-per-worker n] [--target L2]
        [--half step] [--out DIR]

Starts a cluster of its own, and ends it; every step is the command line that a person would type.
The last lines are the seconds of every step, and the result. The exit code is 1 where a step fails
or the target is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 120  # some ten on a machine that is not busy
TARGET = 1e-12  # for the L2 error: some 100 steps of laplace2d, the whole in less than 5 minutes
HALF = 50


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def local_cluster(cpus: int, **environment: str) -> Iterator[str]:
    """A Ray cluster of this machine, beside any other; the URL of its dashboard.

    Args:
        cpus: how many it takes itself to have. environment: variables of all its processes.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    bin_dir = Path(sys.executable).parent  # jobs start `python`: let it be this one
    env = os.environ | {
        "PATH": f"{bin_dir}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        "RAY_AUTH_MODE": "disabled",
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",  # there is no traffic to wait for
    }
    command = [str(bin_dir / "ray"), "start", "--head", "--block", "--disable-usage-stats"]
    command += ["--port=0", f"--dashboard-port={port}", "--dashboard-agent-listen-port=0"]
    command += [f"--ray-client-server-port={free_port()}", f"--num-cpus={cpus}"]
    command += ["--min-worker-port=0", "--max-worker-port=0"]
    # Short, since the path of a Unix socket in it may have 107 characters.
    with tempfile.TemporaryDirectory(prefix="dg-", ignore_cleanup_errors=True) as folder:
        log = Path(folder) / "start.log"
        with open(log, "w", encoding="utf-8") as out:
            process = subprocess.Popen(
                [*command, f"--temp-dir={folder}/ray"],
                env=env | environment,
                cwd=folder,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        try:
            _wait_until_up(url, process, log)
            yield url
        finally:
            process.terminate()  # it ends all processes it has started, and no others
            process.wait(120)  # a busy machine takes its time


def _wait_until_up(url: str, process: subprocess.Popen, log: Path) -> None:
    """Until the dashboard knows of a node, or asks for a token."""
    until = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < until:
        try:
            answer = requests.get(f"{url}/api/v0/nodes", timeout=10)
            if answer.status_code == 401 or answer.json()["data"]["result"]["total"]:
                return
        except (requests.RequestException, KeyError):  # nobody listens yet, or knows anything
            pass
        time.sleep(0.5)
    raise RuntimeError(f"no Ray cluster at {url}: {log.read_text(encoding='utf-8')}")


class Steps:
    """Runs `distgram` commands one after another, and keeps the seconds of each."""

    def __init__(self, url: str):
        self.url, self.seconds = url, dict[str, float]()

    def run(self, name: str, *words: str, line: Callable[[str], None] = lambda text: None) -> str:
        """Run a command, showing what it prints; the last line of that.

        Args:
            line: called with each line.

        Raises:
            SystemExit: it fails.
        """
        print(f"$ distgram {' '.join(words)} --address {self.url}", flush=True)
        began, last = time.perf_counter(), ""
        with subprocess.Popen(
            [sys.executable, "-m", "distgram_launch.cli", *words, "--address", self.url],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            for text in process.stdout:
                last = text.rstrip()
                print(f"  {last}", flush=True)
                line(last)
        self.seconds[name] = time.perf_counter() - began
        if process.returncode:
            sys.exit(f"`distgram {' '.join(words)}` ended with exit code {process.returncode}")
        return last


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("config", nargs="?", default=str(ROOT / "configs" / "laplace2d.toml"))
    parser.add_argument("--workers", default="2")
    parser.add_argument("--devices-per-worker", default="4")
    parser.add_argument("--target", type=float, default=TARGET, help="L2 error to be reached")
    parser.add_argument("--half", type=int, default=HALF, help="the step at which it is stopped")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "cluster")
    given = parser.parse_args()
    if given.out.exists():
        shutil.rmtree(given.out)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="dg-") as storage, local_cluster(cpus=4) as url:
        steps = Steps(url)
        steps.seconds["start the cluster"] = time.perf_counter() - began
        job = steps.run(
            *("submit", "submit", given.config, "--storage", storage),
            *("--workers", given.workers, "--devices-per-worker", given.devices_per_worker),
            *("--set", f"run.target_l2={given.target}"),
        )
        run = job.rpartition("-")[0]
        stopped: list[subprocess.Popen] = []

        def half_way(text: str) -> None:
            if not stopped and _step(text) >= given.half:
                command = [
                    sys.executable,
                    "-m",
                    "distgram_launch.cli",
                    "stop",
                    run,
                    "--address",
                    url,
                ]
                stopped.append(subprocess.Popen(command, cwd=ROOT))

        steps.run("watch, and stop half-way", "watch", run, line=half_way)
        if not stopped or stopped[0].wait():
            sys.exit("the run was not stopped half-way")
        steps.run("resume", "resume", run)
        steps.run("watch to the end", "watch", run)
        steps.run("list the jobs", "ps")
        steps.run("fetch", "fetch", run, "--out", str(given.out))
        ended = time.perf_counter()
    steps.seconds["end the cluster"] = time.perf_counter() - ended
    result = json.loads((given.out / "result.json").read_text(encoding="utf-8"))
    print()
    for name, seconds in (steps.seconds | {"in all": time.perf_counter() - began}).items():
        print(f"{name:28}{seconds:7.1f} s")
    print()
    for name in ("problem", "devices", "steps", "seconds", "mean_square_residual", "l2_error"):
        print(f"{name:28}{result[name]:{'.3g' if isinstance(result[name], float) else ''}}")
    print(f"{'reason':28}{result['reason']}")
    print(f"{'run folder':28}{given.out}")


def _step(text: str) -> int:
    """The step of a row of the table, -1 for another line."""
    first = text.split()[:1]
    return int(first[0]) if first and first[0].isdigit() else -1


if __name__ == "__main__":
    main()
