"""The table of faults: what a run on two Ray workers of four devices does after each of them.

    python tests/bench/faults.py [--json] [--only NAME ...] [--steps 150] [--kills 20]

Each fault strikes a run at step 20 or later. `seconds` are those from the fault to the first new
step of its successor, or to the end where the run is to end; `equal` says whether the run came to
the parameters and the rows of metrics of the run that nothing struck, to the last bit. With
--kills N one run loses a random worker N times at random moments instead.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from cli_runs import metrics  # noqa: E402
from ray.cluster_utils import Cluster  # noqa: E402
from ray_runs import RayRun, config, little_memory, same  # noqa: E402

from distgram.store.checkpoint import newest  # noqa: E402

LAYOUT = ("--workers", 2, "--devices-per-worker", 4, "--heartbeat", 10, "--watchdog", 20)
STRIKE = 20


def send(number: int, rank: int) -> Callable[[RayRun, Path], None]:
    """Send a signal to the process of a rank."""
    return lambda run, folder: os.kill(run.pid(rank), number)


def tear(run: RayRun, folder: Path) -> None:
    """Cut the largest file of the newest checkpoint in half, then kill a worker."""
    files = [p for p in newest(run.run / "checkpoints").rglob("*") if p.is_file()]
    largest = max(files, key=lambda p: p.stat().st_size)
    os.truncate(largest, largest.stat().st_size // 2)
    os.kill(run.pid(1), signal.SIGKILL)


def remove(run: RayRun, folder: Path) -> None:
    """The run folder is removed while the workers write into it."""
    while run.run.exists():
        shutil.rmtree(run.run, ignore_errors=True)


def touch(name: str) -> Callable[[RayRun, Path], None]:
    """Leave a file that the harmed problem obeys."""
    return lambda run, folder: (folder / name).touch()


def move_away(run: RayRun, folder: Path) -> None:
    """The storage is gone."""
    run.run.rename(run.run.with_name("gone"))


def fill(run: RayRun, folder: Path) -> None:
    """Leave no room on the run folder's disk."""
    with open(run.run / "filling", "wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


# name: how it strikes, whether the run's problem is the harmed one
RECOVERED: dict[str, tuple[Callable[[RayRun, Path], None], bool]] = {
    "worker killed": (send(signal.SIGKILL, 1), False),
    "coordinator killed": (send(signal.SIGKILL, 0), False),
    "worker frozen": (send(signal.SIGSTOP, 1), False),
    "worker alive but stuck": (touch("stuck"), True),
    "preempted (SIGTERM)": (send(signal.SIGTERM, 1), False),
    "newest checkpoint torn, worker killed": (tear, False),
}
ENDED: dict[str, tuple[Callable[[RayRun, Path], None], bool]] = {
    "NaN on one rank": (touch("nan"), True),
    "storage full": (fill, False),
    "storage gone": (move_away, False),
    "run folder removed": (remove, False),
    "worker over its memory": (touch("hog"), True),
}


def started(folder: Path, steps: int, harmed: bool, *more: object, limited: bool = False) -> RayRun:
    """A run in a folder, which is made; limited: on a cluster with little memory."""
    folder.mkdir(exist_ok=True)
    run, room = folder / "run", little_memory() if limited else None
    command = ("solve", config(folder, steps, harmed), "--out", run)
    return RayRun(run, *command, *(more or LAYOUT), more=room)


def recovered(folder: Path, steps: int, name: str, reference: Path) -> dict[str, Any]:
    """A fault that a run survives."""
    strike, harmed = RECOVERED[name]
    with started(folder, steps, harmed) as run:
        run.wait_for_step(STRIKE)
        first, since = run.pid(0), time.monotonic()
        strike(run, folder)
        seconds = run.wait_for_progress(first) - since
        code = run.end()
    return {
        "fault": name,
        "seconds": seconds,
        "code": code,
        "equal": code == 0 and same(run.run, reference),
    }


def ended(folder: Path, steps: int, name: str) -> dict[str, Any]:
    """A fault that ends a run, by name."""
    strike, harmed = ENDED[name]
    folder.mkdir()
    hog = "memory" in name
    layout = (*LAYOUT, "--max-failures", 1) if hog else LAYOUT
    disk = name == "storage full"  # that of the run alone: what the driver prints lies elsewhere
    if disk:
        (folder / "run").mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "none", str(folder / "run")]
        subprocess.run(mount, check=True)
    try:
        with started(folder, steps, harmed, *layout, limited=hog) as run:
            run.wait_for_step(STRIKE)
            since = time.monotonic()
            strike(run, folder)
            code = run.end()
            seconds = time.monotonic() - since
            said = run.read("err").strip().splitlines()[-1]
            if code in (0, 1):
                said = run.rows()[-1]["reason"]
    finally:
        if disk:
            subprocess.run(["umount", "-l", str(folder / "run")], check=True)
    return {"fault": name, "seconds": seconds, "code": code, "ended": said}


