"""Differential operators of a field at one point.

A field maps x of shape (d,) to u(x) of shape (m,); each function here takes a field and gives a
field (or a tuple of values), so that the operator of a Term is written  lambda u: laplacian(u).
All derivatives go forward, which leaves a single reverse pass for the one by the parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import folx
import jax
import jax.numpy as jnp
from folx.api import FwdJacobian, FwdLaplArray
from jaxtyping import Array, Float, Inexact

from distgram.errors import OperatorError, ProblemError
from distgram.geometry.regions import Region
from distgram.pde.field import Field, Operator, Vector, as_field


@dataclass(frozen=True)
class VectorOperator:
    """An operator whose values are fields, whatever scalars its function may give."""

    function: Callable[[Any], Any]

    def __call__(self, u: Field) -> Field:
        return as_field(self.function(u), "the operator's value")


def as_operator(operator: Callable[[Any], Any]) -> Operator:
    """A function of a field as an operator; an operator is given back.

    Raises: ProblemError for what is no function.
    """
    if isinstance(operator, VectorOperator) or operator is value:
        return operator
    if not callable(operator):
        raise ProblemError(
            f"operator = {operator!r}: expected a function of the field u that gives a function "
            "of x, such as laplacian."
        )
    return VectorOperator(operator)


def value(u: Field) -> Field:
    """The identity  D[u] = u,  as in a Dirichlet or an initial condition."""
    return u


def partial(u: Field, axis: int, order: int = 1) -> Field:
    """The partial derivative  d^order u / dx_axis^order  of all components, shape (m,).

    Source: forward mode, nested `order` times.
    """
    if order < 0:
        raise OperatorError(f"partial: order={order}: expected order >= 0.")
    if order == 0:
        return u
    inner = partial(u, axis, order - 1)

    def derivative(x: Float[Array, " d"]) -> Vector:
        return jax.jvp(inner, (x,), (_directions(x, (axis,))[0],))[1]

    return derivative


def time_derivative(u: Field, axis: int = 0) -> Field:
    """The time derivative  u_t  of all components, shape (m,); time is coordinate `axis`."""
    return partial(u, axis)


def gradient(u: Field) -> Field:
    """All first derivatives, shape (m d,): entry i d + k is du_i/dx_k; the gradient for m = 1."""

    def derivative(x: Float[Array, " d"]) -> Inexact[Array, " md"]:
        return jax.jacfwd(u)(x).reshape(-1)

    return derivative


def normal_derivative(u: Field, region: Region) -> Field:
    """The outward normal derivative  du/dn = n . grad u  on a boundary, shape (m,).

    Raises: RegionError where the region has no normal.
    """

    def derivative(x: Float[Array, " d"]) -> Vector:
        return jax.jvp(u, (x,), (region.normal(x),))[1]

    return derivative


def divergence(u: Field) -> Field:
    """The divergence  sum_k du_k/dx_k  of a field with m = d components, shape (1,).

    Raises: OperatorError where m differs from d.
    """

    def derivative(x: Float[Array, " d"]) -> Inexact[Array, " 1"]:
        jacobian = jax.jacfwd(u)(x)
        if jacobian.shape[0] != jacobian.shape[1]:
            raise OperatorError(
                f"divergence: the field has {jacobian.shape[0]} components at a point of "
                f"{jacobian.shape[1]} coordinates: expected as many of one as of the other."
            )
        return jnp.trace(jacobian)[None]

    return derivative


def laplacian(u: Field, axes: Sequence[int] | None = None) -> Field:
    """The Laplacian  sum_k d^2 u / dx_k^2  of all components over `axes` (None: all), shape (m,).

    Source: forward Laplacian, arXiv 2307.08214, as implemented by folx.
    """

    def derivative(x: Float[Array, " d"]) -> Vector:
        return _forward(u, x, _directions(x, axes), jnp.zeros_like(x))[2]

    return derivative


def value_gradient_laplacian(
    u: Field, axes: Sequence[int] | None = None
) -> Callable[[Float[Array, " d"]], tuple[Vector, Inexact[Array, "m k"], Vector]]:
    """u, its first derivatives and its Laplacian over `axes` (None: all k = d) from one pass.

    Gives values of shapes (m,), (m, k), (m,).
    """

    def derivative(x: Float[Array, " d"]) -> tuple[Vector, Inexact[Array, "m k"], Vector]:
        u0, first, second = _forward(u, x, _directions(x, axes), jnp.zeros_like(x))
        return u0, first.T, second

    return derivative


def jet2(u: Field, axis: int) -> Callable[[Float[Array, " d"]], tuple[Vector, Vector, Vector]]:
    """u and its first and second derivative along one coordinate, from one pass: 3 times (m,)."""

    def derivative(x: Float[Array, " d"]) -> tuple[Vector, Vector, Vector]:
        u0, first, second = _forward(u, x, _directions(x, (axis,)), jnp.zeros_like(x))
        return u0, first[0], second

    return derivative


def along_curve(
    u: Field, velocity: Sequence[float], acceleration: Sequence[float]
) -> Callable[[Float[Array, " d"]], tuple[Vector, Vector, Vector]]:
    """u and its first two derivatives along the curve  x + e v + e^2 a / 2  at e = 0: 3 times (m,).

        u,     v . grad u,     v . (Hess u) v + a . grad u

    One pass gives a whole parabolic operator: with v = sqrt(nu) e_x and a = -e_t the last value is
    nu u_xx - u_t.

    Args:
        velocity: v, shape (d,).
        acceleration: a, shape (d,).

    Raises: OperatorError where v or a is not of the dimension of x.
    """

    def derivative(x: Float[Array, " d"]) -> tuple[Vector, Vector, Vector]:
        v, a = jnp.asarray(velocity, x.dtype), jnp.asarray(acceleration, x.dtype)
        if v.shape != x.shape or a.shape != x.shape:
            raise OperatorError(
                f"along_curve: velocity of shape {v.shape}, acceleration of shape {a.shape}: "
                f"expected {x.shape}, that of the point."
            )
        u0, first, second = _forward(u, x, v[None], a)
        return u0, first[0], second

    return derivative


def _forward(
    u: Field, x: Float[Array, " d"], directions: Float[Array, "k d"], drift: Float[Array, " d"]
) -> tuple[Vector, Inexact[Array, "k m"], Vector]:
    """u,  v_k . grad u,  and  sum_k v_k . (Hess u) v_k + drift . grad u,  in one forward pass.

    The forward Laplacian, started with the derivatives of x given instead of those of the
    identity. With a reverse pass over it, it is faster than nested jvp or jax.experimental.jet.

    Source: arXiv 2307.08214, as implemented by folx.
    """
    start: Any = FwdLaplArray(x, FwdJacobian(directions), drift)
    out = folx.forward_laplacian(u)(start)
    if not isinstance(out, FwdLaplArray):  # u does not depend on x
        return out, jnp.zeros((len(directions), *out.shape), out.dtype), jnp.zeros_like(out)
    return out.x, out.jacobian.dense_array, out.laplacian


def _directions(x: Float[Array, " d"], axes: Sequence[int] | None) -> Float[Array, "k d"]:
    """The unit vectors of the axes (None: of all), shape (k, d)."""
    axes = range(x.size) if axes is None else axes
    if not isinstance(axes, Iterable):
        raise OperatorError(
            f"laplacian: axes = {axes!r}: expected the coordinates to sum over, as in (0, 1)."
        )
    for axis in axes:
        if not 0 <= axis < x.size:
            raise OperatorError(f"derivative: axis={axis}: expected 0 <= axis < {x.size}.")
    return jnp.eye(x.size, dtype=x.dtype)[jnp.asarray(tuple(axes), int)]
