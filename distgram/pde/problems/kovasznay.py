"""Kovasznay flow: a steady laminar wake behind a grid."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from distgram.geometry.regions import Box, Sites
from distgram.pde.conditions import Dirichlet
from distgram.pde.problem import Problem, Term
from distgram.pde.problems.navier_stokes import navier_stokes
from distgram.pde.registry import register

REYNOLDS = 40.0
RATE = REYNOLDS / 2 - (REYNOLDS**2 / 4 + 4 * jnp.pi**2) ** 0.5  # lambda


def _solution(x: Float[Array, " 2"]) -> Float[Array, " 3"]:
    grow, turn = jnp.exp(RATE * x[0]), 2 * jnp.pi * x[1]
    return jnp.stack(
        [
            1 - grow * jnp.cos(turn),
            RATE / (2 * jnp.pi) * grow * jnp.sin(turn),
            (1 - grow**2) / 2,
        ]
    )


@register("kovasznay")
def kovasznay() -> Problem:
    """Kovasznay flow at Re = 40, of velocity (u1, u2) and pressure u3.

        (v . grad) v + grad p - (1/Re) Laplace v = 0,     div v = 0  on [-1/2, 1] x [-1/2, 3/2]
        v given on the boundary,     p at its corner (-1/2, -1/2)
        u1 = 1 - exp(lambda x) cos(2 pi y),     u2 = lambda exp(lambda x) sin(2 pi y) / (2 pi)
        p = (1 - exp(2 lambda x)) / 2,          lambda = Re/2 - sqrt(Re^2/4 + 4 pi^2)

    The velocities alone leave the pressure open by a constant, which the one value of it settles.

    Source: Kovasznay, Proc. Camb. Phil. Soc. 44 (1948) 58; box of Jin, Cai, Li, Karniadakis,
    J. Comput. Phys. 426 (2021) 109951.
    """
    box = Box((-0.5, -0.5), (1.0, 1.5))
    corner = Sites(np.array([box.lower]))
    return Problem(
        box,
        {
            "interior": Term(navier_stokes(1 / REYNOLDS, (0, 1)), 0.0, box),
            "boundary_u1": Dirichlet(lambda x: _solution(x)[0], box.boundary, component=0),
            "boundary_u2": Dirichlet(lambda x: _solution(x)[1], box.boundary, component=1),
            "gauge": Dirichlet(lambda x: _solution(x)[2], corner, component=2),
        },
        name="kovasznay",
        exact=_solution,
        outputs=3,
        inputs=("x", "y"),
    )
