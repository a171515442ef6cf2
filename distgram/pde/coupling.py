"""Conditions that couple two points or two sides: periodic, Bloch-periodic, interfaces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact

from distgram.errors import OperatorError, ProblemError
from distgram.geometry.region import Region
from distgram.geometry.regions import Box
from distgram.pde.conditions import sided
from distgram.pde.field import Field, Values, as_field
from distgram.pde.operators import partial
from distgram.pde.problem import Term


def Periodic(
    box: Box, axis: int, order: int = 1, phase: float | None = None, *, weight: float = 1.0
) -> Term:
    """The same on the two faces of an axis: u and its derivatives along it up to order - 1; with a
    phase up to that (Bloch), of a complex field:

        (d/dx_axis)^k u (upper) = exp(i phase) (d/dx_axis)^k u (lower),     k = 0 ... order - 1

    Args:
        order: how many of them agree, >= 1; as many as the order of the equation along the axis.
        phase: in radians; None: 0. The problem is then to be made by `complex_field`.

    Raises: ProblemError for an order < 1. RegionError for an axis that the box does not have.
    """
    if isinstance(order, bool) or not isinstance(order, int) or order < 1:
        raise ProblemError(f"Periodic: order={order!r}: expected an integer >= 1.")
    lower, end = box.face(axis, 0), box.upper[axis]
    factor = 1.0 if phase is None else jnp.exp(1j * phase)

    def operator(u: Field) -> Field:
        def jumps(x: Float[Array, " d"]) -> Inexact[Array, " jumps"]:
            across = x.at[axis].set(end)
            along = [partial(u, axis, k) for k in range(order)]
            return jnp.concatenate([d(across) - factor * d(x) for d in along])

        return jumps

    given = {"axis": axis, "order": order, "phase": phase}
    return Term(operator, 0.0, lower, weight, kind="periodic", given=given)


def Coupled(
    region: Region,
    to: Callable[[Any], Any],
    factor: complex = 1.0,
    flux: bool = True,
    *,
    weight: float = 1.0,
) -> Term:
    """The solution at two points that belong together, x of a region and to(x), as on two sides of
    a cell that is repeated by a shift or a rotation:

        u(to(x)) = factor u(x),     and with `flux`     d/dn u(to(x)) = factor du/dn (x)

        "sides": dg.Coupled(left, lambda x: turn @ x)

    Args:
        to: a map of points, (d,) -> (d,), of jax. factor: a number, complex for a phase.
        flux: whether the derivative along the outward normal n of the region is coupled as well, of
            u(to(.)) taken by the chain rule; a map of space that keeps lengths turns n with it.

    Raises: RegionError where a flux is coupled on a region without a normal.
    """
    if not callable(to):
        raise ProblemError(f"Coupled: to = {to!r}: expected a map of points x.")
    if not flux:

        def values(u: Field) -> Field:
            return lambda x: u(jnp.asarray(to(x))) - factor * u(x)

        return Term(values, 0.0, region, weight, kind="periodic")
    side = sided(region)

    def operator(u: Field) -> Field:
        def jumps(row: Float[Array, " columns"]) -> Inexact[Array, " jumps"]:
            x, normal = side.at(row)
            there = jax.jvp(lambda x: u(jnp.asarray(to(x))), (x,), (normal,))
            here = jax.jvp(u, (x,), (normal,))
            pairs = zip(there, here, strict=True)
            return jnp.concatenate([a - factor * b for a, b in pairs])

        return jumps

    return Term(operator, 0.0, side.region, weight, kind="periodic")


def Interface(
    region: Region,
    inside: int = 0,
    outside: int = 1,
    *,
    conductivity: tuple[Values, Values] = (1.0, 1.0),
    jump: Values = 0.0,
    flux: Values = 0.0,
    weight: float = 1.0,
) -> Term:
    """Two components of u, each the solution on one side, meet at an interface:

        u_inside - u_outside = jump,     k_inside du_inside/dn - k_outside du_outside/dn = flux

    n the outward normal of the region, which is the boundary of the inner side or a part of it.
    Each component has its own equation in its own region; where a coefficient jumps, one network
    across the jump has no kink, and the flux through it would be wrong at any number of points.

        left, right = dg.Interval(0, 0.5), dg.Interval(0.5, 1)
        "contact": dg.Interface(left.face(0, 1), 0, 1, conductivity=(1.0, 10.0))

    Args:
        conductivity: k_inside, k_outside, numbers or functions of x. jump, flux: likewise.

    Raises: OperatorError, when the term is traced, for a component that u does not have.
        RegionError where the region has no normal.
    """
    if len(conductivity) != 2:
        raise ProblemError(
            f"Interface: conductivity = {conductivity!r}: expected two, inside and outside."
        )
    k_in, k_out = (as_field(k, "Interface: conductivity") for k in conductivity)
    jump, flux = as_field(jump, "Interface: jump"), as_field(flux, "Interface: flux")
    side = sided(region)

    def operator(u: Field) -> Field:
        def jumps(row: Float[Array, " columns"]) -> Inexact[Array, " 2"]:
            x, normal = side.at(row)
            values, slopes = jax.jvp(u, (x,), (normal,))
            for component in (inside, outside):
                if component not in range(values.shape[0]):
                    raise OperatorError(
                        f"Interface: component {component!r}: expected 0 <= component < "
                        f"{values.shape[0]}, as many as u has."
                    )
            through = k_in(x) * slopes[inside] - k_out(x) * slopes[outside]
            return jnp.concatenate([(values[inside] - values[outside])[None], through])

        return jumps

    both = side.of(lambda x: jnp.concatenate([jump(x), flux(x)]))
    return Term(operator, both, side.region, weight, kind="interface")
