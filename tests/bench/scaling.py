"""How a step scales: memory and time against S, two processes against one, randomized against full.

Every figure comes from a process of its own, pinned to one core (two processes: one core each),
one BLAS thread, compilation apart, blocked; the least of the repetitions counts, since other work
on the machine only adds. Peaks are the resident set's (VmHWM), interpreter and compiler included.

    python tests/bench/scaling.py [--json] [--repeat N]     all but the million; one line at the end
    python tests/bench/scaling.py million [--points N]      one step at S = 10⁶, P = 1051, by part
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import socket
import subprocess
import sys
import time

SIZES = (2**12, 2**14, 2**16, 2**18)
TWO_PROCESSES = 2**16
EARLY_STEPS = 8


def laplace5d_tree(size: int, hidden: list[int]) -> dict:
    """The source's setting: cutoff √(εP) σ_max, one interior and one boundary term, 8 : 1."""
    return {
        "problem": {"name": "laplace5d"},
        "model": {"hidden": hidden},
        "points": {"interior": {"count": size - size // 9}, "boundary": {"count": size // 9}},
        "rule": {"name": "anagram", "relative_cutoff": 3e-7},
    }


def laplace5d(size: int, hidden: list[int]):
    """`laplace5d_tree` on all devices."""
    from distgram.config.build import setup
    from distgram.config.schema import check
    from distgram.linalg.mesh import make_mesh
    from distgram.run.stage import build_stage

    return build_stage(setup(check(laplace5d_tree(size, hidden))), make_mesh())


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def timed(function, *args) -> float:
    import jax

    began = time.perf_counter()
    jax.block_until_ready(function(*args))
    return time.perf_counter() - began


def one_step(size: int, hidden: list[int], repeat: int) -> dict:
    """The least time of one whole step, and the peak of the process that took it."""
    from distgram.run.solve import compiled_step
    from distgram.run.state import start

    run = laplace5d(size, hidden)
    state = start(run)
    args, step = (state.theta, state.method, state.points), compiled_step(run, state)
    step(*args)  # the first touches memory for the first time
    seconds = min(timed(step, *args) for _ in range(repeat))
    return {"S": run.size, "P": run.model.p, "step_seconds": seconds, "peak_mib": peak_mib()}


def early_steps(factorization: str, steps: int) -> dict:
    """Seconds, ranks and widths of the first steps of laplace2d, P = 2157, adaptive ratio."""
    import jax
    import numpy as np

    from distgram.config.schema import FACTORIZATIONS
    from distgram.linalg.mesh import make_mesh
    from distgram.net.mlp import MLP
    from distgram.pde.registry import get
    from distgram.run.setup import Setup
    from distgram.run.solve import compiled_step
    from distgram.run.stage import build_stage
    from distgram.run.state import start

    setup = Setup(
        get("laplace2d"),
        MLP([44, 44], features="normalize"),
        {"interior": 8192},
        factorization=FACTORIZATIONS[factorization](),
        hard_constraint=True,
    )
    run = build_stage(setup, make_mesh())
    state = start(run)
    theta, method, step = state.theta, state.method, compiled_step(run, state)
    jax.block_until_ready(step(theta, method, state.points))
    rows = []
    for _ in range(steps):
        seconds = timed(step, theta, method, state.points)
        theta, method, info, seen = step(theta, method, state.points)
        row = {"seconds": seconds, "loss": float(info.loss), "rank": int(info.rank)}
        row["triplets"] = int(np.sum(np.asarray(seen.singular_values) > 0))
        rows.append(row | {"left_out": float(seen.left_out)})
    return {"P": run.model.p, "S": run.size, "steps": rows}


def million(size: int) -> dict:
    """One whole step at a million points, and its parts alone."""
    import step as parts_of

    from distgram.run.solve import compiled_step
    from distgram.run.state import start

    run = laplace5d(size, [150])
    state = start(run)
    began = time.perf_counter()
    step = compiled_step(run, state)
    compile_seconds = time.perf_counter() - began
    seconds = timed(step, state.theta, state.method, state.points)
    peak = peak_mib()
    parts = {
        name: timed(parts_of.compiled(function, inputs), *inputs)
        for name, (function, inputs) in parts_of.pieces(run, state.theta, state.points).items()
    }
    return {
        "S": run.size,
        "P": run.model.p,
        "blocks": run.residual.blocks,
        "step_seconds": seconds,
        "compile_seconds": compile_seconds,
        "peak_mib": peak,
        "parts": parts,
        "qr_gflop": 2e-9 * run.size * (run.model.p + 1) ** 2,
    }


def child(what: str, *arguments: object, core: int | None = 0, **environment: str):
    """A process of this file that measures one thing: (the process, to be read by `result`)."""
    argv = [sys.executable, __file__, "--child", what, *map(str, arguments)]
    env = os.environ | {"OPENBLAS_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu"} | environment
    pin = (lambda: os.sched_setaffinity(0, {core})) if core is not None else None
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=env, preexec_fn=pin)


def result(process) -> dict:
    out, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"{process.args}: exit code {process.returncode}")
    return json.loads(out.splitlines()[-1])


