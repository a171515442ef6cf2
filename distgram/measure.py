"""What a person wants to know of a solution while it is being found: residuals and errors."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from distgram.assemble import Assembled, held_out_points, open_terms
from distgram.collocation import draw
from distgram.problem import Problem, Reference
from distgram.residual import Points
from distgram.slabs import by_slab, until


class Measure:
    """Residuals by term on the training and on held-out points, and the error of the solution.

    Errors are the rms of u - u* over the problem's evaluation set, absolute and relative to the
    rms of u*; None where no solution is known, the relative one also where u* = 0.
    """

    def __init__(self, run: Assembled):
        self._run = run
        self._names = [t.name for t in run.terms]
        self._held_out = held_out_points(run)
        self._known = run.problem.known()
        self._x = _places(run.problem, self._known)

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
        args = (theta, points, self._held_out, jnp.asarray(self._x))
        self._measure = self._measure.lower(*args).compile()

    def __call__(self, theta: Float[Array, " p"], points: tuple[Points, ...]) -> dict[str, Any]:
        """One row: mean square residuals, total and by term, held-out beside training, errors."""
        train, held, u = self._measure(theta, points, self._held_out, jnp.asarray(self._x))
        train, held = np.asarray(train), np.asarray(held)
        return {
            "mean_square_residual": float(train.sum()),
            "terms": dict(zip(self._names, train.tolist(), strict=True)),
            "heldout_residual": float(held.sum()),
            "heldout_terms": dict(zip(self._names, held.tolist(), strict=True)),
        } | errors(u, None if self._known is None else self._known.u)

    def solution(self, theta: Float[Array, " p"], points: tuple[Points, ...]) -> dict[str, Any]:
        """The solution on the evaluation set, as `solution.npz` holds it; of the time slabs those
        up to the present one."""
        run, x, known = self._run, self._x, self._known
        *_, u = self._measure(theta, points, self._held_out, jnp.asarray(x))
        if run.frozen:
            thetas = (*run.frozen, theta)

            def at(k: int, x: np.ndarray) -> Array:
                field = run.parts[k].model.field(jnp.asarray(thetas[k]))
                return jax.jit(lambda x: run.residual.map(field, x))(x)

            begun = until(run.whole, run.problem)
            known = begun.known()
            x = _places(begun, known)
            u = by_slab(run.parts, x, at)
        names = run.problem.inputs or tuple(f"x{i + 1}" for i in range(run.problem.dim))
        out = {"x": x, "u": np.asarray(u), "names": np.asarray(names)}
        if known is not None:
            out["reference"] = known.u
            out |= {f"axis_{i}": axis for i, axis in enumerate(known.grid)}
        return out


def errors(u: Float[Array, "n m"], known: Float[np.ndarray, "n m"] | None) -> dict[str, Any]:
    """The rms of u - u*, absolute and relative to that of u*; None where u* is not known at any
    point, the relative one also where u* = 0."""
    l2 = relative = None
    if known is not None and len(known):
        with np.errstate(over="ignore", invalid="ignore"):  # a run that blew up: inf or nan
            l2 = float(np.sqrt(np.mean((np.asarray(u) - known) ** 2)))
        size = float(np.sqrt(np.mean(known**2)))
        relative = l2 / size if size > 0 else None
    return {"l2_error": l2, "relative_l2_error": relative}


def collocation_points(run: Assembled) -> dict[str, np.ndarray]:
    """The points (n, d) of every term as they were drawn, of all time slabs up to the present."""
    config, parts = run.config, [open_terms(run.config, part.problem) for part in run.parts]
    return {
        terms[0].name: np.concatenate(
            [draw(t, config.points[t.name], [config.run.seed, i])[0] for t in terms]
        )
        for i, terms in enumerate(zip(*parts, strict=True))
    }


def _places(problem: Problem, known: Reference | None) -> Float[np.ndarray, "n d"]:
    """The evaluation set: where the solution is known, else 10 000 Sobol points."""
    x = known.x if known is not None else problem.domain.sobol(10_000, seed=0)
    return np.asarray(x, np.float64)
