"""One step of distgram against the obvious one, on the same problem, parameters and points.

The obvious step takes the Laplacian as the trace of `jax.hessian`, the SVD of the whole φ̂ by
`jnp.linalg.svd`, the truncated pseudoinverse from it, and the losses of all step sizes by one vmap
of the same residual. Both are compiled apart and take turns in one process; times are blocked, and
the median and the least of the repetitions are given: on a machine with other work the least says
more. Both must come to the same step.

    python tests/bench/step.py [--json] [--repeat N]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time

if __name__ == "__main__":  # LAPACK's threads spin: more of them than cores slow each other
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from distgram.linalg.mesh import make_mesh
from distgram.linalg.precision import set_precision
from distgram.linalg.tsqr import TSQR, spectrum_of_triangle
from distgram.net.mlp import MLP
from distgram.pde.registry import get
from distgram.rules.anagram import ANaGRAM
from distgram.rules.line_search import GridSearch
from distgram.run.setup import Setup
from distgram.run.solve import natural_gradient_step
from distgram.run.stage import Stage, build_stage

SIZES = ((4000, 500), (14222, 1778))
TRIALS = 31
CUTOFF = float((449 * 2.0**-52) ** 0.5)  # √(εP), relative to σ_max


def laplace5d(interior: int, boundary: int) -> Stage:
    """The source's setting: 2-layer network of width 64 (P = 449), cutoff √(εP) σ_max."""
    points, rule = {"interior": interior, "boundary": boundary}, ANaGRAM(relative_cutoff=CUTOFF)
    return build_stage(Setup(get("laplace5d"), MLP([64]), points, rule), make_mesh(1))


def obvious_step(run: Stage):
    """(θ, points) -> (θ, loss there): nested derivatives, dense SVD, one vmap over the trials."""
    interior, boundary = run.terms

    def weighted(theta, term, x, w):
        u = run.model.field(theta)
        if term is interior:
            left = jnp.trace(jax.hessian(lambda x: u(x)[0])(x))[None]
        else:
            left = u(x)
        return w * (left - term.target(x))[0]

    def rows(function, points):
        return jnp.concatenate(
            [jax.vmap(lambda x, w, t=t: function(t, x, w))(*p) for t, p in zip(run.terms, points)]  # noqa: B905
        )

    def step(theta, points):
        r = rows(lambda t, x, w: weighted(theta, t, x, w), points)
        jacobian = rows(lambda t, x, w: jax.grad(weighted)(theta, t, x, w), points)
        v, s, ut = jnp.linalg.svd(jacobian, full_matrices=False)
        keep = s >= CUTOFF * s[0]
        direction = jnp.where(keep, v.T @ r / s, 0.0) @ ut
        etas = 0.5 ** jnp.arange(TRIALS)

        def loss(theta):
            return jnp.sum(rows(lambda t, x, w: weighted(theta, t, x, w), points) ** 2)

        losses = jax.vmap(lambda eta: loss(theta - eta * direction))(etas)
        best = jnp.argmin(losses)
        return theta - etas[best] * direction, losses[best]

    return step


def pieces(run: Stage, theta, points) -> dict[str, tuple]:
    """The parts of our step, each compiled alone: name -> (function, arguments).

    The Jacobian goes block by block, as in the step, and is not kept. 'rows_and_triangle' has both
    the Jacobian and the QR: alone, a QR of stored rows would first copy them, which the step does
    not do.
    """
    residual, direction = run.residual, jnp.ones_like(theta)

    def reduce(theta, points):
        return TSQR().reduce(residual.rows(theta, points))

    r = jax.jit(reduce)(theta, points)
    jax.block_until_ready(r)  # or the first part that is timed would wait for it

    def jacobian(theta, points):
        split = jax.tree.map(lambda a: a.reshape(residual.blocks, -1, *a.shape[1:]), points)
        # The barrier: all rows of a block are computed, though one is looked at.
        return lax.map(
            lambda block: lax.optimization_barrier(residual.block(theta, block))[0], split
        )

    def trials(theta, points):
        losses_at = residual.rows(theta, points).losses
        return GridSearch()(losses_at, theta, direction, losses_at(theta[None])[0])

    return {
        "jacobian": (jacobian, (theta, points)),
        "rows_and_triangle": (reduce, (theta, points)),
        "svd": (spectrum_of_triangle, (r,)),
        "trial_losses": (trials, (theta, points)),
    }


