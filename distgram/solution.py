"""A run as a function: the solution of its newest whole checkpoint, with its derivatives."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from distgram import config as configs
from distgram import storage
from distgram.assemble import build_parts, build_problem
from distgram.checkpoint import newest, read_thetas
from distgram.config import Config
from distgram.models import FlatModel
from distgram.operators import gradient, laplacian, partial, value
from distgram.precision import set_precision
from distgram.problem import Operator, Problem, Term
from distgram.slabs import Part, by_slab, until


class SolutionError(ValueError):
    """Points at which a solution cannot be evaluated: the message names their shape or time."""


@cache
def _along(axis: int, order: int) -> Operator:
    return lambda u: partial(u, axis, order)


@cache
def _target(term: Term) -> Operator:
    return lambda u: term.target


@dataclass(frozen=True)
class Solution:
    """u(x; θ). Each method takes points (n, d) and gives values (n, m); one point (d,) gives (m,).

    Of a run in time slabs each point is evaluated in its own: `parts` are the slabs so far,
    `thetas` their parameters, and `problem` is that up to the end of the last of them.

    Raises:
        SolutionError: points of another dimension, or later than a run has come.
    """

    config: Config
    problem: Problem
    parts: tuple[Part, ...]
    thetas: tuple[Float[np.ndarray, " p"], ...]
    _compiled: dict[Any, Callable] = field(default_factory=dict, repr=False, compare=False)

    @property
    def model(self) -> FlatModel:
        """The network; of several slabs that of the last."""
        return self.parts[-1].model

    @property
    def theta(self) -> Float[np.ndarray, " p"]:
        """Its parameters."""
        return self.thetas[-1]

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """u(x)."""
        return self.apply(value, x)

    def partial(self, x: np.ndarray, axis: int, order: int = 1) -> np.ndarray:
        """d^order u / dx_axis^order."""
        return self.apply(_along(axis, order), x)

    def gradient(self, x: np.ndarray) -> np.ndarray:
        """All first derivatives, (n, m d): entry i d + k is du_i/dx_k; the gradient for m = 1."""
        return self.apply(gradient, x)

    def laplacian(self, x: np.ndarray) -> np.ndarray:
        """The sum of the second derivatives along all coordinates."""
        return self.apply(laplacian, x)

    def residual(self, term: Term, x: np.ndarray) -> np.ndarray:
        """D[u](x) - f(x) of a term of the problem."""
        values = self.apply(term.operator, x)
        return values - self.apply(_target(term), x)

    def apply(self, operator: Operator, x: np.ndarray) -> np.ndarray:
        """D[u](x) for any operator of `distgram.operators`, or one of your own."""
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

    def _check_time(self, x: np.ndarray) -> None:
        axis, cuts, done = self.problem.time, self.config.time, len(self.parts)
        if axis is None or cuts is None or done == cuts.count:
            return
        latest, end = x[:, axis].max(initial=-np.inf), self.problem.domain.upper[axis]
        if latest > end:
            raise SolutionError(
                f"points at time {latest:g}: the run has come to {end:g}, in slab {done} of "
                f"{cuts.count}; `distgram resume` goes on."
            )


def load(run_dir: str | os.PathLike[str]) -> Solution:
    """The solution of a run folder, whatever devices it was found on. It sets jax to float64.

    Raises:
        ConfigError: no config.toml in it. CheckpointError: no whole checkpoint.
    """
    set_precision()
    run_dir = storage.absolute(storage.folder(run_dir))
    config = configs.load(run_dir / "config.toml")
    copy, file = run_dir / "problem.py", config.problem.file
    if file is not None and copy.is_file():
        problem = config.problem.model_copy(update={"file": str(copy)})
        config = config.model_copy(update={"problem": problem})
    problem = build_problem(config)
    thetas = tuple(read_thetas(newest(run_dir / "checkpoints")))
    parts = build_parts(config, problem, thetas[:-1])
    problem = problem if config.time is None else until(problem, parts[-1].problem)
    return Solution(config, problem, parts, thetas)
