"""What a person wants to know of a solution while it is being found: residuals and errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from distgram.assemble import Assembled, held_out_points
from distgram.residual import Points
from distgram.slices import slices


class Measure:
    """Residuals by term on the training and on held-out points, and the error of the solution.

    Held-out points are drawn afresh for every row, from its key: what has been seen once of a wrong
    solution between the points is seen again elsewhere.

    Errors are the rms of u - u* over the problem's evaluation set, absolute and relative to the
    rms of u*; None where no solution is known, the relative one also where u* = 0.
    """

    def __init__(self, run: Assembled):
        self._run = run
        self._names = [t.name for t in run.terms]
        self._known = run.problem.known()
        known = self._known
        x = known.x if known is not None else run.problem.domain.sobol(10_000, seed=0)
        self._x = np.asarray(x, np.float64)

        def measure(theta, points, held_out, x):
            residual = run.residual
            return (
                residual.term_losses(theta, points),
                residual.term_losses(theta, held_out),
                residual.map(run.model.field(theta), x),
            )

        self._measure: Any = jax.jit(measure)

    def compile(self, theta: Float[Array, " p"], points: tuple[Points, ...]) -> None:
        """Compile before the clock starts."""
        held_out = held_out_points(self._run, [self._run.config.run.seed])
        args = (theta, points, held_out, jnp.asarray(self._x))
        self._measure = self._measure.lower(*args).compile()

    def __call__(
        self, theta: Float[Array, " p"], points: tuple[Points, ...], key: Sequence[int]
    ) -> dict[str, Any]:
        """One row: mean square residuals, total and by term, held-out beside training, errors."""
        held_out = held_out_points(self._run, key)
        train, held, u = self._measure(theta, points, held_out, jnp.asarray(self._x))
        self._theta, self._u = theta, np.asarray(u)
        train, held = np.asarray(train), np.asarray(held)
        l2 = relative = None
        if self._known is not None:
            error = self._u - self._known.u
            with np.errstate(over="ignore", invalid="ignore"):  # a run that blew up: inf or nan
                l2 = float(np.sqrt(np.mean(error**2)))
            size = float(np.sqrt(np.mean(self._known.u**2)))
            relative = l2 / size if size > 0 else None
        return {
            "mean_square_residual": float(train.sum()),
            "terms": dict(zip(self._names, train.tolist(), strict=True)),
            "heldout_residual": float(held.sum()),
            "heldout_terms": dict(zip(self._names, held.tolist(), strict=True)),
            "l2_error": l2,
            "relative_l2_error": relative,
        }

    def solution(self) -> dict[str, np.ndarray]:
        """The solution of the last row on the evaluation set and on planes, as `solution.npz`
        holds it."""
        problem = self._run.problem
        names = problem.inputs or tuple(f"x{i + 1}" for i in range(problem.dim))
        out = {"x": self._x, "u": self._u, "names": np.asarray(names)}
        if self._known is not None:
            out["reference"] = self._known.u
            out |= {f"axis_{i}": axis for i, axis in enumerate(self._known.grid)}
        if not any(key.startswith("axis_") for key in out):
            field, residual = self._run.model.field, self._run.residual
            values = jax.jit(lambda theta, x: residual.map(field(theta), x))
            out |= slices(problem, lambda x: values(self._theta, jnp.asarray(x)))
        return out
