"""The Allen-Cahn equation: slow diffusion against a fast two-phase reaction."""

from __future__ import annotations

from importlib import resources

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erfc
from jaxtyping import Array, Float

from distgram.errors import ProblemError
from distgram.geometry.regions import Box
from distgram.pde.conditions import Dirichlet, Initial
from distgram.pde.field import Field
from distgram.pde.operators import along_curve
from distgram.pde.problem import HardConstraint, Problem, Reference, Term
from distgram.pde.registry import register

DIFFUSIVITY = 1e-3
RATE = 5.0
# What the equation asks of u_t at the corners, where the boundary values ask for 0: D (π² - 2).
CORNER = DIFFUSIVITY * (np.pi**2 - 2)
TINY = 1e-12  # a time at which every layer is thinner than any distance of two points


def _operator(u: Field) -> Field:
    """u_t - D u_xx - 5 (u - u^3), the linear part by one derivative along a curve."""
    curve = along_curve(u, (0.0, DIFFUSIVITY**0.5), (-1.0, 0.0))

    def residual(x: Float[Array, " 2"]) -> Float[Array, " 1"]:
        u0, _, spread = curve(x)
        return -spread - RATE * (u0 - u0**3)

    return residual


def _initial(x: Float[Array, " 2"]) -> Float[Array, " 1"]:
    return x[1:] ** 2 * jnp.cos(jnp.pi * x[1:])


def _corner_layer(t: Float[Array, " 1"], d: Float[Array, " 1"]) -> Float[Array, " 1"]:
    """t 4i²erfc(η),  η = d / (2 √(D t)):  v of  v_t = D v_dd,  v(0, d) = 0,  v(t, 0) = t.

    4i²erfc(η) = (1 + 2η²) erfc(η) - 2η exp(-η²)/√π.  Source: Carslaw, Jaeger (1959), sec. 2.5.
    """
    eta = d / (2.0 * jnp.sqrt(DIFFUSIVITY * jnp.maximum(t, TINY)))
    return t * ((1 + 2 * eta**2) * erfc(eta) - 2 * eta * jnp.exp(-(eta**2)) / jnp.sqrt(jnp.pi))


def _lift(x: Float[Array, " 2"]) -> Float[Array, " 1"]:
    """The initial values, and what the corners ask for: a t inside, falling to 0 at x = -1, 1."""
    t, place = x[:1], x[1:]
    layers = _corner_layer(t, 1 - place) + _corner_layer(t, 1 + place)
    return _initial(x) + CORNER * (t - layers)


def _distance(x: Float[Array, " 2"]) -> Float[Array, " 1"]:
    return x[:1] * (1 - x[1:]) * (1 + x[1:])


def _reference() -> Reference:
    """The table of data/allen_cahn.npz, good to 1e-11; data/generate_allen_cahn.py remakes it."""
    table_file = resources.files("distgram.pde.problems").joinpath("data/allen_cahn.npz")
    with table_file.open("rb") as file, np.load(file) as table:
        t, x, u = table["t"], table["x"], table["u"]
    points = np.stack([g.ravel() for g in np.meshgrid(t, x, indexing="ij")], axis=-1)
    return Reference(points, u.reshape(-1, 1), (t, x))


@register("allen_cahn")
def allen_cahn(corner: bool = True) -> Problem:
    """The Allen-Cahn equation with D = 1e-3.

        u_t - D u_xx = 5 (u - u^3)  on [0, 1] x [-1, 1]
        u(0, x) = x^2 cos(pi x),     u(t, -1) = u(t, 1) = -1

    At the corners (0, -1) and (0, 1) the equation asks for u_t = D (pi^2 - 2), the boundary for 0:
    the solution is not smooth there. It has no closed form. The lift of the hard constraint holds
    the leading term of that, a layer of heat conduction, so that what is left to the network is
    twice smoother.

    Args: corner: whether the lift does so; else it is the initial values.
    Raises: ProblemError where that is neither true nor false.
    Source: ANaGRAM, arXiv 2412.10782.
    """
    if not isinstance(corner, bool):
        raise ProblemError(f"allen_cahn: corner={corner!r}: expected true or false.")
    box = Box((0.0, -1.0), (1.0, 1.0))
    return Problem(
        box,
        {
            "interior": Term(_operator, 0.0, box),
            "initial": Initial(_initial, box),
            "boundary": Dirichlet(-1.0, box.walls()),
        },
        name="allen_cahn",
        reference=_reference,
        inputs=("t", "x"),
        time=0,
        constraint=HardConstraint(
            lift=_lift if corner else _initial,
            distance=_distance,
            satisfies=("initial", "boundary"),
        ),
    )
