"""The Klein-Gordon equation with a cubic term: five half waves in time."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from distgram.geometry.regions import Box
from distgram.pde.conditions import Dirichlet, Initial
from distgram.pde.field import Field
from distgram.pde.problem import Problem, Term
from distgram.pde.problems.wave import dalembertian
from distgram.pde.registry import register


def _operator(u: Field) -> Field:
    box = dalembertian(u, 1.0)
    return lambda x: box(x) + u(x) ** 3


def _solution(x: Float[Array, " 2"]) -> Float[Array, " 1"]:
    t, place = x[:1], x[1:]
    return place * jnp.cos(5 * jnp.pi * t) + (place * t) ** 3


def _source(x: Float[Array, " 2"]) -> Float[Array, " 1"]:
    t, place = x[:1], x[1:]
    second = -((5 * jnp.pi) ** 2) * place * jnp.cos(5 * jnp.pi * t) + 6 * place**3 * t
    return second - 6 * place * t**3 + _solution(x) ** 3


@register("klein_gordon")
def klein_gordon() -> Problem:
    """The Klein-Gordon equation with a cubic term.

        u_tt - u_xx + u^3 = f  on [0, 1]^2,     u given at x = 0 and x = 1
        u(0, x) = x,     u_t(0, x) = 0
        exact solution:  u = x cos(5 pi t) + (x t)^3,            f by substitution

    Source: Wang, Teng, Perdikaris, SIAM J. Sci. Comput. 43 (2021) A3055.
    """
    box = Box((0.0, 0.0), (1.0, 1.0))
    return Problem(
        box,
        {
            "interior": Term(_operator, _source, box),
            "initial": Initial(lambda x: x[1:], box, velocity=0.0),
            "boundary": Dirichlet(_solution, box.walls()),
        },
        name="klein_gordon",
        exact=_solution,
        inputs=("t", "x"),
        time=0,
    )
