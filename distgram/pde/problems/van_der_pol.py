"""The Van der Pol oscillator: an ordinary differential equation with a limit cycle."""

from __future__ import annotations

from functools import cache

import numpy as np
from jaxtyping import Array, Float
from scipy.integrate import solve_ivp

from distgram.geometry.regions import Box
from distgram.pde.conditions import Initial
from distgram.pde.field import Field
from distgram.pde.operators import jet2
from distgram.pde.problem import Problem, Reference, Term
from distgram.pde.registry import register

STIFFNESS = 1.0
UNTIL = 10.0
START = 2.0


def _operator(u: Field) -> Field:
    along = jet2(u, 0)

    def residual(x: Float[Array, " 1"]) -> Float[Array, " 1"]:
        u0, first, second = along(x)
        return second - STIFFNESS * (1 - u0**2) * first + u0

    return residual


def solve(t: np.ndarray, longest: float = 0.02) -> np.ndarray:
    """The solution at ascending times t, t[0] = 0, by DOP853, shape (t,).

    Args: longest: of the steps; it bounds the error of the interpolation between them.
    """

    def slope(_: float, y: np.ndarray) -> list[float]:
        return [y[1], STIFFNESS * (1 - y[0] ** 2) * y[1] - y[0]]

    found = solve_ivp(
        slope, (t[0], t[-1]), (START, 0.0), "DOP853", t, rtol=1e-13, atol=1e-14, max_step=longest
    )
    return found.y[0]


@cache
def _reference() -> Reference:
    t = np.linspace(0.0, UNTIL, 1001)
    return Reference(t[:, None], solve(t)[:, None], (t,))


@register("van_der_pol")
def van_der_pol() -> Problem:
    """The Van der Pol oscillator with mu = 1, for one and a half rounds of its limit cycle.

        u'' - mu (1 - u^2) u' + u = 0  on [0, 10],     u(0) = 2,     u'(0) = 0

    The reference is made by DOP853 with steps of at most 0.02; steps a quarter
    as long change it by 2e-14.

    Source: Van der Pol, Phil. Mag. 2 (1926) 978.
    """
    box = Box((0.0,), (UNTIL,))
    return Problem(
        box,
        {
            "interior": Term(_operator, 0.0, box),
            "initial": Initial(START, box, velocity=0.0),
        },
        name="van_der_pol",
        reference=_reference,
        inputs=("t",),
        time=0,
    )
