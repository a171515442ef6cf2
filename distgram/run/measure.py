"""Measuring a solution while a run goes on: its residuals by term, and its errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from distgram.linalg.rows import Points
from distgram.net.unknown import coefficients
from distgram.pde.problem import Problem, Reference
from distgram.run.checks import free_constants
from distgram.run.estimate import POINTS
from distgram.run.slabs import by_slab, until
from distgram.run.slices import slices
from distgram.run.stage import Stage


class Measure:
    """Residuals by term on the training and on held-out points, and the error of the solution.

    Held-out points are drawn again for every row, from its key, so that a solution that is wrong
    between the points is caught at one row or another.

    Args: places: to how many evaluation points arrays are padded; None: to those of all of time.

    loss: the mean square residual of the last row in the weights of the steps, which may be others
    than those of the problem (`Setup.balance`).
    compared: u of the last row at the points at which the estimate of the error compares solutions.

    Errors are the rms of u - u* over the problem's evaluation set, absolute and relative to the
    rms of u*; None where no solution is known, the relative one also where u* = 0.
    """

    def __init__(self, stage: Stage, places: int | None = None):
        self._stage = stage
        self._names = [t.name for t in stage.terms]
        self._known = stage.problem.known()
        self._x = _places(stage.problem, self._known)
        # Time slabs differ in their number of evaluation points: all are padded to one.
        if places is None:
            whole = stage.setup.slabs is None
            places = len(self._x if whole else _places(stage.whole, stage.whole.known()))
        spare = np.tile(stage.problem.domain.lower, (max(places - len(self._x), 0), 1))
        self._padded = jnp.asarray(np.concatenate([self._x, spare]))
        self._compared = jnp.asarray(stage.problem.places(POINTS, seed=1))
        self.free = list(free_constants(stage.problem, stage.model))

        def measure(residual, theta, points, held_out, x, compared):
            return (
                residual.rows(theta, points).term_losses(),
                residual.rows(theta, held_out).term_losses(),
                residual.map(residual.model.field(theta), x),
                residual.map(residual.model.field(theta), compared),
            )

        axis = stage.problem.time
        ends = stage.interval if stage.setup.slabs else (0.0, 0.0)

        def speeds(residual, theta, x, ends):
            along = jnp.zeros(x.shape[1]).at[axis].set(1.0)
            u = residual.model.field(theta)
            u_t = jax.vmap(lambda x: jax.jvp(u, (x,), (along,))[1])
            return [jnp.sqrt(jnp.mean(u_t(x.at[:, axis].set(end)) ** 2)) for end in ends]

        self._measure: Any = jax.jit(measure)
        self._speeds, self._ends = jax.jit(speeds), jnp.asarray(ends)

    def compile(self, theta: Float[Array, " p"], points: tuple[Points, ...]) -> None:
        """Compile before the clock starts."""
        held_out = self._stage.held_out([self._stage.setup.seed])
        args = (theta, points, held_out, self._padded, self._compared)
        self._measure = self._measure.lower(self._stage.residual, *args).compile()

    def serving(self, stage: Stage) -> Measure:
        """This Measure for another stage of the same shapes; the compiled functions serve both."""
        measure = Measure(stage, len(self._padded))
        measure._measure, measure._speeds = self._measure, self._speeds
        return measure

    def growth(self, theta: Float[Array, " p"]) -> float:
        """‖u_t(end)‖ / ‖u_t(begin)‖ of a time slab."""
        given = self._stage.residual, theta, self._compared, self._ends
        begin, end = (float(speed) for speed in self._speeds(*given))
        return end / begin if begin > 0 else 1.0

    def __call__(
        self, theta: Float[Array, " p"], points: tuple[Points, ...], key: Sequence[int]
    ) -> dict[str, Any]:
        """One row: mean square residuals, total and by term, held-out beside training, errors, and
        the coefficients where some are unknown."""
        held_out = self._stage.held_out(key)
        args = (theta, points, held_out, self._padded, self._compared)
        train, held, u, self.compared = self._measure(self._stage.residual, *args)
        self._u, self.compared = np.asarray(u)[: len(self._x)], np.array(self.compared)
        self.compared[:, self.free] -= self.compared[:, self.free].mean(axis=0)
        self.loss = float(np.sum(train))
        factors = np.array([self._stage.balance.get(name, 1.0) for name in self._names])
        train, held = np.asarray(train) / factors, np.asarray(held) / factors
        return {
            "mean_square_residual": float(train.sum()),
            "terms": dict(zip(self._names, train.tolist(), strict=True)),
            "heldout_residual": float(held.sum()),
            "heldout_terms": dict(zip(self._names, held.tolist(), strict=True)),
            **errors(self._u, None if self._known is None else self._known.u, self.free),
            **({"unknown": found} if (found := coefficients(self._stage.model, theta)) else {}),
        }

    def solution(self, theta: Float[Array, " p"]) -> dict[str, np.ndarray]:
        """The solution of the last row on the evaluation set and on planes, as `solution.npz` holds
        it; of time slabs all up to the present one, whose parameters are θ."""
        stage, x, u, known = self._stage, self._x, self._u, self._known
        problem, thetas = stage.problem, (*stage.frozen, theta)

        @partial(jax.jit, static_argnums=0)
        def values(k, theta, scale, offset, x):
            model = replace(stage.parts[k].model, scale=scale, offset=offset)
            return stage.residual.map(model.field(theta), x)

        def at(k: int, x: np.ndarray) -> Array:
            model = stage.parts[k].model
            same = 0 if model.constraint is None else k  # soft slabs differ in their time only
            return values(same, jnp.asarray(thetas[k]), model.scale, model.offset, jnp.asarray(x))

        if stage.frozen:
            problem = until(stage.whole, stage.problem)
            known = problem.known()
            x = _places(problem, known)
            u = by_slab(stage.parts, x, at)
        if known is not None and known.grid and not (inside := problem.inside(x)).all():
            u = np.where(inside[:, None], u, np.nan)
        names = problem.inputs or tuple(f"x{i + 1}" for i in range(problem.dim))
        out = {"x": x, "u": u, "names": np.asarray(names)}
        if known is not None:
            out["reference"] = known.u
            out |= {f"axis_{i}": axis for i, axis in enumerate(known.grid)}
        if not any(key.startswith("axis_") for key in out):
            out |= slices(problem, lambda x: by_slab(stage.parts, x, at))
        return out


def errors(
    u: Float[np.ndarray, "n m"],
    known: Float[np.ndarray, "n m"] | None,
    free: Sequence[int] = (),
) -> dict[str, Any]:
    """The rms of u - u*, absolute and relative to that of u*, over the finite values of u*; None
    where there are none, the relative one also where u* = 0.

    Args: free: the outputs that are determined up to a constant, whose means are left out.
    """
    l2 = relative = None
    if known is not None and (finite := np.isfinite(known)).any():
        with np.errstate(over="ignore", invalid="ignore"):  # a run that blew up: inf or nan
            off = np.where(finite, u - known, 0.0)
            size = np.where(finite, known, 0.0)
            for values in (off, size):
                mean = values.sum(axis=0) / np.maximum(finite.sum(axis=0), 1)
                values[:, free] -= np.where(finite, mean, 0.0)[:, free]
            l2 = float(np.sqrt(np.sum(off**2) / finite.sum()))
        of_known = float(np.sqrt(np.sum(size**2) / finite.sum()))
        relative = l2 / of_known if of_known > 0 else None
    return {"l2_error": l2, "relative_l2_error": relative}


def errors_by_output(
    u: Float[np.ndarray, "n m"],
    known: Float[np.ndarray, "n m"] | None,
    names: Sequence[str],
    free: Sequence[int] = (),
) -> dict[str, float | None]:
    """The relative L2 error of each of several outputs, by name; absolute where u* = 0."""
    if known is None or len(names) < 2:
        return {}
    found = {}
    for i, name in enumerate(names):
        one = errors(u[:, i : i + 1], known[:, i : i + 1], [0] if i in free else [])
        error = one["relative_l2_error"]
        found[name] = one["l2_error"] if error is None else error
    return found


def _places(problem: Problem, known: Reference | None) -> Float[np.ndarray, "n d"]:
    """The evaluation set: where the solution is known, else 10 000 Sobol points."""
    x = known.x if known is not None else problem.places(10_000, seed=0)
    return np.asarray(x, np.float64)
