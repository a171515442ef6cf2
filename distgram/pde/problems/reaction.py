"""Logistic growth from a Gaussian: an ordinary differential equation at every place."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from distgram.geometry.regions import Box
from distgram.pde.conditions import Initial
from distgram.pde.field import Field
from distgram.pde.operators import partial
from distgram.pde.problem import Problem, Term
from distgram.pde.registry import register

RATE = 5.0


def _operator(u: Field) -> Field:
    slope = partial(u, 0)

    def residual(x: Float[Array, " 2"]) -> Float[Array, " 1"]:
        u0 = u(x)
        return slope(x) - RATE * u0 * (1 - u0)

    return residual


def _initial(x: Float[Array, " 2"]) -> Float[Array, " 1"]:
    return jnp.exp(-(((x[1:] - jnp.pi) / (jnp.pi / 4)) ** 2) / 2)


def _solution(x: Float[Array, " 2"]) -> Float[Array, " 1"]:
    start = _initial(x)
    return start / (start + (1 - start) * jnp.exp(-RATE * x[:1]))


@register("reaction")
def reaction() -> Problem:
    """The reaction equation with rho = 5.

        u_t = rho u (1 - u)  on [0, 1] x [0, 2 pi]
        u(0, x) = h(x) = exp(-(x - pi)^2 / (2 (pi/4)^2))
        exact solution:  u = h exp(rho t) / (h exp(rho t) + 1 - h)

    The initial values alone decide the solution: no derivative in x occurs. The source asks for
    u(t, 0) = u(t, 2 pi) besides, which holds by symmetry; as a periodic function u would have a
    kink at x = 0, so that no period is stated here.

    Source: Krishnapriyan et al., NeurIPS 34 (2021) 26548, sec. 3.2.
    """
    box = Box((0.0, 0.0), (1.0, 2 * np.pi))
    return Problem(
        box,
        {"interior": Term(_operator, 0.0, box), "initial": Initial(_initial, box)},
        name="reaction",
        exact=_solution,
        inputs=("t", "x"),
        time=0,
    )
