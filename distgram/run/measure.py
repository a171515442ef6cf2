"""What a person wants to know of a solution while it is being found: residuals and errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from distgram.linalg.rows import Points
from distgram.net.unknown import coefficients
from distgram.pde.problem import Problem, Reference
from distgram.run.estimate import POINTS
from distgram.run.slabs import by_slab, until
from distgram.run.slices import slices
from distgram.run.stage import Stage


class Measure:
    """Residuals by term on the training and on held-out points, and the error of the solution.

    Held-out points are drawn afresh for every row, from its key: what has been seen once of a wrong
    solution between the points is seen again elsewhere.

    compared: u of the last row at the points at which the estimate of the error compares solutions.

    Errors are the rms of u - u* over the problem's evaluation set, absolute and relative to the
    rms of u*; None where no solution is known, the relative one also where u* = 0.
    """

    def __init__(self, stage: Stage):
        self._stage = stage
        self._names = [t.name for t in stage.terms]
        self._known = stage.problem.known()
        self._x = _places(stage.problem, self._known)
        self._compared = stage.problem.domain.sobol(POINTS, seed=1)

        def measure(theta, points, held_out, x, compared):
            residual = stage.residual
            return (
                residual.rows(theta, points).term_losses(),
                residual.rows(theta, held_out).term_losses(),
                residual.map(stage.model.field(theta), x),
                residual.map(stage.model.field(theta), compared),
            )

        self._measure: Any = jax.jit(measure)

    def compile(self, theta: Float[Array, " p"], points: tuple[Points, ...]) -> None:
        """Compile before the clock starts."""
        held_out = self._stage.held_out([self._stage.setup.seed])
        args = (theta, points, held_out, jnp.asarray(self._x), jnp.asarray(self._compared))
        self._measure = self._measure.lower(*args).compile()

    def __call__(
        self, theta: Float[Array, " p"], points: tuple[Points, ...], key: Sequence[int]
    ) -> dict[str, Any]:
        """One row: mean square residuals, total and by term, held-out beside training, errors, and
        the coefficients where some are unknown."""
        held_out = self._stage.held_out(key)
        args = (theta, points, held_out, jnp.asarray(self._x), jnp.asarray(self._compared))
        train, held, u, self.compared = self._measure(*args)
        self._u, self.compared = np.asarray(u), np.asarray(self.compared)
        train, held = np.asarray(train), np.asarray(held)
        return {
            "mean_square_residual": float(train.sum()),
            "terms": dict(zip(self._names, train.tolist(), strict=True)),
            "heldout_residual": float(held.sum()),
            "heldout_terms": dict(zip(self._names, held.tolist(), strict=True)),
            **errors(self._u, None if self._known is None else self._known.u),
            **({"unknown": found} if (found := coefficients(self._stage.model, theta)) else {}),
        }

    def solution(self, theta: Float[Array, " p"]) -> dict[str, np.ndarray]:
        """The solution of the last row on the evaluation set and on planes, as `solution.npz` holds
        it; of time slabs all up to the present one, whose parameters are θ."""
        stage, x, u, known = self._stage, self._x, self._u, self._known
        problem, thetas = stage.problem, (*stage.frozen, theta)
        values = jax.jit(
            lambda theta, x, k: stage.residual.map(stage.parts[k].model.field(theta), x),
            static_argnums=2,
        )

        def at(k: int, x: np.ndarray) -> Array:
            return values(jnp.asarray(thetas[k]), jnp.asarray(x), k)

        if stage.frozen:
            problem = until(stage.whole, stage.problem)
            known = problem.known()
            x = _places(problem, known)
            u = by_slab(stage.parts, x, at)
        names = problem.inputs or tuple(f"x{i + 1}" for i in range(problem.dim))
        out = {"x": x, "u": u, "names": np.asarray(names)}
        if known is not None:
            out["reference"] = known.u
            out |= {f"axis_{i}": axis for i, axis in enumerate(known.grid)}
        if not any(key.startswith("axis_") for key in out):
            out |= slices(problem, lambda x: by_slab(stage.parts, x, at))
        return out


def errors(u: Float[np.ndarray, "n m"], known: Float[np.ndarray, "n m"] | None) -> dict[str, Any]:
    """The rms of u - u*, absolute and relative to that of u*; None where u* is not known at any
    point, the relative one also where u* = 0."""
    l2 = relative = None
    if known is not None and len(known):
        with np.errstate(over="ignore", invalid="ignore"):  # a run that blew up: inf or nan
            l2 = float(np.sqrt(np.mean((u - known) ** 2)))
        size = float(np.sqrt(np.mean(known**2)))
        relative = l2 / size if size > 0 else None
    return {"l2_error": l2, "relative_l2_error": relative}


def _places(problem: Problem, known: Reference | None) -> Float[np.ndarray, "n d"]:
    """The evaluation set: where the solution is known, else 10 000 Sobol points."""
    x = known.x if known is not None else problem.domain.sobol(10_000, seed=0)
    return np.asarray(x, np.float64)
