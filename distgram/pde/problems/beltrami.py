"""Beltrami flow: an unsteady exact solution of the Navier-Stokes equations in three dimensions."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from distgram.geometry.quadrature import clenshaw_curtis
from distgram.geometry.regions import Box, Sites
from distgram.pde.conditions import Dirichlet
from distgram.pde.field import Field
from distgram.pde.problem import Problem, Term
from distgram.pde.problems.navier_stokes import navier_stokes
from distgram.pde.registry import register

INSTANTS = 17  # at which the pressure is given


def _solution(x: Float[Array, " 4"]) -> Float[Array, " 4"]:
    decay, place = jnp.exp(-x[0]), x[1:]
    after, last = jnp.roll(place, -1), jnp.roll(place, -2)  # (y, z, x), (z, x, y)
    velocity = -decay * (
        jnp.exp(place) * jnp.sin(after + last) + jnp.exp(last) * jnp.cos(place + after)
    )
    mixed = jnp.sin(place + after) * jnp.cos(last + place) * jnp.exp(after + last)
    pressure = -(decay**2) * jnp.sum(jnp.exp(2 * place) / 2 + mixed)
    return jnp.append(velocity, pressure)


def _velocity(u: Field) -> Field:
    return lambda x: u(x)[:3]


@register("beltrami")
def beltrami() -> Problem:
    """Beltrami flow with a = d = 1 and Re = 1, of velocity (u1, u2, u3) and pressure u4.

        v_t + (v . grad) v + grad p - Laplace v = 0,     div v = 0  on [0, 1] x [-1, 1]^3
        v given at t = 0 and on the boundary,     p at the corner (-1, -1, -1)
        u1 = -(exp(x) sin(y + z) + exp(z) cos(x + y)) exp(-t),   u2 and u3 by turning (x, y, z)
        p = -(sum of exp(2 x)/2 + sin(x + y) cos(z + x) exp(y + z) over the turns) exp(-2 t)

    The velocities alone leave the pressure open by a function of time, which its values at one
    corner settle, at 17 instants (Clenshaw-Curtis nodes).

    Source: Ethier, Steinman, Int. J. Numer. Meth. Fluids 19 (1994) 369, eq. (15).
    """
    box = Box((0.0, -1.0, -1.0, -1.0), (1.0, 1.0, 1.0, 1.0))
    instants, _ = clenshaw_curtis(INSTANTS)
    corner = Sites(np.column_stack([instants, -np.ones((INSTANTS, 3))]))
    walls = {
        f"boundary_u{i + 1}": Dirichlet(lambda x, i=i: _solution(x)[i], box.walls(), component=i)
        for i in range(3)
    }
    return Problem(
        box,
        {
            "interior": Term(navier_stokes(1.0, (1, 2, 3), time=0), 0.0, box),
            "initial": Term(_velocity, _velocity(_solution), box.start()),
            **walls,
            "gauge": Dirichlet(lambda x: _solution(x)[3], corner, component=3),
        },
        name="beltrami",
        exact=_solution,
        outputs=4,
        inputs=("t", "x", "y", "z"),
        time=0,
    )
