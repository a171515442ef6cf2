"""The advection equation: a sine that travels around its period many times."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from distgram.errors import ProblemError
from distgram.geometry.regions import Box
from distgram.pde.conditions import Initial
from distgram.pde.field import Field, Vector
from distgram.pde.problem import Problem, Term
from distgram.pde.registry import register


@register("advection")
def advection(speed: float = 30.0) -> Problem:
    """The advection equation with speed c.

        u_t + c u_x = 0  on [0, 1] x [0, 2 pi],     u(0, x) = sin(x),     2 pi-periodic in x
        exact solution:  u = sin(x - c t)

    No term demands that u is periodic. Give the network `periodic` features.

    Args: speed: c, finite, not 0.
    Raises: ProblemError for another speed.
    Source: Krishnapriyan et al., NeurIPS 34 (2021) 26548.
    """
    number = isinstance(speed, int | float) and not isinstance(speed, bool)
    if not (number and np.isfinite(speed) and speed != 0):
        raise ProblemError(f"advection: speed={speed!r}: expected a finite number other than 0.")

    def operator(u: Field) -> Field:
        def along(x: Float[Array, " 2"]) -> Vector:
            return jax.jvp(u, (x,), (jnp.array([1.0, speed], x.dtype),))[1]

        return along

    box = Box((0.0, 0.0), (1.0, 2 * np.pi))
    return Problem(
        box,
        {
            "interior": Term(operator, 0.0, box),
            "initial": Initial(lambda x: jnp.sin(x[1:]), box),
        },
        name="advection",
        exact=lambda x: jnp.sin(x[1:] - speed * x[:1]),
        inputs=("t", "x"),
        time=0,
        periods=(None, 2 * np.pi),
    )
