"""The lid-driven cavity: a steady flow in a square whose upper wall, the lid, moves. The speed of
the lid falls to zero at its two ends."""

from __future__ import annotations

from functools import cache

import numpy as np

from distgram.geometry.regions import Box, Faces, Sites
from distgram.pde.conditions import Dirichlet
from distgram.pde.problem import Problem, Reference, Term
from distgram.pde.problems.cavity_flow import flow
from distgram.pde.problems.navier_stokes import navier_stokes
from distgram.pde.problems.spectral import table
from distgram.pde.registry import register

REYNOLDS = 100.0


@cache
def _reference() -> Reference:
    nodes = (np.arange(101) + 0.5) / 101
    return table(nodes, nodes, flow(nodes, nodes, REYNOLDS))


@register("cavity")
def cavity() -> Problem:
    """The lid-driven cavity at Re = 100 with a smooth lid, of velocity (u1, u2) and pressure u3.

        (v . grad) v + grad p - (1/Re) Laplace v = 0,     div v = 0  on [0, 1]^2
        v = (4 x (1 - x), 0) at y = 1,     v = 0 on the other walls,     p = 0 at (1/2, 0)

    The equations determine the pressure up to a constant; the value at (1/2, 0) fixes the constant.
    At distance r from an upper corner the pressure grows as (8/Re) log r and the vorticity has no
    limit. The evaluation grid of 101 x 101 nodes therefore lies half a spacing inside the walls.

    The reference is a stream function: Legendre polynomials of degree 43 plus the singular
    functions of the two upper corners. It differs from the one of degree 59 by 3e-7 relative in L2,
    and its velocities by 7e-8.

    Source: Webb, Jerad, Cartis, arXiv 2607.02194.
    """
    box = Box((0.0, 0.0), (1.0, 1.0))
    middle = Sites(np.array([[0.5, 0.0]]))
    return Problem(
        box,
        {
            "interior": Term(navier_stokes(1 / REYNOLDS, (0, 1)), 0.0, box),
            "lid": Dirichlet(lambda x: 4 * x[0] * (1 - x[0]), box.face(1, 1), component=0),
            "walls": Dirichlet(0.0, Faces(box, ((0, 0), (0, 1), (1, 0))), component=0),
            "boundary_u2": Dirichlet(0.0, box.boundary, component=1),
            "gauge": Dirichlet(0.0, middle, component=2),
        },
        name="cavity",
        reference=_reference,
        outputs=3,
        inputs=("x", "y"),
    )