def compiled(function, args):
    return jax.jit(function).lower(*args).compile()


def seconds(function, args) -> float:
    began = time.perf_counter()
    jax.block_until_ready(function(*args))
    return time.perf_counter() - began


def case(interior: int, boundary: int, repeat: int) -> dict:
    """Time both steps in turn, then the parts of ours; check that both steps are the same."""
    run = laplace5d(interior, boundary)
    points, theta = run.points(), run.model.theta0
    our_step = natural_gradient_step(run)
    args = (theta, points)
    ours = compiled(
        lambda theta, points: our_step(run.residual, theta, ((), ()), points)[::2], args
    )
    naive = compiled(obvious_step(run), args)
    parts = {name: (compiled(f, a), a) for name, (f, a) in pieces(run, theta, points).items()}

    (our_theta, info), (naive_theta, naive_loss) = ours(*args), naive(*args)
    step_difference = float(
        jnp.linalg.norm(our_theta - naive_theta) / jnp.linalg.norm(naive_theta - theta)
    )
    loss_difference = abs(float(info.loss) / float(naive_loss) - 1.0)
    # Rounding E of the rows moves a direction of relative cutoff κ by about ‖E‖/κ: here some eps/κ,
    # with some hundred roundings in E.
    bound = 1e3 * 2.0**-52 / CUTOFF
    if not (step_difference < bound and loss_difference < bound):
        raise SystemExit(
            f"the two steps differ: {step_difference:.1e} in the step, {loss_difference:.1e} in "
            f"the loss, expected < {bound:.1e}."
        )
    times: dict[str, list[float]] = {name: [] for name in ("ours", "naive", *parts)}
    for _ in range(repeat):
        times["ours"].append(seconds(ours, args))
        times["naive"].append(seconds(naive, args))
        for name, (function, inputs) in parts.items():
            times[name].append(seconds(function, inputs))
    both = times.pop("rows_and_triangle")
    times["factorization"] = [b - j for b, j in zip(both, times["jacobian"], strict=True)]
    names = ("jacobian", "factorization", "svd", "trial_losses")
    median = {name: statistics.median(t) for name, t in times.items()}
    least = {name: min(t) for name, t in times.items()}
    return {
        "problem": "laplace5d",
        "P": run.model.p,
        "S": run.size,
        "step_seconds": median["ours"],
        "naive_step_seconds": median["naive"],
        "speedup": median["naive"] / median["ours"],
        "parts": {name: median[name] for name in names},
        "least": {"step_seconds": least["ours"], "naive_step_seconds": least["naive"]}
        | {"speedup": least["naive"] / least["ours"], "parts": {n: least[n] for n in names}},
        "step_difference": step_difference,
        "loss_difference": loss_difference,
    }


def table(cases: list[dict]) -> str:
    lines = [
        "P     S       obvious/s   ours/s   faster   of ours: Jacobian  QR      SVD     trials"
    ]
    for c in cases:
        for what, t in (("median", c), ("least", c["least"])):
            p = t["parts"]
            lines.append(
                f"{c['P']:<5d} {c['S']:<7d} {t['naive_step_seconds']:<11.3f} "
                f"{t['step_seconds']:<8.3f} {t['speedup']:<8.1f} {what:<8s} {p['jacobian']:<9.3f} "
                f"{p['factorization']:<7.3f} {p['svd']:<7.3f} {p['trial_losses']:<7.3f}"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="last line: one JSON object")
    parser.add_argument("--repeat", type=int, default=5, help="repetitions (default 5)")
    options = parser.parse_args()
    line = set_precision()
    print(f"{line}, numpy {np.__version__}, jax {jax.__version__}, {os.cpu_count()} cores")
    cases = [case(interior, boundary, options.repeat) for interior, boundary in SIZES]
    print(table(cases))
    if options.json:
        print(json.dumps({"cases": cases}))


if __name__ == "__main__":
    main()
