"""The Allen-Cahn equation: slow diffusion against a fast two-phase reaction."""

from __future__ import annotations

from importlib import resources

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from distgram.operators import Field, along_curve, value
from distgram.problem import HardConstraint, Problem, Reference, Term
from distgram.regions import Box, Faces, Initial
from distgram.registry import register

DIFFUSIVITY = 1e-3
RATE = 5.0


def _operator(u: Field) -> Field:
    """u_t - D u_xx - 5 (u - u^3), the linear part by one derivative along a curve."""
    curve = along_curve(u, (0.0, DIFFUSIVITY**0.5), (-1.0, 0.0))

    def residual(x: Float[Array, " 2"]) -> Float[Array, " 1"]:
        u0, _, spread = curve(x)
        return -spread - RATE * (u0 - u0**3)

    return residual


def _initial(x: Float[Array, " 2"]) -> Float[Array, " 1"]:
    return x[1:] ** 2 * jnp.cos(jnp.pi * x[1:])


def _zero(x: Float[Array, " 2"]) -> Float[Array, " 1"]:
    return jnp.zeros(1, x.dtype)


def _minus_one(x: Float[Array, " 2"]) -> Float[Array, " 1"]:
    return -jnp.ones(1, x.dtype)


def _distance(x: Float[Array, " 2"]) -> Float[Array, " 1"]:
    return x[:1] * (1 - x[1:]) * (1 + x[1:])


def _reference() -> Reference:
    """The table of data/allen_cahn.npz, good to 1e-11; data/generate_allen_cahn.py remakes it."""
    with (
        resources.files("distgram").joinpath("problems/data/allen_cahn.npz").open("rb") as file,
        np.load(file) as table,
    ):
        t, x, u = table["t"], table["x"], table["u"]
    points = np.stack([g.ravel() for g in np.meshgrid(t, x, indexing="ij")], axis=-1)
    return Reference(points, u.reshape(-1, 1), (t, x))


@register("allen_cahn")
def allen_cahn() -> Problem:
    """The Allen-Cahn equation with D = 1e-3.

        u_t - D u_xx = 5 (u - u^3)  on [0, 1] x [-1, 1]
        u(0, x) = x^2 cos(pi x),     u(t, -1) = u(t, 1) = -1

    At the corners (0, -1) and (0, 1) the equation asks for u_t = D (pi^2 - 2), the boundary for 0:
    the solution is not smooth there. It has no closed form.

    Source: ANaGRAM, arXiv 2412.10782.
    """
    box = Box((0.0, -1.0), (1.0, 1.0))
    return Problem(
        name="allen_cahn",
        domain=box,
        terms=(
            Term("interior", _operator, _zero, box),
            Term("initial", value, _initial, Initial(box)),
            Term("boundary", value, _minus_one, Faces(box, ((1, 0), (1, 1)))),
        ),
        reference=_reference,
        inputs=("t", "x"),
        time=0,
        constraint=HardConstraint(
            lift=_initial, distance=_distance, satisfies=("initial", "boundary")
        ),
    )
