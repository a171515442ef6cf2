"""The incompressible Navier-Stokes equations as an operator, for the flows among the problems."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from distgram.pde.field import Field, Operator
from distgram.pde.operators import partial, value_gradient_laplacian


def navier_stokes(viscosity: float, axes: tuple[int, ...], time: int | None = None) -> Operator:
    """The operator whose components are the momentum equations and the continuity equation,

        v_t + (v . grad) v + grad p - nu Laplace v,     div v,

    of a field with the components (v_1, ..., v_d, p), velocity and pressure.

    Args:
        viscosity: nu = 1/Re, dimensionless. axes: the d coordinates of space, in the
            order of the components of v.
        time: the coordinate that is time; None: the flow is steady.
    """
    d = len(axes)

    def operator(u: Field) -> Field:
        all_at_once = value_gradient_laplacian(u, axes)

        def residual(x: Float[Array, " n"]) -> Float[Array, " m"]:
            u0, first, second = all_at_once(x)
            momentum = first[:d] @ u0[:d] + first[d] - viscosity * second[:d]
            if time is not None:
                momentum = momentum + partial(u, time)(x)[:d]
            return jnp.append(momentum, jnp.trace(first[:d]))

        return residual

    return operator
