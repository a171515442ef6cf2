"""Unknown coefficients of an equation, as parameters beside those of the network.

    θ = (network, ξ),     c = initial · exp(ξ)  where c is positive, else  c = initial + scale · ξ.

A problem is a function of its coefficients, problem(viscosity=...). At every θ it is built with the
coefficients of θ, traced values, so that operators, targets and hard constraints may all depend on
them, and a step of the natural gradient moves network and coefficients together. The field u(.; θ)
carries its coefficients, so that the rest of the solver treats them as parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from distgram.errors import ProblemError, require
from distgram.net.network import FlatModel
from distgram.pde.problem import Field, Problem, Term

ProblemOf = Callable[[Mapping[str, Any]], Problem]


@dataclass(frozen=True)
class Unknown:
    """One coefficient c(ξ), equal to `initial` at ξ = 0.

    Args:
        positive: c > 0 for every ξ, by a logarithm; initial must then be > 0.
        scale: the change of c for one unit of ξ where c is not `positive`, > 0, in the units of c;
            None: |initial|, or 1 where that is 0.
        name: the parameter of the problem; given by the run.
    """

    initial: float
    positive: bool = False
    scale: float | None = None
    name: str = field(default="", metadata={"planned": True})

    def __post_init__(self):
        above = not self.positive or self.initial > 0
        require(above, self, "initial", "a number > 0 where positive = true", ProblemError)
        good = self.scale is None or (self.scale > 0 and not self.positive)
        require(good, self, "scale", "a number > 0, and none where positive = true", ProblemError)

    def value(self, xi: Float[Array, ""]) -> Float[Array, ""]:
        """c(ξ)."""
        if self.positive:
            return self.initial * jnp.exp(xi)
        return self.initial + (self.scale or abs(self.initial) or 1.0) * xi


class Inverse(nnx.Module):
    """A network with unknown coefficients: the field u(.; θ) and the problem of its coefficients.

    Args:
        pose: the problem for given coefficients. hard: whether its hard constraint holds for u.
    """

    def __init__(
        self, network: nnx.Module, unknowns: tuple[Unknown, ...], pose: ProblemOf, hard: bool
    ):
        self.network, self.unknowns, self.pose, self.hard = network, unknowns, pose, hard
        self.xi = nnx.Param(jnp.zeros(len(unknowns)))

    @property
    def coefficients(self) -> dict[str, Float[Array, ""]]:
        """The coefficients by name."""
        return {u.name: u.value(self.xi[...][i]) for i, u in enumerate(self.unknowns)}

    def __call__(self, x: Float[Array, " d"]) -> Float[Array, " m"]:
        values = self.network(x)  # type: ignore[operator]
        if not self.hard:
            return values
        constraint = self.pose(self.coefficients).constraint
        assert constraint is not None
        return constraint.lift(x) + constraint.distance(x) * values


def posed(term: Term, pose: ProblemOf) -> Term:
    """The term with the coefficients of the field:  (D_c[u] - f_c)(x) = 0,  c those of u."""

    def operator(u: Field) -> Field:
        assert isinstance(u, Inverse)
        (here,) = (t for t in pose(u.coefficients).terms if t.name == term.name)
        return here.residual(u)

    return replace(term, operator=operator, target=0.0, kind="equation", given={})


def coefficients(model: FlatModel, theta: Float[Array | np.ndarray, " p"]) -> dict[str, float]:
    """The coefficients of θ by name; {} if the model has no unknown coefficients."""
    field = model.field(jnp.asarray(np.asarray(theta)))
    return {k: float(v) for k, v in field.coefficients.items()} if _inverse(field) else {}


def positions(model: FlatModel) -> tuple[tuple[Unknown, ...], Int[np.ndarray, " k"]]:
    """The unknowns of a model and where their ξ are in θ."""
    field = model.field(jnp.arange(model.p, dtype=model.theta0.dtype))
    if not _inverse(field):
        return (), np.zeros(0, int)
    return field.unknowns, np.asarray(field.xi[...]).astype(int)


def _inverse(field: Field) -> bool:
    return isinstance(field, Inverse)