def over_memory(folder: Path, steps: int, reference: Path) -> dict[str, Any]:
    """A worker takes more memory than its host has, once: Ray ends it."""
    with started(folder, steps, True, limited=True) as run:
        run.wait_for_step(STRIKE)
        first, since = run.pid(0), time.monotonic()
        (folder / "hog").touch()
        run.wait_for("out of memory, ended by Ray")
        struck = time.monotonic() - since
        (folder / "hog").unlink()
        seconds = run.wait_for_progress(first) - since - struck
        code = run.end()
    name, equal = "worker over its memory, once", code == 0 and same(run.run, reference)
    return {"fault": name, "struck": struck, "seconds": seconds, "code": code, "equal": equal}


def compiling(folder: Path, steps: int, reference: Path) -> dict[str, Any]:
    """A worker is killed while it compiles, before the first step."""
    with started(folder, steps, False) as run:
        for rank in (0, 1):
            run.wait_for_worker(rank)
        assert run.step() < 1
        first, since = run.pid(0), time.monotonic()
        os.kill(run.pid(1), signal.SIGKILL)
        seconds = run.wait_for_progress(first) - since
        code = run.end()
    name, equal = "worker killed while it compiles", code == 0 and same(run.run, reference)
    return {"fault": name, "seconds": seconds, "code": code, "equal": equal}


def stopped_in_restart(folder: Path) -> dict[str, Any]:
    """A run is asked to stop while it starts a killed worker again."""
    with started(folder, 10**6, False) as run:
        run.wait_for_step(STRIKE)
        os.kill(run.pid(1), signal.SIGKILL)
        run.wait_for("workers failed")
        since, last = time.monotonic(), run.step()
        (run.run / "stop").touch()
        code = run.end()
        seconds, result = time.monotonic() - since, run.rows()[-1]
    saved = int(newest(run.run / "checkpoints").name)
    assert result["steps"] == saved, (result, saved)
    name = "asked to stop while a killed worker restarts"
    said = f"{result['reason']} at step {saved}, of {last} when it was asked"
    return {"fault": name, "seconds": seconds, "code": code, "ended": said}


def driver_killed(folder: Path, steps: int, reference: Path) -> dict[str, Any]:
    """The process that was started is killed, and the run resumed by hand."""
    with started(folder, steps, False) as run:
        run.wait_for_step(STRIKE)
        first, since = run.pid(0), time.monotonic()
        os.kill(run.process.pid, signal.SIGKILL)
    with RayRun(run.run, "resume", run.run, *LAYOUT) as again:
        seconds = again.wait_for_progress(first) - since
        code = again.end()
    name, equal = "driver killed, resumed by hand", code == 0 and same(run.run, reference)
    return {"fault": name, "seconds": seconds, "code": code, "equal": equal}


