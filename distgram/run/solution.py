"""The solution of a run as a function, with its derivatives, its error, and how it was found."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from distgram.errors import SolutionError, nearest
from distgram.net.network import FlatModel
from distgram.net.unknown import coefficients
from distgram.pde.operators import gradient, laplacian, partial, value
from distgram.pde.problem import Operator, Problem, Term
from distgram.run.ends import Result
from distgram.run.setup import Setup, describe
from distgram.run.slabs import Part, by_slab, until
from distgram.store import folder, storage
from distgram.store.checkpoint import Checkpoints
from distgram.store.folder import SOLUTION
from distgram.store.record import Record, SpectrumRecord, environment


@cache
def _along(axis: int, order: int) -> Operator:
    return lambda u: partial(u, axis, order)


@dataclass(frozen=True)
class Solution:
    """u(x; θ). Each method takes points (n, d) and gives values (n, m); one point (d,) gives (m,).

    Of a run in time slabs each point is evaluated in its own: `parts` are the slabs so far,
    `thetas` their parameters, and `problem` is that up to the end of the last of them.

    result: how the run ended; None while it has not. record: what it has measured. described: the
    setup in words, as the tables of a config.

    Raises:
        SolutionError: points of another dimension, or later than a run has come.
    """

    setup: Setup
    problem: Problem
    parts: tuple[Part, ...]
    thetas: tuple[Float[np.ndarray, " p"], ...]
    result: Result | None = None
    record: Record = field(default_factory=Record, repr=False, compare=False)
    described: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    _compiled: dict[Any, Callable] = field(default_factory=dict, repr=False, compare=False)

    @property
    def model(self) -> FlatModel:
        """The network; of several slabs that of the last."""
        return self.parts[-1].model

    @property
    def theta(self) -> Float[np.ndarray, " p"]:
        """Its parameters."""
        return self.thetas[-1]

    @property
    def history(self) -> list[dict[str, Any]]:
        """The rows of metrics, one per logged step."""
        return self.record.rows

    @property
    def spectra(self) -> list[SpectrumRecord]:
        """The recorded spectra: singular values, `rce()`, rank and cutoff of a step."""
        return self.record.spectra

    @property
    def error(self) -> float | None:
        """The relative L2 error against the exact or reference solution; None where none is
        known."""
        return None if self.result is None else self.result.relative_l2_error

    @property
    def error_estimate(self) -> float | None:
        """The estimate of the relative L2 error, made without a solution (`run.estimate`); None
        where the run says too little."""
        return None if self.result is None else self.result.error_estimate

    @property
    def coefficients(self) -> dict[str, float]:
        """The unknown coefficients by name; none where the run had none."""
        return coefficients(self.model, self.theta)

    def __call__(self, x: Any) -> np.ndarray:
        """u(x)."""
        return self.apply(value, x)

    def partial(self, x: Any, axis: int, order: int = 1) -> np.ndarray:
        """d^order u / dx_axis^order."""
        return self.apply(_along(axis, order), x)

    def gradient(self, x: Any) -> np.ndarray:
        """All first derivatives, (n, m d): entry i d + k is du_i/dx_k; the gradient for m = 1."""
        return self.apply(gradient, x)

    def laplacian(self, x: Any) -> np.ndarray:
        """The sum of the second derivatives along all coordinates."""
        return self.apply(laplacian, x)

    def residual(self, term: Term | str, x: Any) -> np.ndarray:
        """D[u](x) - f(x) of a term of the problem, or of the name of one."""
        if isinstance(term, str):
            terms = {t.name: t for t in self.problem.terms}
            if term not in terms:
                raise SolutionError(f"residual({term!r}): no such term: {nearest(term, terms)}")
            return self.apply(terms[term].residual, x)
        return self.apply(term.residual, x)

    @property
    def edges(self) -> list[float]:
        """The instants between which the time slabs so far lie; none where time is not cut."""
        axis, boxes = self.problem.time, [part.problem.domain for part in self.parts]
        if axis is None or self.setup.slabs is None:
            return []
        return [boxes[0].lower[axis], *(box.upper[axis] for box in boxes)]

    def apply(self, operator: Operator, x: Any) -> np.ndarray:
        """D[u](x) for any operator of `distgram.pde.operators`, or one of your own."""
        x = np.asarray(x, np.float64)
        d = self.problem.dim
        if x.ndim not in (1, 2) or x.shape[-1] != d:
            raise SolutionError(f"points of shape {x.shape}: expected (n, {d}) or ({d},).")
        self._check_time(np.atleast_2d(x))

        def at(k: int, x: np.ndarray) -> np.ndarray:
            if (operator, k) not in self._compiled:
                field = self.parts[k].model.field
                self._compiled[operator, k] = jax.jit(
                    lambda theta, x: jax.vmap(operator(field(theta)))(x)
                )
            return self._compiled[operator, k](self.thetas[k], jnp.asarray(x))

        values = by_slab(self.parts, np.atleast_2d(x), at)
        return values if x.ndim == 2 else values[0]

    def save(self, run_dir: str | os.PathLike[str], force: bool = False) -> None:
        """Write the solution and all that was measured as a run folder: `distgram.load` reads it.

        Raises:
            RunError: the folder holds something and `force` is not given.
        """
        place = storage.absolute(storage.folder(run_dir))
        with folder.new(place, self.described, force):
            self.record.write(place)
            checkpoints = Checkpoints(place / folder.CHECKPOINTS)
            *frozen, theta = (jnp.asarray(t) for t in self.thetas)
            state = {"theta": theta, "best_theta": theta, "frozen": tuple(frozen)}
            step = 0 if self.result is None else self.result.steps
            meta = {"solved": len(frozen), "edges": self.edges, "config": self.described}
            checkpoints.save(step, state, meta)
            checkpoints.close()

    def report(self, path: str | os.PathLike[str]) -> Path:
        """Write the page of the run to a file, which needs nothing beside itself; the file."""
        from distgram.report.page import write  # only here does a run know of its page

        return write(InMemory(self), Path(path), solution=self)

    def export(self, kind: str, into: str | os.PathLike[str]) -> list[Path]:
        """Write the solution for other programs into a folder: 'safetensors', 'jax', 'netcdf' or
        'vtk'; the files written."""
        from distgram.export import export  # likewise of other programs

        return export(self, kind, Path(into))

    def _check_time(self, x: np.ndarray) -> None:
        axis, cuts, done = self.problem.time, self.setup.slabs, len(self.parts)
        if axis is None or cuts is None or done == cuts.count:
            return
        latest, end = x[:, axis].max(initial=-np.inf), self.problem.domain.upper[axis]
        if latest > end:
            raise SolutionError(
                f"points at time {latest:g}: the run has come to {end:g}, in slab {done} of "
                f"{cuts.count}; `distgram resume` goes on."
            )


@dataclass(frozen=True)
class InMemory:
    """A run that needs no folder, as its page sees it: see `store.read.RunRecord`."""

    solution: Solution
    path: Path | None = None

    @property
    def config(self) -> Mapping[str, Any]:
        """The setup in words."""
        return self.solution.described

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The rows."""
        return self.solution.history

    @property
    def result(self) -> Mapping[str, Any]:
        """How the run ended."""
        return self.solution.record.result

    @property
    def environment(self) -> Mapping[str, Any]:
        """Versions and devices."""
        return environment()

    def arrays(self, name: str) -> Mapping[str, np.ndarray]:
        """The arrays of 'spectra.npz' or 'solution.npz'."""
        record = self.solution.record
        if name == SOLUTION:
            return {k: np.asarray(v) for k, v in record.solution_arrays().items()}
        return record.spectra_arrays() if record.spectra else {}


def solution_of(
    setup: Setup,
    whole: Problem,
    parts: tuple[Part, ...],
    thetas: tuple[Any, ...],
    result: Result | None = None,
    record: Record | None = None,
    described: dict[str, Any] | None = None,
) -> Solution:
    """The solution of a run from the parameters of its time slabs so far; without any, at the
    initial parameters of its network."""
    if not thetas:
        thetas = (parts[0].model.theta0,)
    arrays = tuple(np.asarray(theta) for theta in thetas)
    if setup.slabs is None:
        problem = setup.with_values(coefficients(parts[0].model, arrays[0]))
    else:
        problem = until(whole, parts[-1].problem)
    words = described or describe(setup)
    return Solution(setup, problem, parts, arrays, result, record or Record(), words)
