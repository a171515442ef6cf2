"""Quadrature nodes as collocation points: tensor rules whose weighted mean is exact on polynomials.

The weights ωᵢ > 0, Σ ωᵢ = 1, come as a sampling density over the uniform one, 1 / (n ωᵢ): the mean
square residual is then the quadrature of the squared residual.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.special import roots_legendre

from distgram.errors import RegionError
from distgram.geometry.regions import Box, Faces, Region
from distgram.geometry.samplers import checked_count, nodes_per_axis, unit_grid


def gauss_legendre(k: int) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """k nodes inside (0, 1) and their weights: exact up to degree 2k - 1."""
    x, w = roots_legendre(k)
    return (1 + x) / 2, w / 2


def clenshaw_curtis(k: int) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """k nodes of [0, 1], both ends among them, and their weights: exact up to degree k - 1.

    Of the cosine series of f(cos t) each term is integrated exactly. One node is the midpoint.
    Source: Clenshaw, Curtis, Numer. Math. 2 (1960) 197; Trefethen, SIAM Review 50 (2008) 67.
    """
    if k == 1:
        return np.array([0.5]), np.array([1.0])
    m = k - 1
    t = np.pi * np.arange(k) / m
    even = np.arange(0, k, 2)
    last = np.where((even == 0) | (even == m), 0.5, 1.0)  # halved, like the ends of the sum below
    w = (np.cos(np.outer(t, even)) * (last / (1.0 - even**2))).sum(axis=1) * 2.0 / m
    w[[0, -1]] /= 2
    return (1 - np.cos(t)) / 2, w


RULES = {"gauss_legendre": gauss_legendre, "clenshaw_curtis": clenshaw_curtis}


def quadrature(
    region: Region, n: int, rule: str
) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, " n"]]:
    """The n nodes of a tensor rule on a Box, n = k^d, or on Faces, n = faces * k^(d-1).

    Args:
        rule: one of samplers.QUADRATURES.

    Returns: x of shape (n, d), and 1 / (n ωᵢ) of shape (n,), dimensionless.

    Raises: RegionError for another region, or an n that is no such number: it names the nearest.
    """
    kind = type(region).__name__
    if isinstance(region, Box):
        k = nodes_per_axis(kind, checked_count(kind, n), region.dim, 1)
        unit, density = _tensor(rule, k, region.dim)
        return region.place(unit), density
    if not isinstance(region, Faces):
        raise RegionError(f"{kind}: sampler = {rule!r}: expected a Box or Faces.")
    k = nodes_per_axis(kind, checked_count(kind, n), region.dim - 1, len(region.faces))
    unit, density = _tensor(rule, k, region.dim - 1)
    shares = region.measures() * len(region.faces) / region.measure()
    x = np.concatenate([region.on(face, unit) for face in region.faces])
    return x, np.concatenate([density / share for share in shares])


def _tensor(
    rule: str, k: int, dim: int
) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, " n"]]:
    """The k^dim nodes of the unit cube, and 1 / (k^dim ωᵢ)."""
    nodes, weights = RULES[rule](k)
    return unit_grid(nodes, dim), 1.0 / (k * unit_grid(weights, dim)).prod(axis=1)
