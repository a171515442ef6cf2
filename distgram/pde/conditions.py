"""Conditions by name: terms that state boundary and initial values.

Each function gives a Term that remembers what it was made of (`kind` and `given`), so that a
solver may satisfy the condition exactly instead of penalising it: `given["value"]` is the field
that is prescribed, beside it stand the condition's other arguments. Values are functions of x, or
numbers. `weight` is the factor of the condition's mean square in the loss.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact

from distgram.errors import OperatorError, ProblemError
from distgram.geometry.boundary import Boundary, Oriented
from distgram.geometry.clouds import Cloud
from distgram.geometry.product import Product
from distgram.geometry.region import Region
from distgram.geometry.regions import Box
from distgram.pde.field import Field, Operator, Values, Vector, as_field
from distgram.pde.operators import partial
from distgram.pde.operators import value as identity
from distgram.pde.problem import Term


def Dirichlet(
    value: Values, region: Region, component: int | None = None, *, weight: float = 1.0
) -> Term:
    """The values of the solution,  u = value,  or of one of its components alone.

        "edge": Dirichlet(0.0, square.boundary)

    Args:
        value: (m,) in the units of u, or () of one component.
        component: i, for  u_i = value;  None: all components.

    Raises: OperatorError, when the term is traced, for a component that u does not have.
    """
    value = as_field(value, "Dirichlet: value")

    def one(u: Field) -> Field:
        def values(x: Float[Array, " d"]) -> Inexact[Array, " 1"]:
            found = u(x)
            if component not in range(found.shape[0]):
                raise OperatorError(
                    f"Dirichlet: component={component!r}: expected 0 <= component < "
                    f"{found.shape[0]}, as many as u has."
                )
            return found[component, None]

        return values

    operator = identity if component is None else one
    given = {"value": value, "component": component}
    return Term(operator, value, region, weight, kind="dirichlet", given=given)


def Neumann(flux: Values, region: Region, *, weight: float = 1.0) -> Term:
    """The flux through a boundary,  du/dn = flux,  n the outward unit normal.

        "insulated": Neumann(0.0, square.face(0, 1))

    Args: flux: (m,) in the units of u over those of x.
    Raises: RegionError where the region has no normal.
    """
    flux, side = as_field(flux, "Neumann: flux"), sided(region)

    def operator(u: Field) -> Field:
        def slope(row: Float[Array, " columns"]) -> Vector:
            x, normal = side.at(row)
            return jax.jvp(u, (x,), (normal,))[1]

        return slope

    target = side.of(flux)
    return Term(operator, target, side.region, weight, kind="neumann", given={"value": flux})


def Robin(
    alpha: Values, beta: Values, value: Values, region: Region, *, weight: float = 1.0
) -> Term:
    """A mixed condition on a boundary,  alpha u + beta du/dn = value,  n the outward unit normal.

        "cooled": Robin(2.0, 1.0, 0.0, square.face(0, 1))

    Args:
        alpha, beta: numbers or functions of x, () or (m,).
        value: (m,) in the units of alpha u.

    Raises: RegionError where the region has no normal.
    """
    alpha, beta, value = (
        as_field(f, f"Robin: {name}")
        for name, f in (("alpha", alpha), ("beta", beta), ("value", value))
    )
    side = sided(region)

    def operator(u: Field) -> Field:
        def mixed(row: Float[Array, " columns"]) -> Vector:
            x, normal = side.at(row)
            u0, slope = jax.jvp(u, (x,), (normal,))
            return alpha(x) * u0 + beta(x) * slope

        return mixed

    given = {"alpha": alpha, "beta": beta, "value": value}
    return Term(operator, side.of(value), side.region, weight, kind="robin", given=given)


def Initial(
    value: Values,
    box: Box | Product,
    velocity: Values | None = None,
    time: int | None = None,
    *,
    weight: float = 1.0,
) -> Term:
    """The values at the first instant,  u = value,  and  u_t = velocity  where it is given.

        "start": Initial(lambda x: jnp.sin(jnp.pi * x[1:]), box, velocity=0.0)

    The second is for equations of second order in time.

    Args:
        value, velocity: (m,) in the units of u, and in those over time. Of several components
            give at least one of the two as a vector.
        box: space and time together, a Box or shape * time. time: the coordinate that is time, by
            default the first of a Box, and that of `shape * time`.

    Raises: RegionError for a time that the box does not have.
    """
    if not isinstance(box, Box | Product):
        raise ProblemError(
            f"Initial: {box!r}: expected space and time together, a Box or shape * Interval(0, 1)."
        )
    if time is None:
        time = box.time if isinstance(box, Product) else 0
    value, region = as_field(value, "Initial: value"), box.start(time)
    if velocity is None:
        operator, target = identity, value
    else:
        velocity = as_field(velocity, "Initial: velocity")
        operator, target = _with_velocity(time), _both(value, velocity)
    given = {"value": value, "velocity": velocity, "time": time}
    return Term(operator, target, region, weight, kind="initial", given=given)


def continued(term: Term, before: Field) -> Term:
    """The term that prescribes what the field `before` has:  D[u] = D[before],  whatever D is."""
    target = as_field(term.operator(before), "target")
    given = dict(term.given)
    if "value" in given:
        given["value"] = target
    if given.get("velocity") is not None:
        given |= {"value": before, "velocity": partial(before, given["time"])}
    return replace(term, target=target, given=given)


def _with_velocity(time: int) -> Operator:
    def operator(u: Field) -> Field:
        def both(x: Float[Array, " d"]) -> Inexact[Array, " rows"]:
            along = jnp.eye(x.size, dtype=x.dtype)[time]
            return jnp.concatenate(jax.jvp(u, (x,), (along,)))

        return both

    return operator


def _both(value: Field, velocity: Field) -> Field:
    return lambda x: jnp.concatenate(jnp.broadcast_arrays(value(x), velocity(x)))


@dataclass(frozen=True)
class Sided:
    """A boundary with the outward normal at each of its points: found at x where jax can, else
    beside it in the rows (x, n) of the region."""

    region: Region
    boundary: Region

    def at(self, row: Float[Array, " columns"]) -> tuple[Float[Array, " d"], Float[Array, " d"]]:
        """The point of a row, and the normal there."""
        d = self.boundary.dim
        if row.size > d:
            return row[:d], row[d : 2 * d]
        return row, self.boundary.normal(row)

    def of(self, field: Field) -> Field:
        """A field as a function of a row."""
        if self.region is self.boundary:
            return field
        return lambda row: field(row[: self.boundary.dim])


def sided(region: Region) -> Sided:
    """A region with its normals.

    Raises: RegionError where it has none.
    """
    if isinstance(region, Cloud):
        return Sided(region.oriented(), region)
    if isinstance(region, Boundary) and not region.traced:
        return Sided(Oriented(region), region)
    jax.eval_shape(region.normal, jnp.zeros(region.dim))  # the region's own error, before tracing
    return Sided(region, region)
