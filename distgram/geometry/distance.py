"""Approximate distances, smooth but at corners, by R-functions.

A domain is positive inside, negative outside, zero on the boundary. With  a, b  two of them

    a and b:  a + b - √(a² + b²),      a or b:  a + b + √(a² + b²),      not a:  -a

have the zeros of the intersection, of the union and of the complement, and slope 1 along the normal
where a and b have it, but at their common zeros. Source: Rvachev; Sukumar, Srivastava, Comput.
Methods Appl. Mech. Eng. 389 (2022) 114333, section 3.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def norm(*parts: Array) -> Array:
    """√(a² + b² + ...), whose derivative is 0 and not nan where all of them vanish."""
    square = sum(jnp.square(part) for part in parts)
    some = square > 0
    return jnp.where(some, jnp.sqrt(jnp.where(some, square, 1.0)), 0.0)


def both(a: Array, b: Array) -> Array:
    """R-conjunction."""
    return a + b - norm(a, b)


def either(a: Array, b: Array) -> Array:
    """R-disjunction."""
    return a + b + norm(a, b)


def ring(x: Array | np.ndarray, center: Array, radius: float) -> Float[Array, ""]:
    """(R² - |x - c|²) / 2R: the distance from a circle or sphere, to first order."""
    return (radius**2 - jnp.sum((jnp.asarray(x) - center) ** 2)) / (2.0 * radius)


def between(x: Array, low: float, high: float) -> Array:
    """(x - a)(b - x) / (b - a): the distance from the ends of an interval, to first order."""
    return (x - low) * (high - x) / (high - low)


def to_segments(
    x: Float[Array, " d"], begin: Float[Array, "e d"], end: Float[Array, "e d"]
) -> Float[Array, " e"]:
    """Distances of a point from the segments between two lists of points, each √ once smoothed: f
    the distance from the line, t the trimming circle about the segment,

        φ = √(f² + ((√(t² + f⁴) - t) / 2)²)

    is zero on the segment only, with slope 1 there. Source: eqs. (11) of the paper above."""
    edge = end - begin
    length = jnp.sqrt(jnp.sum(edge**2, axis=1))
    f = ((x[0] - begin[:, 0]) * edge[:, 1] - (x[1] - begin[:, 1]) * edge[:, 0]) / length
    middle = 0.5 * (begin + end)
    t = ((0.5 * length) ** 2 - jnp.sum((x - middle) ** 2, axis=1)) / length
    return norm(f, 0.5 * (norm(t, f**2) - t))


def joined(distances: Float[Array, " e"], order: int = 1) -> Float[Array, ""]:
    """1 / (Σ φ_i^-m)^(1/m): zero where one of them is (R-equivalence), 0 where φ_i = 0."""
    zero = jnp.any(distances <= 0)
    safe = jnp.where(distances > 0, distances, 1.0)
    return jnp.where(zero, 0.0, jnp.sum(safe**-order) ** (-1.0 / order))
