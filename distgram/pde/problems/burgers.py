"""Burgers' equation: a sine that steepens into a shock of width ~ viscosity."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from distgram.errors import ProblemError
from distgram.geometry.regions import Box
from distgram.pde.conditions import Dirichlet, Initial
from distgram.pde.field import Field
from distgram.pde.operators import along_curve
from distgram.pde.problem import HardConstraint, Problem, Reference, Term
from distgram.pde.registry import register


def cole_hopf(t: np.ndarray, x: np.ndarray, viscosity: float, spacing: float = 0.024) -> np.ndarray:
    """The solution at times t and places x by the Cole-Hopf transformation, shape (t, x).

        u = - int sin(pi (x - s z)) exp(E) dz / int exp(E) dz
        E = -cos(pi (x - s z)) / (2 pi nu) - z^2,     s = sqrt(4 nu t)

    by the trapezoidal rule, whose error falls as exp(-const / spacing). E is shifted by its
    maximum. It lies within 1/(2 pi nu) of -z^2, so that beyond z^2 = 1/(pi nu) + 40 the integrand
    is below exp(-40) of its maximum.

    Args:
        t: times >= 0, shape (t,).
        x: places, shape (x,).
        viscosity: nu, > 0.
        spacing: distance of the nodes in z, dimensionless.

    Source: Basdevant et al., Comput. Fluids 14 (1986) 23.
    """
    half = int(np.ceil(np.sqrt(1 / (np.pi * viscosity) + 40) / spacing))
    z = spacing * np.arange(-half, half + 1)

    def at(time: float) -> np.ndarray:
        if time == 0:
            return -np.sin(np.pi * x)  # s = 0: to the last bit
        angle = np.pi * (x[:, None] - np.sqrt(4 * viscosity * time) * z)
        exponent = -np.cos(angle) / (2 * np.pi * viscosity) - z**2
        weight = np.exp(exponent - exponent.max(axis=1, keepdims=True))
        return -(np.sin(angle) * weight).sum(1) / weight.sum(1)

    return np.array([at(time) for time in t])


def _reference(viscosity: float) -> Reference:
    t, x = np.linspace(0.0, 1.0, 101), np.linspace(-1.0, 1.0, 201)
    points = np.stack([g.ravel() for g in np.meshgrid(t, x, indexing="ij")], axis=-1)
    return Reference(points, cole_hopf(t, x, viscosity).reshape(-1, 1), (t, x))


def _initial(x: Float[Array, " 2"]) -> Float[Array, " 1"]:
    return -jnp.sin(jnp.pi * x[1:])


def _distance(x: Float[Array, " 2"]) -> Float[Array, " 1"]:
    return x[:1] * jnp.sin(jnp.pi * x[1:])


@register("burgers")
def burgers(viscosity: float = 0.01 / np.pi) -> Problem:
    """Burgers' equation with viscosity nu.

        u_t + u u_x = nu u_xx  on [0, 1] x [-1, 1]
        u(0, x) = -sin(pi x),     u(t, -1) = u(t, 1) = 0

    The solution is odd, and continues smoothly with period 2 in x: it vanishes at x = 0 as well,
    so that the hard constraint  u = -sin(pi x) + t sin(pi x) n(t, x)  leaves a smooth periodic n.

    Args: viscosity: nu, finite, > 0; or a traced value of it.
    Raises: ProblemError for another viscosity.
    Source: Raissi, Perdikaris, Karniadakis, J. Comput. Phys. 378 (2019) 686.
    """
    if isinstance(viscosity, bool) or not isinstance(viscosity, int | float | jax.Array):
        raise ProblemError(f"burgers: viscosity={viscosity!r}: expected a number > 0.")
    traced = isinstance(viscosity, jax.Array)  # an unknown of the run, > 0 if it is so declared
    if not traced and not (np.isfinite(viscosity) and viscosity > 0):
        raise ProblemError(f"burgers: viscosity={viscosity!r}: expected a finite number > 0.")
    root = viscosity**0.5

    def operator(u: Field) -> Field:
        curve = along_curve(u, (0.0, root), (-1.0, 0.0))  # u, root u_x, nu u_xx - u_t

        def residual(x: Float[Array, " 2"]) -> Float[Array, " 1"]:
            u0, slope, spread = curve(x)
            return u0 * slope / root - spread

        return residual

    box = Box((0.0, -1.0), (1.0, 1.0))
    return Problem(
        box,
        {
            "interior": Term(operator, 0.0, box),
            "initial": Initial(_initial, box),
            "boundary": Dirichlet(0.0, box.walls()),
        },
        name="burgers",
        reference=partial(_reference, viscosity),
        inputs=("t", "x"),
        time=0,
        constraint=HardConstraint(
            lift=_initial, distance=_distance, satisfies=("initial", "boundary")
        ),
        periods=(None, 2.0),
    )
