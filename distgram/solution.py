"""A run as a function: the solution of its newest whole checkpoint, with its derivatives."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from distgram import config as configs
from distgram import storage
from distgram.assemble import build_model, build_problem
from distgram.checkpoint import newest, read_theta
from distgram.config import Config
from distgram.models import FlatModel
from distgram.operators import gradient, laplacian, partial, value
from distgram.precision import set_precision
from distgram.problem import Operator, Problem, Term


class SolutionError(ValueError):
    """Points at which a solution cannot be evaluated: the message names their shape."""


@cache
def _along(axis: int, order: int) -> Operator:
    return lambda u: partial(u, axis, order)


@cache
def _target(term: Term) -> Operator:
    return lambda u: term.target


@dataclass(frozen=True)
class Solution:
    """u(x; θ). Each method takes points (n, d) and gives values (n, m); one point (d,) gives (m,).

    Raises:
        SolutionError: points of another dimension.
    """

    config: Config
    problem: Problem
    model: FlatModel
    theta: Float[np.ndarray, " p"]
    _compiled: dict[Operator, Callable] = field(default_factory=dict, repr=False, compare=False)

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
        if operator not in self._compiled:
            self._compiled[operator] = jax.jit(
                lambda theta, x: jax.vmap(operator(self.model.field(theta)))(x)
            )
        values = np.asarray(self._compiled[operator](self.theta, jnp.asarray(np.atleast_2d(x))))
        return values if x.ndim == 2 else values[0]


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
    model = build_model(config, problem)
    return Solution(config, problem, model, read_theta(newest(run_dir / "checkpoints")))
