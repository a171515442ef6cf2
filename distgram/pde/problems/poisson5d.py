"""The Poisson problem on the five-dimensional unit cube with a sum of cosines as its solution."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from distgram.geometry.regions import Box
from distgram.pde.conditions import Dirichlet
from distgram.pde.operators import laplacian
from distgram.pde.problem import Problem, Term
from distgram.pde.registry import register

DIMENSION = 5


def _solution(x: Float[Array, " 5"]) -> Float[Array, " 1"]:
    return jnp.sum(jnp.cos(jnp.pi * x))[None]


def _source(x: Float[Array, " 5"]) -> Float[Array, " 1"]:
    return -(jnp.pi**2) * _solution(x)


@register("poisson5d")
def poisson5d() -> Problem:
    """Poisson's equation on the five-dimensional unit cube.

        sum_k u_kk = -pi^2 sum_k cos(pi x_k)  on [0, 1]^5,     u = sum_k cos(pi x_k) on its boundary
        exact solution:  u = sum_k cos(pi x_k)

    Source: Webb, Jerad, Cartis, arXiv 2607.02194.
    """
    box = Box((0.0,) * DIMENSION, (1.0,) * DIMENSION)
    return Problem(
        box,
        {
            "interior": Term(laplacian, _source, box),
            "boundary": Dirichlet(_solution, box.boundary),
        },
        name="poisson5d",
        exact=_solution,
        inputs=tuple(f"x{k + 1}" for k in range(DIMENSION)),
    )
