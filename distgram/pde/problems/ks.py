"""The Kuramoto-Sivashinsky equation on its way to chaos."""

from __future__ import annotations

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.jet import jet
from jaxtyping import Array, Float

from distgram.errors import ProblemError
from distgram.geometry.regions import Box
from distgram.pde import operators
from distgram.pde.conditions import Initial
from distgram.pde.field import Field
from distgram.pde.problem import Problem, Reference, Term
from distgram.pde.problems.spectral import Fourier, table
from distgram.pde.registry import register

STEEPENING, GROWTH, DAMPING = 100 / 16, 100 / 16**2, 100 / 16**4  # alpha, beta, gamma
PERIOD = 2 * np.pi


def _operator(u: Field) -> Field:
    """All derivatives by one Taylor series along the curve (t + e^4/24, x + e gamma^(1/4)).

    Its fourth coefficient is gamma u_xxxx + u_t. That takes half the time of nested derivatives,
    which follow where jax lacks the series of a function in u, as of softplus or of jnp.prod.
    """
    root = DAMPING**0.25

    def series(x: Float[Array, " 2"]) -> Float[Array, " 1"]:
        along, none = jnp.array([0.0, root], x.dtype), jnp.zeros_like(x)
        drift = jnp.array([1.0, 0.0], x.dtype)
        u0, (first, second, _, fourth) = jet(u, (x,), ((along, none, none, drift),))
        return STEEPENING / root * u0 * first + GROWTH / root**2 * second + fourth

    def nested(x: Float[Array, " 2"]) -> Float[Array, " 1"]:
        u_t, u_x, u_xx, u_xxxx = (
            operators.partial(u, *which)(x) for which in ((0,), (1,), (1, 2), (1, 4))
        )
        return u_t + STEEPENING * u(x) * u_x + GROWTH * u_xx + DAMPING * u_xxxx

    def residual(x: Float[Array, " 2"]) -> Float[Array, " 1"]:
        try:
            return series(x)
        except (KeyError, NotImplementedError, jax.errors.UnexpectedTracerError):
            return nested(x)

    return residual


def solve(t: np.ndarray, x: np.ndarray, nodes: int = 384, steps: int = 160) -> np.ndarray:
    """The solution at equidistant times t from 0 and places x, shape (t, x).

    Args: nodes: in x. steps: of ETDRK4 between two times.
    """
    grid = Fourier(0.0, PERIOD, nodes)

    def linear(ik: np.ndarray) -> np.ndarray:
        return (-GROWTH * ik**2 - DAMPING * ik**4).real

    def force(c: np.ndarray) -> np.ndarray:
        return -STEEPENING * grid.ik * grid.modes(grid.values(c) ** 2) / 2

    start = grid.modes(np.cos(grid.x) * (1 + np.sin(grid.x)))
    return grid.at(x, np.array(list(grid.evolve(start, linear, force, t, steps))))


@cache
def _reference(until: float) -> Reference:
    t, x = np.linspace(0.0, until, 101), np.linspace(0.0, PERIOD, 201)
    return table(t, x, solve(t, x))


def _initial(x: Float[Array, " 2"]) -> Float[Array, " 1"]:
    return jnp.cos(x[1:]) * (1 + jnp.sin(x[1:]))


@register("ks")
def ks(until: float = 0.5) -> Problem:
    """The Kuramoto-Sivashinsky equation with alpha = 100/16, beta = 100/16^2, gamma = 100/16^4.

        u_t + alpha u u_x + beta u_xx + gamma u_xxxx = 0  on [0, T] x [0, 2 pi]
        u(0, x) = cos(x) (1 + sin(x)),     2 pi-periodic in x

    No term says that u is periodic: the network must be, by its features. A small disturbance grows
    by up to exp(25 t), so that an error early in time weighs heavily.

    The reference is a Fourier series of 384 nodes, in time by ETDRK4. Against 512 nodes and a
    quarter of the step in time it errs by 5e-11 relative in L2 for T = 0.5,
    by 2e-8 for T = 1.

    Args: until: T, in (0, 1].
    Raises: ProblemError for another T.
    Source: Wang, Sankaran, Wang, Perdikaris, arXiv 2308.08468, sec. 7.
    """
    number = isinstance(until, int | float) and not isinstance(until, bool)
    if not (number and 0 < until <= 1):
        raise ProblemError(f"ks: until={until!r}: expected a number in (0, 1].")
    box = Box((0.0, 0.0), (float(until), PERIOD))
    return Problem(
        box,
        {"interior": Term(_operator, 0.0, box), "initial": Initial(_initial, box)},
        name="ks",
        reference=partial(_reference, float(until)),
        inputs=("t", "x"),
        time=0,
        periods=(None, PERIOD),
    )
