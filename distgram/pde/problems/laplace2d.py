"""The Poisson problem on the unit square with a product of sines as its solution."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from distgram.geometry.regions import Box
from distgram.pde.conditions import Dirichlet
from distgram.pde.operators import laplacian
from distgram.pde.problem import HardConstraint, Problem, Term
from distgram.pde.registry import register


def _solution(x: Float[Array, " 2"]) -> Float[Array, " 1"]:
    return jnp.prod(jnp.sin(jnp.pi * x))[None]


def _source(x: Float[Array, " 2"]) -> Float[Array, " 1"]:
    return -2 * jnp.pi**2 * _solution(x)


def _zero(x: Float[Array, " 2"]) -> Float[Array, " 1"]:
    return jnp.zeros(1, x.dtype)


def _distance(x: Float[Array, " 2"]) -> Float[Array, " 1"]:
    return jnp.prod(4 * x * (1 - x))[None]


@register("laplace2d")
def laplace2d() -> Problem:
    """Poisson's equation on the unit square.

        u_xx + u_yy = -2 pi^2 sin(pi x) sin(pi y)  on [0, 1]^2,     u = 0 on its boundary
        exact solution:  u = sin(pi x) sin(pi y)

    Source: ANaGRAM, arXiv 2412.10782.
    """
    box = Box((0.0, 0.0), (1.0, 1.0))
    return Problem(
        box,
        {
            "interior": Term(laplacian, _source, box),
            "boundary": Dirichlet(0.0, box.boundary),
        },
        name="laplace2d",
        exact=_solution,
        inputs=("x", "y"),
        constraint=HardConstraint(lift=_zero, distance=_distance, satisfies=("boundary",)),
    )
