"""The wave equation on a string with two modes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from distgram.geometry.regions import Box
from distgram.pde.conditions import Dirichlet, Initial
from distgram.pde.field import Field, Vector
from distgram.pde.problem import Problem, Term
from distgram.pde.registry import register

SPEED = 2.0


def dalembertian(u: Field, speed: float) -> Field:
    """u_tt - c^2 u_xx  of a field of (t, x), as the mixed derivative along (1, c) and (1, -c).

    That is one second derivative where the sum takes two.
    """

    def derivative(x: Float[Array, " 2"]) -> Vector:
        def right(x: Float[Array, " 2"]) -> Vector:
            return jax.jvp(u, (x,), (jnp.array([1.0, speed], x.dtype),))[1]

        return jax.jvp(right, (x,), (jnp.array([1.0, -speed], x.dtype),))[1]

    return derivative


def _operator(u: Field) -> Field:
    return dalembertian(u, SPEED)


def _solution(x: Float[Array, " 2"]) -> Float[Array, " 1"]:
    t, place = jnp.pi * SPEED * x[:1], jnp.pi * x[1:]
    return jnp.sin(place) * jnp.cos(t) + jnp.sin(4 * place) * jnp.cos(4 * t) / 2


def _initial(x: Float[Array, " 2"]) -> Float[Array, " 1"]:
    return jnp.sin(jnp.pi * x[1:]) + jnp.sin(4 * jnp.pi * x[1:]) / 2


@register("wave")
def wave() -> Problem:
    """The wave equation with c = 2.

        u_tt = c^2 u_xx  on [0, 1]^2,     u = 0 at x = 0 and x = 1
        u(0, x) = sin(pi x) + sin(4 pi x) / 2,     u_t(0, x) = 0
        exact solution:  u = sin(pi x) cos(2 pi t) + sin(4 pi x) cos(8 pi t) / 2

    Source: Wang, Yu, Perdikaris, J. Comput. Phys. 449 (2022) 110768.
    """
    box = Box((0.0, 0.0), (1.0, 1.0))
    return Problem(
        box,
        {
            "interior": Term(_operator, 0.0, box),
            "initial": Initial(_initial, box, velocity=0.0),
            "boundary": Dirichlet(0.0, box.walls()),
        },
        name="wave",
        exact=_solution,
        inputs=("t", "x"),
        time=0,
    )
