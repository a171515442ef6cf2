"""A step by one, two and four workers, under three launchers: one process, jax.distributed, Ray.

    python tests/bench/workers.py [--json] [--sizes 14 15 16 17 18] [--workers 1 2 4]

The same loop (`distgram.run.solve`) on laplace5d, P = 449, S = 2^size. A worker is a process of
one device on one core, in turn: with more workers than cores they share them. Ray's are the workers
of as many hosts of one cluster on this machine, each held to its core; its head and the driver are
not. Seconds a step are those of the loop between two rows of metrics, one row's measuring and,
under Ray, its report included: the least of the intervals and their mean. `first row` is from the
command to the row of step 0: imports, Ray, compilation.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from scaling import laplace5d_tree  # noqa: E402

from cluster import free_port  # noqa: E402

CORES = sorted(os.sched_getaffinity(0))
ROWS = 2**18  # between two rows of metrics: 2^18 / S steps
INTERVALS = 2
START_S = 900.0


def config(size: int) -> dict:
    """The configuration as nested dictionaries, with one row of metrics an interval."""
    every = max(1, ROWS // size)
    steps = (1 + INTERVALS) * every
    never = 10**6
    return laplace5d_tree(size, [64]) | {
        "run": {"steps": steps, "log_every": every, "held_out": 64}
        | {"checkpoint_every": never, "spectra_every": never, "patience": never}
    }


def rows(run: Path) -> list[dict]:
    """The whole rows of metrics so far."""
    path = run / "metrics.jsonl"
    text = path.read_text() if path.is_file() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def timings(run: Path, began: float, alive: Callable[[], bool]) -> dict[str, float]:
    """Wait for the first row and for the last; seconds of the start and of a step."""
    first = None
    while not (there := rows(run)) or first is None or alive():
        if there and first is None:
            first = time.perf_counter() - began
        elif not there and not (alive() and time.perf_counter() - began < START_S):
            raise SystemExit(f"{run}: no row after {time.perf_counter() - began:.0f} s")
        time.sleep(0.05)
    every = there[-1]["step"] // (1 + INTERVALS)
    marks = [(r["step"], r["seconds"]) for r in there if r["step"] and r["step"] % every == 0]
    spent = [(b - a) / every for (_, a), (_, b) in zip(marks, marks[1:], strict=False)]
    assert len(spent) == INTERVALS, there
    return {
        "step_seconds": min(spent),
        "mean_step_seconds": sum(spent) / len(spent),
        "first_row_seconds": first,
    }


def processes(top: Path, size: int, count: int) -> dict[str, float]:
    """The loop in one process, or in several of plain jax.distributed."""
    from distgram.config.schema import check, dump
    from distgram.store import folder

    run = top / f"processes-{count}-{size}"
    with folder.new(run, dump(check(config(size)))):
        pass  # the first of the processes takes its lock again
    address = f"127.0.0.1:{free_port()}"
    env = os.environ | {"OPENBLAS_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu"}
    began = time.perf_counter()
    started = [
        subprocess.Popen(
            [sys.executable, __file__, "--child", str(run), address, str(rank), str(count)],
            env=env,
            stdout=subprocess.DEVNULL,
            preexec_fn=lambda r=rank: os.sched_setaffinity(0, {CORES[r % len(CORES)]}),
        )
        for rank in range(count)
    ]
    try:
        found = timings(run, began, lambda: any(p.poll() is None for p in started))
    finally:
        for process in started:
            process.kill()
            process.wait()
    return found


def child(run: str, address: str, rank: str, count: str) -> None:
    """One process of `processes`."""
    import jax

    if int(count) > 1:
        jax.distributed.initialize(
            *(address, int(count), int(rank)), cluster_detection_method="deactivate"
        )
    from distgram.config.build import setup
    from distgram.config.schema import load
    from distgram.linalg.mesh import make_mesh
    from distgram.linalg.precision import set_precision
    from distgram.run import solve

    set_precision()
    solve.run(setup(load(Path(run) / "config.toml")), make_mesh(), run_dir=Path(run))
    if int(count) > 1:
        jax.distributed.shutdown()


@contextmanager
def hosts(count: int) -> Iterator[str]:
    """The address of a Ray cluster of a head and `count` hosts, each held to one core."""
    from ray.cluster_utils import Cluster

    os.environ |= {"OPENBLAS_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled"}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        for rank in range(count):
            os.sched_setaffinity(0, {CORES[rank % len(CORES)]})  # the host inherits it
            cluster.add_node(num_cpus=1)
        os.sched_setaffinity(0, CORES)
        yield cluster.address
    finally:
        os.sched_setaffinity(0, CORES)
        cluster.shutdown()


def ray_workers(top: Path, size: int, count: int, address: str) -> dict[str, float]:
    """`distgram solve --ray` on the hosts of a cluster."""
    import tomli_w
    from ray_runs import RayRun

    run = top / f"ray-{count}-{size}"
    path = top / f"ray-{count}-{size}.toml"
    path.write_text(tomli_w.dumps(config(size)))
    layout = ("--workers", count, "--devices-per-worker", 1, "--address", address)
    began = time.perf_counter()
    with RayRun(run, "solve", path, "--out", run, *layout) as started:
        found = timings(run, began, lambda: started.process.poll() is None)
        assert started.process.returncode == 0, started.read("err")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="the last line is the table as JSON")
    parser.add_argument("--sizes", type=int, nargs="+", default=[14, 15, 16, 17, 18])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    given = parser.parse_args()
    table = []

    def note(launcher: str, size: int, count: int, found: dict[str, float]) -> None:
        table.append({"launcher": launcher, "S": size, "workers": count} | found)
        print(
            f"S = {size:6d}  {count} worker(s)  {launcher:16s} {found['step_seconds']:.3f} s a "
            f"step (mean {found['mean_step_seconds']:.3f}), first row after "
            f"{found['first_row_seconds']:.1f} s",
            flush=True,
        )

    with tempfile.TemporaryDirectory(prefix="workers-") as folder:
        top = Path(folder)
        for count in given.workers:
            plain = "one process" if count == 1 else "jax.distributed"
            with hosts(count) as address:
                for size in [2**k for k in given.sizes]:
                    note(plain, size, count, processes(top, size, count))
                    note("Ray", size, count, ray_workers(top, size, count, address))
    if given.json:
        print(json.dumps(table))


if __name__ == "__main__":
    if "--child" in sys.argv:
        child(*sys.argv[sys.argv.index("--child") + 1 :])
    else:
        main()
