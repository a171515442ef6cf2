"""A Poisson equation with an exponential, solved by a wave of chosen number."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from distgram.errors import ProblemError
from distgram.geometry.regions import Box
from distgram.pde.conditions import Dirichlet
from distgram.pde.field import Field
from distgram.pde.operators import value_gradient_laplacian
from distgram.pde.problem import HardConstraint, Problem, Term
from distgram.pde.registry import register


def _operator(u: Field) -> Field:
    both = value_gradient_laplacian(u)

    def residual(x: Float[Array, " 2"]) -> Float[Array, " 1"]:
        u0, _, delta = both(x)
        return delta - jnp.exp(u0)

    return residual


@register("poisson_nonlinear")
def poisson_nonlinear(k: int = 1) -> Problem:
    """Poisson's equation with an exponential of the solution.

        u_xx + u_yy - exp(u) = f  on [-1, 1]^2,     u given on the boundary
        exact solution:  u = 1 + sin(k pi x) cos(k pi y),            f by substitution

    The lift of the hard constraint is  1 + (-1)^k sin(k pi x), the values at y = -1 and y = 1; it
    is 1 at x = -1 and x = 1, as the solution is for a whole k.

    Args: k: wave number, whole, >= 1, dimensionless.
    Raises: ProblemError for another k.
    Source: Urban, Stefanou, Pons, J. Comput. Phys. 523 (2025) 113656.
    """
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise ProblemError(f"poisson_nonlinear: k={k!r}: expected a whole number >= 1.")

    def wave(x: Float[Array, " 2"]) -> Float[Array, " 1"]:
        return jnp.sin(k * jnp.pi * x[:1]) * jnp.cos(k * jnp.pi * x[1:])

    def solution(x: Float[Array, " 2"]) -> Float[Array, " 1"]:
        return 1 + wave(x)

    def source(x: Float[Array, " 2"]) -> Float[Array, " 1"]:
        return -2 * (k * jnp.pi) ** 2 * wave(x) - jnp.exp(1 + wave(x))

    def lift(x: Float[Array, " 2"]) -> Float[Array, " 1"]:
        return 1 + (-1) ** k * jnp.sin(k * jnp.pi * x[:1])

    def distance(x: Float[Array, " 2"]) -> Float[Array, " 1"]:
        return jnp.prod((1 - x) * (1 + x))[None]

    box = Box((-1.0, -1.0), (1.0, 1.0))
    return Problem(
        box,
        {
            "interior": Term(_operator, source, box),
            "boundary": Dirichlet(solution, box.boundary),
        },
        name="poisson_nonlinear",
        exact=solution,
        inputs=("x", "y"),
        constraint=HardConstraint(lift=lift, distance=distance, satisfies=("boundary",)),
    )
