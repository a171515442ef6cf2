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

from distgram.config import schema as configs
from distgram.config.schema import Config
from distgram.errors import SolutionError
from distgram.linalg.precision import set_precision
from distgram.net.mlp import FlatModel
from distgram.net.unknown import coefficients
from distgram.pde.operators import gradient, laplacian, partial, value
from distgram.pde.problem import Operator, Problem, Term
from distgram.run.assemble import build_parts
from distgram.run.posing import build_problem
from distgram.run.slabs import Part, by_slab, until
from distgram.store import storage
from distgram.store.checkpoint import newest, of_step, read_thetas
from distgram.store.storage import Folder

# Of a run, beside the numbers of its checkpoints.
INITIAL, FINAL = "initial", "final"


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


def load(run_dir: str | os.PathLike[str], step: int | str = FINAL) -> Solution:
    """The solution of a run folder, whatever devices it was found on. It sets jax to float64.

    Args:
        step: 'final', the best parameters met up to the newest whole checkpoint; 'initial', those
            the run began with; or a number, those of the checkpoint of that step.

    Raises:
        ConfigError: no config.toml in it. CheckpointError: no whole checkpoint, or none of `step`.
        SolutionError: another word for a step.
    """
    set_precision()
    run_dir = storage.absolute(storage.folder(run_dir))
    config = read_config(run_dir)
    whole = build_problem(config)
    thetas = _parameters(run_dir / "checkpoints", step)
    parts = build_parts(config, whole, thetas[:-1])
    if not thetas:
        thetas = (np.asarray(parts[0].model.theta0),)
    if config.time is None:
        problem = build_problem(config, coefficients(parts[0].model, thetas[0]))
    else:
        problem = until(whole, parts[-1].problem)
    return Solution(config, problem, parts, thetas)


def read_config(run_dir: Folder) -> Config:
    """The config of a run folder, with the copies of files that the folder holds.

    Raises:
        ConfigError: no config.toml in it.
    """
    config = configs.load(run_dir / "config.toml")
    copies = {name: run_dir / name for name in configs.files(config)}
    return configs.relocated(config, {n: str(p) for n, p in copies.items() if p.is_file()})


def _parameters(checkpoints: Folder, step: int | str) -> tuple[np.ndarray, ...]:
    """The parameters of every time slab up to a step; none before the first."""
    if step == INITIAL:
        return ()
    if step == FINAL:
        return tuple(read_thetas(newest(checkpoints)))
    if not str(step).isdigit():
        raise SolutionError(f"step {step!r}: expected {INITIAL!r}, {FINAL!r} or a number.")
    return tuple(read_thetas(of_step(checkpoints, int(step)), "theta"))
