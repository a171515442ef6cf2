"""Quadrature nodes as collocation points: tensor rules whose weighted mean is exact on polynomials.

The weights ωᵢ > 0, Σ ωᵢ = 1, come as a sampling density over the uniform one, 1 / (n ωᵢ): the mean
square residual is then the quadrature of the squared residual.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy.special import roots_legendre

from distgram.geometry.region import Chart, Region
from distgram.geometry.samplers import checked_count, nodes_per_axis


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
    """The n nodes of a tensor rule on a region: n = k^d on a Box, Disk or Ball, faces * k^(d-1) on
    Faces, and so on: k nodes an axis of each of the region's charts.

    Args:
        rule: one of samplers.QUADRATURES.

    Returns: x of shape (n, d), and 1 / (n ωᵢ) of shape (n,), dimensionless.

    Raises: RegionError for a region without charts, or an n that is no such number: it names the
        nearest.
    """
    kind, charts, whole = type(region).__name__, region.charts(), region.measure()
    k = nodes_per_axis(kind, checked_count(kind, n), len(charts[0].periodic), len(charts))
    nodes, density = zip(*(_on(chart, rule, k, n / whole) for chart in charts), strict=True)
    return np.concatenate(nodes), np.concatenate(density)


def integral_rule(
    region: Region, k: int, rule: str = "gauss_legendre"
) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, " n"]]:
    """Nodes x (n, d) and weights (n,) with  Σ w_i f(x_i) ≈ ∫ f  over a region, k nodes an axis.

    Raises: RegionError for a region without nodes.
    """
    charts = region.charts()
    n = len(charts) * k ** len(charts[0].periodic)
    x, density = quadrature(region, n, rule)
    return x, region.measure() / (n * density)


def _on(
    chart: Chart, rule: str, k: int, per_measure: float
) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, " n"]]:
    """The nodes of the rule on a chart, equidistant along its periodic axes, and 1 / (n ωᵢ).

    Args: per_measure: the number of nodes on all charts, over their measure.
    """
    each = [_periodic(k) if closed else RULES[rule](k) for closed in chart.periodic]
    unit, weights = _tensor(each)
    omega = weights * chart.density(unit) * chart.measure()  # of the integral over the chart
    with np.errstate(divide="ignore"):  # a node at which the map is singular has no weight
        return chart.place(unit), 1.0 / (per_measure * omega)


def _periodic(k: int) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """k equidistant nodes: exact for trigonometric polynomials up to the degree k - 1."""
    return np.arange(k) / k, np.full(k, 1.0 / k)


def _tensor(
    each: Sequence[tuple[np.ndarray, np.ndarray]],
) -> tuple[Float[np.ndarray, "n c"], Float[np.ndarray, " n"]]:
    """The tensor product of rules, its nodes in 'ij' order and its weights."""
    if not each:
        return np.zeros((1, 0)), np.ones(1)
    nodes, weights = zip(*each, strict=True)
    grids = [np.meshgrid(*axes, indexing="ij") for axes in (nodes, weights)]
    unit, weight = (np.stack([g.ravel() for g in grid], axis=-1) for grid in grids)
    return unit, weight.prod(axis=1)
