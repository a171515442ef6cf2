"""cluster/two-hosts.sh for real: a run across two hosts, one of them cut off in the middle."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from cli_runs import TINY, environment, metrics

from distgram.store.checkpoint import newest, read_thetas

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "cluster" / "two-hosts.sh"
NAMES = {"distgram-host1", "distgram-host2", "distgram-switch"}
# Each host is a process of two devices; steps enough for a cut to fall between them.
CONFIG = TINY.replace("steps = 6", "steps = 200\npatience = 1000000").replace(
    "checkpoint_every = 2", "checkpoint_every = 10"
)
RUN = ("--ray", "--workers", 2, "--devices-per-worker", 2, "--heartbeat", 10)
HANG_S = 900.0  # nothing here takes a tenth of it on an idle machine

_ENV = environment(PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}", TWO_HOSTS_WAIT="180")
_ENV.pop("XLA_FLAGS")  # the tests' own eight devices


def two_hosts(*arguments: object, **env: str) -> subprocess.CompletedProcess[str]:
    """`two-hosts.sh ARGUMENTS...`"""
    command = [str(a) for a in (SCRIPT, *arguments)]
    return subprocess.run(command, env=_ENV | env, capture_output=True, text=True, timeout=HANG_S)


def namespaces() -> set[str]:
    told = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout
    return {line.split()[0] for line in told.splitlines()} & NAMES


def refusal() -> str | None:
    """Why there can be no namespaces here; None: there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "network namespaces need the command ip"
    name = f"distgram-try-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    subprocess.run(["ip", "netns", "delete", name], capture_output=True)
    return f"no network namespaces here: {made.stderr.strip()}" if made.returncode else None


needs_namespaces = pytest.mark.skipif(refusal() is not None, reason=str(refusal()))


@pytest.fixture(scope="module")
def hosts():
    """Two hosts with Ray on both; afterwards nothing of them is left."""
    up = two_hosts("up")
    assert up.returncode == 0, up.stderr
    try:
        yield
    finally:
        down = two_hosts("down")
    assert down.returncode == 0 and not namespaces(), down.stderr
    assert not [*Path("/etc/netns").glob("distgram-*")]


def solve(config: Path, out: Path) -> subprocess.Popen[str]:
    """Start a run on both hosts; what it says goes to `out`.txt."""
    command = (
        SCRIPT,
        "run",
        sys.executable,
        "-m",
        "distgram_launch.cli",
        "solve",
        config,
        "--out",
        out,
    )
    with open(f"{out}.txt", "w") as said:
        return subprocess.Popen(
            [str(a) for a in (*command, *RUN)], env=_ENV, stdout=said, stderr=said, text=True
        )


def wait_until(condition, process: subprocess.Popen, said: Path) -> None:
    until = time.monotonic() + HANG_S
    while not condition():
        assert process.poll() is None and time.monotonic() < until, said.read_text()
        time.sleep(0.1)


def steps(run: Path) -> list[int]:
    return [row["step"] for row in metrics(run)] if (run / "metrics.jsonl").is_file() else []


@needs_namespaces
def test_mistakes_are_told_in_one_line():
    if namespaces():
        pytest.skip("two hosts are up already")
    for arguments, said in (
        (("run", "true"), "there are no hosts"),
        (("cut",), "there are no hosts"),
        (("start",), "start: expected one of up, run COMMAND, cut, heal, down"),
        ((), "no command: expected one of"),
    ):
        ended = two_hosts(*arguments)
        assert ended.returncode == 2 and ended.stderr.count("\n") == 1 and said in ended.stderr
    assert two_hosts("down").returncode == 0  # of nothing: no mistake


@needs_namespaces
def test_a_start_that_fails_leaves_nothing():
    if namespaces():
        pytest.skip("two hosts are up already")
    ended = two_hosts("up", TWO_HOSTS_WAIT="0")
    assert ended.returncode == 2 and "Ray is not on both hosts after 0 s" in ended.stderr
    assert not namespaces() and not [*Path("/etc/netns").glob("distgram-*")]


@needs_namespaces
@pytest.mark.cluster
def test_each_host_has_an_address_of_its_own(hosts):
    name = "import socket; print(socket.gethostbyname(socket.gethostname()))"
    assert two_hosts("run", sys.executable, "-c", name).stdout == "10.77.0.1\n"
    nodes = "import ray; ray.init(); print(*(n['NodeManagerAddress'] for n in ray.nodes()))"
    told = two_hosts("run", sys.executable, "-c", nodes)
    assert set(told.stdout.split()) == {"10.77.0.1", "10.77.0.2"}, told.stderr


@needs_namespaces
@pytest.mark.cluster
def test_a_host_is_cut_off_and_the_run_recovers(hosts, tmp_path):
    config, whole, cut = tmp_path / "config.toml", tmp_path / "whole", tmp_path / "cut"
    config.write_text(CONFIG)
    first = solve(config, whole)
    assert first.wait(HANG_S) == 0, Path(f"{whole}.txt").read_text()

    said = Path(f"{cut}.txt")
    second = solve(config, cut)
    try:
        wait_until(lambda: steps(cut)[-1:] >= [40], second, said)
        assert two_hosts("cut").returncode == 0
        since = time.monotonic()
        wait_until(lambda: "workers failed" in said.read_text(), second, said)
        seen, lost_at = time.monotonic(), steps(cut)[-1]
        healed = two_hosts("heal")
        assert healed.returncode == 0, healed.stderr
        back = time.monotonic()
        wait_until(lambda: steps(cut)[-1:] > [lost_at], second, said)
        print(
            f"seen {seen - since:.0f} s after the cut, "
            f"the next step {time.monotonic() - back:.0f} s after it was healed"
        )
        assert second.wait(HANG_S) == 0, said.read_text()
    finally:
        second.kill()
    assert lost_at < 200 and "resumed at step" in said.read_text()
    # On the same mesh a resumed run equals the uninterrupted one to the last bit.
    assert metrics(cut) == metrics(whole) and steps(cut)[-1] == 200
    theta, whole_theta = (read_thetas(newest(run / "checkpoints"))[-1] for run in (cut, whole))
    assert np.array_equal(theta, whole_theta)
