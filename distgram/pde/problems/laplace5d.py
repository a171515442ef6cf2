"""The Poisson problem on the five-dimensional unit cube with a sum of sines as its solution."""

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
    return jnp.sum(jnp.sin(jnp.pi * x))[None]


def _source(x: Float[Array, " 5"]) -> Float[Array, " 1"]:
    return -(jnp.pi**2) * _solution(x)


@register("laplace5d")
def laplace5d() -> Problem:
    """Poisson's equation on the five-dimensional unit cube.

        sum_k u_kk = -pi^2 sum_k sin(pi x_k)  on [0, 1]^5,     u = sum_k sin(pi x_k) on its boundary
        exact solution:  u = sum_k sin(pi x_k)

    There is no hard constraint: the obvious lift of the boundary values is the solution itself, so
    a run with it would solve nothing.

    Source: ANaGRAM, arXiv 2412.10782.
    """
    box = Box((0.0,) * DIMENSION, (1.0,) * DIMENSION)
    return Problem(
        box,
        {
            "interior": Term(laplacian, _source, box),
            "boundary": Dirichlet(_solution, box.boundary),
        },
        name="laplace5d",
        exact=_solution,
        inputs=tuple(f"x{k + 1}" for k in range(DIMENSION)),
    )
