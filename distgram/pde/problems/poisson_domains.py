"""Poisson's equation on domains that are no boxes, with exact solutions."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from distgram.geometry.regions import Box
from distgram.geometry.shapes import Annulus, Ball, Disk
from distgram.pde.conditions import Dirichlet, Neumann
from distgram.pde.operators import laplacian
from distgram.pde.problem import Problem, Term
from distgram.pde.registry import register


@register("poisson_disk")
def poisson_disk() -> Problem:
    """Poisson's equation on the unit disk.

    u_xx + u_yy = f,     u = 0 on the circle,     u = (1 - x² - y²) exp(x)
    """
    disk = Disk()
    return _bump(disk, "poisson_disk", ("x", "y"))


@register("poisson_ball")
def poisson_ball() -> Problem:
    """Poisson's equation on the unit ball.

    u_xx + u_yy + u_zz = f,     u = 0 on the sphere,     u = (1 - x² - y² - z²) exp(x)
    """
    return _bump(Ball(), "poisson_ball", ("x", "y", "z"))


def _bump(domain: Disk | Ball, name: str, inputs: tuple[str, ...]) -> Problem:
    d = domain.dim

    def exact(x: Float[Array, " d"]) -> Float[Array, " 1"]:
        return ((1 - x @ x) * jnp.exp(x[0]))[None]

    def source(x: Float[Array, " d"]) -> Float[Array, " 1"]:
        return ((1 - x @ x - 4 * x[0] - 2 * d) * jnp.exp(x[0]))[None]

    terms = {
        "interior": Term(laplacian, source, domain),
        "boundary": Dirichlet(0.0, domain.boundary),
    }
    return Problem(domain, terms, name=name, exact=exact, inputs=inputs)


@register("laplace_annulus")
def laplace_annulus() -> Problem:
    """Laplace's equation on the annulus 1/2 <= r <= 1, no flux through the inner circle.

    u_xx + u_yy = 0,     du/dn = 0 at r = 1/2,     u = u* at r = 1
    u* = (r + 1/(4 r)) cos φ + (r² + 1/(16 r²)) sin 2φ
    """
    ring = Annulus((0.0, 0.0), 0.5, 1.0)

    def exact(x: Float[Array, " 2"]) -> Float[Array, " 1"]:
        square = x @ x
        first = x[0] * (1 + 0.25 / square)
        return (first + 2 * x[0] * x[1] * (1 + 1 / (16 * square**2)))[None]

    terms = {
        "interior": Term(laplacian, 0.0, ring),
        "inner": Neumann(0.0, ring.boundary.part("inner")),
        "outer": Dirichlet(exact, ring.boundary.part("outer")),
    }
    return Problem(ring, terms, name="laplace_annulus", exact=exact, inputs=("x", "y"))


@register("poisson_annulus")
def poisson_annulus() -> Problem:
    """Poisson's equation on the annulus 1/2 <= r <= 1, no flux through the inner circle: the flow
    along a pipe about a rod that slips.

        u_xx + u_yy = -1,     du/dn = 0 at r = 1/2,     u = 0 at r = 1
        u = (1 - r²) / 4 + log(r) / 8
    """
    ring = Annulus((0.0, 0.0), 0.5, 1.0)

    def exact(x: Float[Array, " 2"]) -> Float[Array, " 1"]:
        square = x @ x
        return ((1 - square) / 4 + jnp.log(square) / 16)[None]

    terms = {
        "interior": Term(laplacian, -1.0, ring),
        "inner": Neumann(0.0, ring.boundary.part("inner")),
        "outer": Dirichlet(0.0, ring.boundary.part("outer")),
    }
    return Problem(ring, terms, name="poisson_annulus", exact=exact, inputs=("x", "y"))


@register("laplace_lshape")
def laplace_lshape() -> Problem:
    """Laplace's equation on the L: the square [-1, 1]² without x > 0, y < 0.

        u_xx + u_yy = 0,     u = r^(2/3) sin(2φ/3) on the boundary and inside

    φ from the positive x-axis. The gradient is infinite at the corner of 3π/2.
    Source: Dauge, Elliptic Boundary Value Problems on Corner Domains (1988).
    """
    shape = Box((-1.0, -1.0), (1.0, 1.0)) - Box((0.0, -2.0), (2.0, 0.0))

    def exact(x: Float[Array, " 2"]) -> Float[Array, " 1"]:
        square = x @ x
        there = square > 0
        safe = jnp.where(there, square, 1.0)
        # the angle from the half line of 3π/4, in the middle of the L: no branch inside
        turned = jnp.where(there, jnp.stack([x[1] - x[0], -x[0] - x[1]]), jnp.asarray([1.0, 0.0]))
        angle = 0.75 * np.pi + jnp.arctan2(turned[1], turned[0])
        return jnp.where(there, jnp.cbrt(safe) * jnp.sin(2 / 3 * angle), 0.0)[None]

    terms = {
        "interior": Term(laplacian, 0.0, shape),
        "boundary": Dirichlet(exact, shape.boundary),
    }
    return Problem(shape, terms, name="laplace_lshape", exact=exact, inputs=("x", "y"))
