"""The Helmholtz equation on a square, with one wave along x and four along y."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from distgram.geometry.regions import Box
from distgram.pde.conditions import Dirichlet
from distgram.pde.field import Field
from distgram.pde.operators import value_gradient_laplacian
from distgram.pde.problem import Problem, Term
from distgram.pde.registry import register

WAVES = (1, 4)  # a1, a2: whole, so that u vanishes on the boundary


def _operator(u: Field) -> Field:
    both = value_gradient_laplacian(u)

    def residual(x: Float[Array, " 2"]) -> Float[Array, " 1"]:
        u0, _, delta = both(x)
        return delta + u0

    return residual


def _solution(x: Float[Array, " 2"]) -> Float[Array, " 1"]:
    return jnp.prod(jnp.sin(jnp.pi * jnp.asarray(WAVES) * x))[None]


def _source(x: Float[Array, " 2"]) -> Float[Array, " 1"]:
    return (1 - jnp.pi**2 * sum(a**2 for a in WAVES)) * _solution(x)


@register("helmholtz")
def helmholtz() -> Problem:
    """The Helmholtz equation with wave number 1.

        u_xx + u_yy + u = f  on [-1, 1]^2,     u = 0 on its boundary
        exact solution:  u = sin(pi x) sin(4 pi y),     f = (1 - 17 pi^2) u

    Source: Wang, Teng, Perdikaris, SIAM J. Sci. Comput. 43 (2021) A3055.
    """
    box = Box((-1.0, -1.0), (1.0, 1.0))
    return Problem(
        box,
        {
            "interior": Term(_operator, _source, box),
            "boundary": Dirichlet(0.0, box.boundary),
        },
        name="helmholtz",
        exact=_solution,
        inputs=("x", "y"),
    )
