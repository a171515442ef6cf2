"""Convection with diffusion: a sine that travels and decays."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from distgram.geometry.regions import Box
from distgram.pde.conditions import Initial
from distgram.pde.field import Field
from distgram.pde.operators import along_curve
from distgram.pde.problem import Problem, Term
from distgram.pde.registry import register

SPEED, DIFFUSIVITY = 30.0, 1.0


def _operator(u: Field) -> Field:
    """u_t + c u_x - nu u_xx, as minus the second derivative along a curve."""
    curve = along_curve(u, (0.0, DIFFUSIVITY**0.5), (-1.0, -SPEED))
    return lambda x: -curve(x)[2]


def _solution(x: Float[Array, " 2"]) -> Float[Array, " 1"]:
    return jnp.exp(-DIFFUSIVITY * x[:1]) * jnp.sin(x[1:] - SPEED * x[:1])


@register("convection_diffusion")
def convection_diffusion() -> Problem:
    """Convection with c = 30 and diffusion with nu = 1.

        u_t + c u_x = nu u_xx  on [0, 1] x [0, 2 pi],     u(0, x) = sin(x),     2 pi-periodic in x
        exact solution:  u = exp(-nu t) sin(x - c t)

    No term says that u is periodic: the network must be, by its features.

    Source: Krishnapriyan et al., NeurIPS 34 (2021) 26548: the equation and the initial values of
    its code, with c of its convection problem and nu as the code sets it by default.
    """
    box = Box((0.0, 0.0), (1.0, 2 * np.pi))
    return Problem(
        box,
        {
            "interior": Term(_operator, 0.0, box),
            "initial": Initial(lambda x: jnp.sin(x[1:]), box),
        },
        name="convection_diffusion",
        exact=_solution,
        inputs=("t", "x"),
        time=0,
        periods=(None, 2 * np.pi),
    )
