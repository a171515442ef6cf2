"""Sampler x problem, same number of points, same steps: L2 error, held-out ratio, overhead a step.

    python tests/bench/samplers.py [--problems a ..] [--samplers b ..] [--seeds n] [--jobs n]
                                   [--steps n] [--out runs/samplers] [--json]

A cell is one run in a process of its own with one thread; its figures go to
<out>/PROBLEM/SAMPLER/SEED.json, and one that is there is not run again: interrupted, the bench goes
on where it stopped, and several can share one <out>. The overhead is the time spent in moving
points over the rest of the solving time. The held-out ratio is that of the mean square residuals
at the last step, on fresh held-out and on training points; with points that follow |r| and uniform
weights it may be below 1.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SEEDS = (6865, 8369, 4785, 6705, 5729, 4353, 3409, 3601, 5681, 1857)  # those of the source
HARD: dict[str, Any] = {"hidden": [16, 16, 16], "hard_constraint": True}
PLATEAU: dict[str, Any] = {"name": "adaptive_ratio", "excursion": 1.0, "acceleration": 0.75}
PROBLEMS: dict[str, dict[str, Any]] = {
    "burgers": {
        "problem": {"name": "burgers"},
        "model": HARD | {"features": "periodic"},
        "points": {"interior": {"count": 2048}},
        "rule": PLATEAU,
        "run": {"steps": 120},
    },
    "allen_cahn": {
        "problem": {"name": "allen_cahn"},
        "model": HARD | {"features": "normalize"},
        "points": {"interior": {"count": 2048}},
        "rule": PLATEAU,
        "run": {"steps": 120},
    },
    "heat6": {
        "problem": {"name": "heat", "parameters": {"frequency": 6}},
        "model": HARD | {"features": "normalize"},
        "points": {"interior": {"count": 2048}},
        "rule": PLATEAU,
        "run": {"steps": 120},
    },
}
SAMPLERS: dict[str, dict[str, Any]] = {
    "static": {"name": "static"},
    "fresh": {"name": "fresh"},
    "rad": {"name": "rad"},
    "rad-uniform": {"name": "rad", "weights": "uniform"},
    "rar": {"name": "rar"},
    "r3": {"name": "r3"},
    "leverage": {"name": "leverage"},
    "greedy-f": {"name": "greedy", "by": "f"},
    "greedy-P": {"name": "greedy", "by": "P"},
    "greedy-fP": {"name": "greedy", "by": "fP"},
}
KEPT = ("l2_error", "mean_square_residual", "heldout_residual", "seconds", "steps", "reason")


def cell(problem: str, sampler: str, seed: int, steps: int | None, path: Path) -> None:
    """Solve one cell in this process; write its figures."""
    from distgram.config.build import build
    from distgram.config.schema import check
    from distgram.linalg.mesh import make_mesh
    from distgram.run.front import solve

    tree = PROBLEMS[problem] | {"sampling": SAMPLERS[sampler]}
    run = tree["run"] | {"seed": seed} | ({} if steps is None else {"steps": steps})
    objects = build(check(tree | {"run": run}))
    folder = path.with_suffix("")
    result = solve(**objects, run_dir=folder, force=True, mesh=make_mesh(1), progress=False).result
    assert result is not None
    values = result.values()
    figures = {key: values[key] for key in KEPT} | {"overfitted": values["overfitted"]}
    spent = values["seconds_by_part"].get("placing points", 0.0)
    figures |= {"S": values["S"], "P": values["P"]}
    figures |= {"ratio": values["heldout_residual"] / values["mean_square_residual"]}
    figures |= {"overhead_percent": 100 * spent / (values["seconds"] - spent)}
    partial = path.with_suffix(".tmp")
    partial.write_text(json.dumps(figures, indent=1) + "\n")
    partial.replace(path)


def run_cell(problem: str, sampler: str, seed: int, arguments: argparse.Namespace) -> Path:
    """One cell in a process of its own, unless its figures are there."""
    path = arguments.out / problem / sampler / f"{seed}.json"
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, __file__, "--cell", problem, sampler, str(seed), str(path)]
    command += [] if arguments.steps is None else ["--steps", str(arguments.steps)]
    one = {
        "OPENBLAS_NUM_THREADS": "1",
        "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    }
    with open(path.with_suffix(".log"), "w", encoding="utf-8") as log:
        code = subprocess.run(
            command, env=os.environ | one, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT
        ).returncode
    print(f"{problem} {sampler} {seed}: exit {code}", file=sys.stderr, flush=True)
    return path


def row(problem: str, sampler: str, cells: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures of one problem and sampler over its seeds."""
    errors = [c["l2_error"] for c in cells]
    return {
        "problem": problem,
        "sampler": sampler,
        "seeds": len(cells),
        "S": cells[0]["S"],
        "steps": max(c["steps"] for c in cells),
        "l2_mean": statistics.fmean(errors),
        "l2_geometric_mean": math.exp(statistics.fmean(map(math.log, errors))),
        "l2_worst": max(errors),
        "ratio": statistics.median(c["ratio"] for c in cells),
        "overhead_percent": statistics.median(c["overhead_percent"] for c in cells),
        "seconds": statistics.fmean(c["seconds"] for c in cells),
        "overfitted": sum(bool(c["overfitted"]) for c in cells),
    }


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    parser.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=list(SAMPLERS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--steps", type=int, help="in place of each problem's own")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "samplers")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--cell", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.cell:
        problem, sampler, seed, path = arguments.cell
        return cell(problem, sampler, int(seed), arguments.steps, Path(path))
    arguments.out = arguments.out.absolute()
    jobs = [
        (problem, sampler, seed)
        for seed in SEEDS[: arguments.seeds]  # all of one seed first: a table early
        for problem in arguments.problems
        for sampler in arguments.samplers
    ]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        paths = list(pool.map(lambda job: run_cell(*job, arguments), jobs))
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for (problem, sampler, _), path in zip(jobs, paths, strict=True):
        if path.is_file():
            found.setdefault((problem, sampler), []).append(json.loads(path.read_text()))
    rows = [row(*names, cells) for names, cells in found.items()]
    if arguments.json:
        print(json.dumps(rows, indent=1))
        return
    print("| problem | sampler | seeds | L2 geometric mean | worst | held-out ratio | overhead |")
    print("|---|---|---|---|---|---|---|")
    for r in rows:
        print(
            f"| {r['problem']} | {r['sampler']} | {r['seeds']} | {r['l2_geometric_mean']:.2e} | "
            f"{r['l2_worst']:.2e} | {r['ratio']:.3g} | {r['overhead_percent']:.1f} % |"
        )


if __name__ == "__main__":
    main()
