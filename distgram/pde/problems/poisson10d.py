"""A harmonic function on the ten-dimensional unit cube: a sum of five products."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from distgram.geometry.regions import Box
from distgram.pde.conditions import Dirichlet
from distgram.pde.operators import laplacian
from distgram.pde.problem import Problem, Term
from distgram.pde.registry import register

DIMENSION = 10


def _solution(x: Float[Array, " 10"]) -> Float[Array, " 1"]:
    return jnp.sum(x[0::2] * x[1::2])[None]


@register("poisson10d")
def poisson10d() -> Problem:
    """Laplace's equation on the ten-dimensional unit cube.

        sum_k u_kk = 0  on [0, 1]^10,     u given on its boundary
        exact solution:  u = x1 x2 + x3 x4 + x5 x6 + x7 x8 + x9 x10

    Source: E, Yu, Commun. Math. Stat. 6 (2018) 1; Webb, Jerad, Cartis, arXiv 2607.02194.
    """
    box = Box((0.0,) * DIMENSION, (1.0,) * DIMENSION)
    return Problem(
        box,
        {
            "interior": Term(laplacian, 0.0, box),
            "boundary": Dirichlet(_solution, box.boundary),
        },
        name="poisson10d",
        exact=_solution,
        inputs=tuple(f"x{k + 1}" for k in range(DIMENSION)),
    )