def measured(what: str, *arguments: str) -> dict:
    """What a child process measures."""
    from distgram.linalg.precision import set_precision

    if what == "rank":
        import jax

        address, rank, *arguments = arguments
        jax.distributed.initialize(
            address, 2, int(rank), cluster_detection_method="deactivate", initialization_timeout=60
        )
        what = "step"
    set_precision()
    if what == "step":
        return one_step(int(arguments[0]), [64], int(arguments[1]))
    if what == "early":
        return early_steps(arguments[0], int(arguments[1]))
    return million(int(arguments[0]))


def two_processes(size: int, repeat: int) -> dict:
    """One step by two processes of one core each: the slower one counts."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    ranks = [child("rank", address, i, size, repeat, core=i) for i in range(2)]
    return max((result(r) for r in ranks), key=lambda r: r["step_seconds"])


def slope(points: list[dict]) -> float:
    """Least-squares slope of log seconds against log S."""
    import numpy as np

    logs = np.log([[p["S"], p["step_seconds"]] for p in points])
    return float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", choices=["all", "million"], default="all")
    parser.add_argument("--json", action="store_true", help="last line: one JSON object")
    parser.add_argument("--repeat", type=int, default=3, help="repetitions (default 3)")
    parser.add_argument("--points", type=int, default=10**6, help="S of `million`")
    options = parser.parse_args()
    if options.what == "million":
        found = result(child("million", options.points, core=None, OPENBLAS_NUM_THREADS="2"))
        print(f"S = {found['S']}, P = {found['P']}, {found['blocks']} row blocks, one device")
        for name, seconds in {"step": found["step_seconds"], **found["parts"]}.items():
            print(f"  {name:<18s} {seconds:8.2f} s")
        print(f"  peak {found['peak_mib']:.0f} MiB, compilation {found['compile_seconds']:.1f} s")
        print(json.dumps(found))
        return
    points = []
    for size in SIZES:
        points.append(result(child("step", size, options.repeat)))
        print("S = {S}: {step_seconds:.3f} s a step, peak {peak_mib:.0f} MiB".format(**points[-1]))
    one = next(p for p in points if p["S"] == TWO_PROCESSES)
    two = two_processes(TWO_PROCESSES, options.repeat)
    print(f"two processes, S = {TWO_PROCESSES}: {two['step_seconds']:.3f} s")
    full, some = (result(child("early", f, EARLY_STEPS)) for f in ("tsqr", "randomized"))
    pairs = list(zip(full["steps"], some["steps"], strict=True))
    print("step  rank  triplets  full s  randomized s")
    for i, (a, b) in enumerate(pairs, 1):
        print(
            f"{i:<5d} {b['rank']:<5d} {b['triplets']:<9d} {a['seconds']:<7.2f} {b['seconds']:.2f}"
        )
    early = [(a, b) for a, b in pairs if b["triplets"] < full["P"] and b["rank"] <= full["P"] / 10]
    found = {
        "points": [{k: p[k] for k in ("S", "step_seconds", "peak_mib")} for p in points],
        "memory_ratio": points[-1]["peak_mib"] / points[0]["peak_mib"],
        "time_slope": slope(points),
        "two_process_speedup": one["step_seconds"] / two["step_seconds"],
        "randomized_speedup": sum(a["seconds"] for a, _ in early)
        / sum(b["seconds"] for _, b in early),
        "randomized": {
            "P": full["P"],
            "S": full["S"],
            "full": full["steps"],
            "some": some["steps"],
        },
    }
    for name in ("memory_ratio", "time_slope", "two_process_speedup", "randomized_speedup"):
        print(f"{name:<20s} {found[name]:.2f}")
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    if "--child" in sys.argv:
        print(json.dumps(measured(*sys.argv[sys.argv.index("--child") + 1 :])))
    else:
        main()