def host_lost(folder: Path, steps: int, reference: Path, spare: bool) -> dict[str, Any]:
    """A host goes, with its worker; another takes its place, or the run goes on with one worker."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    hosts = [cluster.add_node(num_cpus=1) for _ in range(2 + spare)]
    try:
        layout = ("--workers", 2 if spare else "1:2", *LAYOUT[2:], "--address", cluster.address)
        with started(folder, steps, False, *layout) as run:
            run.wait_for_step(STRIKE)
            first, since = run.pid(0), time.monotonic()
            pids = {first, run.pid(1)}
            lost = next(h for h in reversed(hosts) if pids & _descendants(h))
            cluster.remove_node(lost, allow_graceful=False)
            seconds = run.wait_for_progress(first) - since
            code = run.end()
        equal = code == 0 and same(run.run, reference)
        devices = run.rows()[-1]["devices"]
    finally:
        cluster.shutdown()
    name = f"host lost, {'a spare one' if spare else '--workers 1:2, no other'}"
    return {"fault": name, "seconds": seconds, "code": code, "equal": equal, "devices": devices}


def _descendants(host: Any) -> set[int]:
    import psutil

    raylets = [p.process.pid for p in host.all_processes["raylet"]]
    return {c.pid for pid in raylets for c in psutil.Process(pid).children(recursive=True)}


def killed_often(folder: Path, steps: int, kills: int, reference: Path) -> dict[str, Any]:
    """One run that loses a random worker at random moments."""
    chance = random.Random(0)
    layout = (*LAYOUT, "--max-failures", kills + 5)
    struck = 0
    with started(folder, steps, False, *layout) as run:
        run.wait_for_step(1)
        while struck < kills and run.process.poll() is None:
            time.sleep(chance.uniform(0.5, 12.0))
            try:
                os.kill(run.pid(chance.randrange(2)), signal.SIGKILL)
                struck += 1
            except ProcessLookupError:  # it is gone and its successor has not spoken yet
                continue
        code = run.end(3600)
    steps_logged = [row["step"] for row in metrics(run.run)]
    return {
        "fault": f"{struck} kills at random times",
        "code": code,
        "rows": len(steps_logged),
        "lost": len(set(range(steps_logged[-1] + 1)) - set(steps_logged)),
        "twice": len(steps_logged) - len(set(steps_logged)),
        "equal": code == 0 and same(run.run, reference),
    }


def uninterrupted(folder: Path, steps: int, harmed: bool) -> Path:
    """The run that nothing strikes."""
    with started(folder, steps, harmed) as run:
        assert run.end() == 0, run.read("err")
    return run.run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="the table as one line of JSON")
    parser.add_argument("--only", nargs="*", help="these faults only")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--kills", type=int, default=0)
    given = parser.parse_args()
    top = Path(tempfile.mkdtemp(prefix="faults-"))
    plain = uninterrupted(top / "plain", given.steps, False)
    if given.kills:
        print(json.dumps(killed_often(top / "often", given.steps, given.kills, plain)))
        return
    harmless = uninterrupted(top / "harmless", given.steps, True)
    table: dict[str, Callable[[Path], dict[str, Any]]] = {}
    for name, (_, harmed) in RECOVERED.items():
        table[name] = lambda f, n=name, h=harmed: recovered(
            f, given.steps, n, harmless if h else plain
        )
    for name in ENDED:
        table[name] = lambda f, n=name: ended(f, given.steps, n)
    table["worker over its memory, once"] = lambda f: over_memory(f, given.steps, harmless)
    table["worker killed while it compiles"] = lambda f: compiling(f, given.steps, plain)
    table["asked to stop while a killed worker restarts"] = stopped_in_restart
    table["driver killed"] = lambda f: driver_killed(f, given.steps, plain)
    table["host lost, spare"] = lambda f: host_lost(f, given.steps, plain, True)
    table["host lost, elastic"] = lambda f: host_lost(f, given.steps, plain, False)
    results = []
    for i, (name, measure) in enumerate(table.items()):
        if given.only and name not in given.only:
            continue
        results.append(measure(top / f"fault{i}"))
        print(results[-1], file=sys.stderr, flush=True)
    if given.json:
        print(json.dumps(results))
        return
    for r in results:
        print(" | ".join(f"{k} {v:.1f}" if isinstance(v, float) else f"{v}" for k, v in r.items()))


if __name__ == "__main__":
    main()
