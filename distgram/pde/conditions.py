"""Conditions by name: each is a term with the operator that its name says."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from distgram.errors import ProblemError
from distgram.geometry.regions import Box, Region
from distgram.pde.operators import normal_derivative, partial, value
from distgram.pde.problem import Field, Term

Values = float | np.ndarray | Field  # a number, numbers, or a function of x


def Dirichlet(
    values: Values, region: Region, component: int | None = None, weight: float = 1.0
) -> Term:
    """u = values on a region: every component of u, or the one that `component` names.

    Args:
        weight: factor of the mean square in the loss, dimensionless.
    """
    operator = value if component is None else _component(component)
    return Term(operator, values, region, weight, kind="dirichlet")


def Neumann(flux: Values, region: Region, weight: float = 1.0) -> Term:
    """du/dn = flux on a boundary, n its outward normal, for every component of u."""
    _boundary("Neumann", region)
    return Term(lambda u: normal_derivative(u, region), flux, region, weight, kind="neumann")


def Robin(a: float, b: float, values: Values, region: Region, weight: float = 1.0) -> Term:
    """a u + b du/dn = values on a boundary, n its outward normal, for every component of u."""
    _boundary("Robin", region)

    def operator(u: Field) -> Field:
        slope = normal_derivative(u, region)
        return lambda x: a * u(x) + b * slope(x)

    return Term(operator, values, region, weight, kind="robin")


def Periodic(box: Box, axis: int, order: int = 1, weight: float = 1.0) -> Term:
    """u and its derivatives below `order` along an axis are equal on its two faces: one equation
    for each and for each component of u, in units of the length L of the axis,

        L^k (d^k u/dx_axis^k (x) - d^k u/dx_axis^k (x + L e_axis)) = 0,   k = 0 ... order - 1.

    A network with periodic features satisfies it by itself: state `periods` of the problem then.

    Raises:
        ProblemError: no such axis, or an order below 1.
    """
    if not 0 <= axis < box.dim:
        raise ProblemError(f"Periodic(axis={axis}): expected 0 <= axis < {box.dim}.")
    if order < 1:
        raise ProblemError(f"Periodic(order={order}): expected at least 1, the equality of u.")
    length = float(box.lengths[axis])
    shift = length * np.eye(box.dim)[axis]

    def operator(u: Field) -> Field:
        def jumps(x: Float[Array, " d"]) -> Float[Array, " n"]:
            derivatives = [partial(u, axis, k) for k in range(order)]
            return jnp.concatenate(
                [length**k * (d(x) - d(x + shift)) for k, d in enumerate(derivatives)]
            )

        return jumps

    return Term(operator, 0.0, box.face(axis, 0), weight, kind="periodic")


def Initial(
    values: Values,
    box: Box,
    velocity: Values | None = None,
    time: int = 0,
    weight: float = 1.0,
) -> Term:
    """u = values, and where a velocity is given u_t = velocity, at the first instant of a box: one
    equation for each component of u, then one for each of u_t."""
    region = box.start(time)
    if velocity is None:
        return Term(value, values, region, weight, kind="initial")

    def operator(u: Field) -> Field:
        rate = partial(u, time)
        return lambda x: jnp.concatenate([jnp.atleast_1d(u(x)), jnp.atleast_1d(rate(x))])

    def target(x: Float[Array, " d"]) -> Array:
        return jnp.concatenate([jnp.atleast_1d(_at(values, x)), jnp.atleast_1d(_at(velocity, x))])

    return Term(operator, target, region, weight, kind="initial")


def _component(index: int) -> Callable[[Field], Field]:
    return lambda u: lambda x: u(x)[index : index + 1]


def _boundary(name: str, region: Region) -> None:
    if type(region).normal is Region.normal:
        raise ProblemError(
            f"{name}(region={region!r}): expected a boundary with a normal, as box.boundary is."
        )


def _at(values: Values, x: Array) -> Array:
    return values(x) if callable(values) else jnp.asarray(values)
