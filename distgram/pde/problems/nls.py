"""The nonlinear Schroedinger equation: two solitons bound at one place, which breathe."""

from __future__ import annotations

from functools import cache

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from distgram.geometry.regions import Box
from distgram.pde.conditions import Initial
from distgram.pde.field import Field
from distgram.pde.operators import jet2, partial
from distgram.pde.problem import Problem, Reference, Term
from distgram.pde.problems.spectral import Fourier, table
from distgram.pde.registry import register

HALF = 10.0  # of the period
UNTIL = np.pi / 2


def _operator(u: Field) -> Field:
    """The real and the imaginary part of  i h_t + h_xx / 2 + |h|^2 h,  h = u1 + i u2."""
    along, slope = jet2(u, 1), partial(u, 0)

    def residual(x: Float[Array, " 2"]) -> Float[Array, " 2"]:
        h, _, second = along(x)
        rate = slope(x)
        turned = jnp.stack([-rate[1], rate[0]])  # i h_t
        return turned + second / 2 + jnp.sum(h**2) * h

    return residual


def _initial(x: Float[Array, " 2"]) -> Float[Array, " 2"]:
    height = 2 / jnp.cosh(x[1])
    return jnp.stack([height, jnp.zeros_like(height)])


def solve(t: np.ndarray, x: np.ndarray, nodes: int = 4096, steps: int = 40) -> np.ndarray:
    """The complex solution at equidistant times t from 0 and places x, shape (t, x).

    Args: nodes: in x. steps: of ETDRK4 between two times.
    """
    grid = Fourier(-HALF, 2 * HALF, nodes, real=False)

    def force(c: np.ndarray) -> np.ndarray:
        h = grid.values(c)
        return 1j * grid.modes(np.abs(h) ** 2 * h)

    start = grid.modes(2 / np.cosh(grid.x))
    c = grid.evolve(start, lambda ik: 0.5j * ik**2, force, t, steps)
    h = grid.at(x, np.array(list(c)))
    h[0] = 2 / np.cosh(x)  # its series is 1e-8 off near the kink
    return h


@cache
def _reference() -> Reference:
    t, x = np.linspace(0.0, UNTIL, 101), np.linspace(-HALF, HALF, 201)
    h = solve(t, x)
    return table(t, x, np.stack([np.real(h), np.imag(h)], axis=-1))


@register("nls")
def nls() -> Problem:
    """The focusing nonlinear Schroedinger equation, h = u1 + i u2.

        i h_t + h_xx / 2 + |h|^2 h = 0  on [0, pi/2] x [-10, 10]
        h(0, x) = 2 / cosh(x),     20-periodic in x

    No term says that h is periodic: the network must be, by its features. The initial values are
    so but for a kink at x = 10, where the slope jumps by 3.6e-4. (On [-5, 5], which others take, it
    jumps by 5e-2.) On the whole line h is a breather in closed form, from which the periodic
    solution departs by 1e-5 for |x| < 5 and by 2e-4 at x = 10.

    The reference is a Fourier series of 4096 nodes, in time by ETDRK4. The kink slows its
    convergence: against 8192 nodes, or half the step in time, it errs by 1e-8 relative in L2.

    Source: Raissi, Perdikaris, Karniadakis, J. Comput. Phys. 378 (2019) 686, on [-5, 5].
    """
    box = Box((0.0, -HALF), (UNTIL, HALF))
    return Problem(
        box,
        {"interior": Term(_operator, 0.0, box), "initial": Initial(_initial, box)},
        name="nls",
        reference=_reference,
        outputs=2,
        inputs=("t", "x"),
        time=0,
        periods=(None, 2 * HALF),
    )
