"""The heat equation on a rod whose ends are kept cold."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from distgram.errors import ProblemError
from distgram.geometry.regions import Box
from distgram.pde.conditions import Dirichlet, Initial
from distgram.pde.field import Field
from distgram.pde.operators import along_curve
from distgram.pde.problem import HardConstraint, Problem, Term
from distgram.pde.registry import register

DIFFUSIVITY = 0.25


def _operator(u: Field) -> Field:
    """u_t - D u_xx, as minus the second derivative along the curve (t - e^2/2, x + e sqrt(D))."""
    curve = along_curve(u, (0.0, DIFFUSIVITY**0.5), (-1.0, 0.0))
    return lambda x: -curve(x)[2]


def _distance(x: Float[Array, " 2"]) -> Float[Array, " 1"]:
    return 4 * x[:1] * x[1:] * (1 - x[1:])


@register("heat")
def heat(frequency: int = 1) -> Problem:
    """The heat equation with D = 1/4.

        u_t = D u_xx  on [0, 1]^2,     u(0, x) = sin(k pi x),     u = 0 at x = 0 and x = 1
        exact solution:  u = exp(-D k^2 pi^2 t) sin(k pi x)

    Args:
        frequency: k, a whole number >= 1: half waves over the rod.

    Source: ANaGRAM, arXiv 2412.10782, k = 1.
    """
    if isinstance(frequency, bool) or not isinstance(frequency, int) or frequency < 1:
        raise ProblemError(f"heat: frequency={frequency!r}: expected an integer >= 1.")
    box, wave = Box((0.0, 0.0), (1.0, 1.0)), frequency * jnp.pi

    def initial(x: Float[Array, " 2"]) -> Float[Array, " 1"]:
        return jnp.sin(wave * x[1:])

    def solution(x: Float[Array, " 2"]) -> Float[Array, " 1"]:
        return jnp.exp(-DIFFUSIVITY * wave**2 * x[:1]) * jnp.sin(wave * x[1:])

    return Problem(
        box,
        {
            "interior": Term(_operator, 0.0, box),
            "initial": Initial(initial, box),
            "boundary": Dirichlet(0.0, box.walls()),
        },
        name="heat",
        exact=solution,
        inputs=("t", "x"),
        time=0,
        constraint=HardConstraint(
            lift=initial, distance=_distance, satisfies=("initial", "boundary")
        ),
    )
