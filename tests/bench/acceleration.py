"""What the correction of adaptive_ratio's trials buys: the same runs with and without it, compared
at equal seconds.

    python tests/bench/acceleration.py [--problems burgers ...] [--seeds 0 1 2] [--json]

Seconds are those of the processor in steps, one thread: compilation and the clock's other users
are left out. The best loss met, and the L2 error where it was met, at fractions of the time that
the plain run takes for its steps.
"""

from __future__ import annotations

import argparse
import json
import os
import time

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import numpy as np

from distgram.linalg.mesh import make_mesh
from distgram.linalg.precision import set_precision
from distgram.net.mlp import MLP
from distgram.pde.registry import get
from distgram.rules.adaptive_ratio import AdaptiveRatio
from distgram.run.setup import Setup
from distgram.run.solve import compiled_step
from distgram.run.stage import Stage, build_stage
from distgram.run.state import start

RUNS = {  # problem, its parameters, network, points, rule, steps of the plain run
    "burgers": (
        *("burgers", {"viscosity": 0.01}, MLP([20, 20, 20], features="periodic")),
        *(4096, {"excursion": 1.0}, 60),
    ),
    "laplace2d": ("laplace2d", {}, MLP([20, 20], features="normalize"), 2048, {}, 160),
    "heat": ("heat", {}, MLP([16, 16, 16], features="normalize"), 2048, {}, 160),
}
VARIANTS = {"plain": {}, "accelerated": {"acceleration": 0.75}}
FRACTIONS = (0.25, 0.5, 0.75, 1.0)


def build(name: str, variant: str, seed: int) -> Stage:
    """One run of the comparison on one device."""
    problem, parameters, network, count, rule, _ = RUNS[name]
    setup = Setup(
        get(problem, parameters),
        network,
        {"interior": count},
        AdaptiveRatio(**rule, **VARIANTS[variant]),
        hard_constraint=True,
        seed=seed,
    )
    return build_stage(setup, make_mesh(1))


def follow(name: str, variant: str, seed: int, seconds: float | None) -> list[dict]:
    """The best loss and its L2 error after each step, until the steps or the seconds are over."""
    run = build(name, variant, seed)
    known = run.problem.known()
    assert known is not None
    x, u = np.asarray(known.x), np.asarray(known.u)
    field = jax.jit(lambda theta, x: run.residual.map(run.model.field(theta), x))
    begin = start(run)
    theta, state, points = begin.theta, begin.method, begin.points
    step = partial(compiled_step(run, begin), run.residual)
    spent, best, rows = 0.0, np.inf, []
    while (len(rows) < RUNS[name][-1]) if seconds is None else spent < seconds:
        began = time.process_time()
        theta, state, info, _ = jax.block_until_ready(step(theta, state, points))
        spent += time.process_time() - began
        if float(info.loss) < best:
            best = float(info.loss)
            l2 = float(np.sqrt(np.mean((np.asarray(field(theta, x)) - u) ** 2)))
        rows.append({"step": len(rows) + 1, "seconds": spent, "loss": best, "l2": l2})
    return rows


def compare(name: str, seed: int) -> list[dict]:
    """For every variant its steps, loss and L2 at fractions of the plain run's seconds."""
    plain = follow(name, "plain", seed, None)
    whole, table = plain[-1]["seconds"], []
    for variant in VARIANTS:
        rows = plain if variant == "plain" else follow(name, variant, seed, whole)
        at = [[r for r in rows if r["seconds"] <= f * whole][-1] for f in FRACTIONS]
        table.append({"problem": name, "seed": seed, "variant": variant, "at": at})
    return table


def main() -> None:
    """Run the comparison and print its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", nargs="*", default=list(RUNS), choices=list(RUNS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    set_precision()
    for name in arguments.problems:
        for seed in arguments.seeds:
            for row in compare(name, seed):
                if arguments.json:
                    print(json.dumps(row), flush=True)
                    continue
                cells = [f"{r['seconds']:.1f} s {r['loss']:.0e} {r['l2']:.0e}" for r in row["at"]]
                print(f"| {name} | {seed} | {row['variant']} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
