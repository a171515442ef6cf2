"""Points of the unit cube, which regions map onto themselves: the samplers, grids and a focus."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import qmc

from distgram.errors import RegionError, nearest

Key = int | Sequence[int] | np.random.SeedSequence

SAMPLERS = ("uniform", "grid", "latin_hypercube", "sobol")
RANDOM = ("sobol", "uniform", "latin_hypercube")
QUADRATURES = ("gauss_legendre", "clenshaw_curtis")  # nodes with weights: see quadrature.py


def generator(key: Key) -> np.random.Generator:
    """A random generator from a key, which is not changed: the same key gives the same numbers."""
    if isinstance(
        key, np.random.SeedSequence
    ):  # the samplers spawn from it, which would advance it
        key = np.random.SeedSequence(key.entropy, spawn_key=key.spawn_key, pool_size=key.pool_size)
    return np.random.default_rng(key)


def unit_points(
    n: int, dim: int, rng: np.random.Generator, sampler: str
) -> Float[np.ndarray, " {n} {dim}"]:
    """n points of the unit cube [0, 1]^dim by a sampler other than the grid, shape (n, dim).

    Raises: RegionError for an unknown sampler.
    Source: scrambled Sobol sequence and Latin hypercube of scipy.stats.qmc.
    """
    check_sampler(sampler)
    if dim == 0:
        return np.zeros((n, 0))
    if sampler == "latin_hypercube":
        return qmc.LatinHypercube(dim, rng=rng).random(n)
    if sampler == "sobol":
        # The first n of the next power of two: the same points, and the sequence stays balanced.
        return qmc.Sobol(dim, rng=rng).random_base2((n - 1).bit_length())[:n]
    return rng.random((n, dim))


def check_sampler(sampler: str) -> None:
    """Raise a RegionError that names the nearest choice, unless the sampler is a known one."""
    if sampler in QUADRATURES:
        raise RegionError(
            f"sampler = {sampler!r}: its nodes have weights, which are not drawn here: expected "
            f"one of {', '.join(SAMPLERS)}."
        )
    if sampler not in SAMPLERS:
        choices = (*SAMPLERS, *QUADRATURES)
        raise RegionError(f"sampler = {sampler!r} is not known: {nearest(str(sampler), choices)}")


def checked_count(what: str, n: int) -> int:
    """n, or a RegionError where it is not a whole number >= 1."""
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
        raise RegionError(f"{what}: n={n!r} points: expected an integer >= 1.")
    return int(n)


def nodes_per_axis(what: str, n: int, dim: int, copies: int) -> int:
    """k with copies * k^dim = n; a RegionError names the nearest n for which there is one."""
    k = max(1, round((n / copies) ** (1 / dim))) if dim else 1
    if copies * k**dim == n:
        return k
    near = sorted({copies * max(1, k + i) ** dim for i in (-1, 0, 1)}, key=lambda m: abs(m - n))
    raise RegionError(
        f"{what}: n={n} points on a grid: expected n = {copies} * k^{dim} with a whole k; "
        f"the nearest are {' and '.join(map(str, sorted(near[:2])))}."
    )


def unit_grid(nodes: Float[np.ndarray, " k"], dim: int) -> Float[np.ndarray, "n {dim}"]:
    """The tensor grid of `nodes` in `dim` coordinates, 'ij' order, shape (nodes^dim, dim)."""
    if dim == 0:
        return np.zeros((1, 0))
    return np.stack([g.ravel() for g in np.meshgrid(*[nodes] * dim, indexing="ij")], axis=-1)


def focus(
    unit: Float[np.ndarray, " n"],
    edge: tuple[float, float],
    center: float,
    width: float,
    fraction: float,
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Numbers of [0, 1] mapped to an edge [a, b], and their density over the uniform one there.

        p(s) = (1 - fraction) / (b - a) + fraction q(s),   q(s) ~ 1 / (1 + ((s - center)/width)^2)

    with q a Cauchy density truncated to [a, b]. The map is the inverse of the distribution
    function of p, by bisection to rounding: it is monotone, so points keep their low discrepancy.

    Raises: RegionError for a width <= 0, a fraction outside [0, 1), a center that is not finite.
    """
    a, b = edge
    if not (np.isfinite(width) and width > 0 and np.isfinite(center)):
        raise RegionError(
            f"focus: center={center}, width={width}: expected finite numbers, width > 0."
        )
    if not 0 <= fraction < 1:
        raise RegionError(f"focus: fraction={fraction}: expected 0 <= fraction < 1.")
    start = np.arctan((a - center) / width)
    mass = np.arctan((b - center) / width) - start
    if not mass > 1e-6:  # below it the difference of the two angles is mostly rounding
        raise RegionError(
            f"focus: center={center}, width={width}: expected a center nearer to [{a}, {b}]."
        )
    low, high = np.full(unit.shape, a), np.full(unit.shape, b)
    for _ in range(60):  # 2^-60 of the edge is below its rounding
        s = 0.5 * (low + high)
        focused = (np.arctan((s - center) / width) - start) / mass
        below = (1 - fraction) * (s - a) / (b - a) + fraction * focused < unit
        low, high = np.where(below, s, low), np.where(below, high, s)
    s = 0.5 * (low + high)
    q = 1 / (width * mass * (1 + ((s - center) / width) ** 2))
    return s, (1 - fraction) + fraction * (b - a) * q


# Candidates after which a region counts as empty.
MOST_CANDIDATES = 2**22


def accepted(
    what: str, n: int, draw: Callable[[int], tuple[np.ndarray, ...]], share: float
) -> tuple[np.ndarray, ...]:
    """The first n of the candidates that are kept, whatever that takes.

    Args:
        draw: what is kept of m candidates, arrays of one length; of more candidates the same and
            more. share: of the candidates that is kept, roughly.

    Raises: RegionError where next to none is kept.
    """
    m = math.ceil(1.05 * n / share) + 8
    most = max(MOST_CANDIDATES, 8 * m)
    while m <= most:
        kept = draw(m)
        if len(kept[0]) >= n:
            return tuple(a[:n] for a in kept)
        m *= 2
    raise RegionError(
        f"{what}: n={n} points: next to none of its candidates are inside; is it empty?"
    )


def children(key: Key, count: int) -> list[np.random.SeedSequence]:
    """So many independent keys from one, which is not changed."""
    if isinstance(key, np.random.SeedSequence):
        key = np.random.SeedSequence(key.entropy, spawn_key=key.spawn_key, pool_size=key.pool_size)
    else:
        key = np.random.SeedSequence(key)
    return key.spawn(count)


def shared_out(n: int, measures: Float[np.ndarray, " parts"]) -> Int[np.ndarray, " parts"]:
    """n points split over parts in proportion to their measure, by largest remainder."""
    share = n * measures / measures.sum()
    counts = np.floor(share + 1e-9).astype(int)  # a share that is whole up to rounding is whole
    order = np.argsort(-(share - counts), kind="stable")
    counts[order[: n - counts.sum()]] += 1
    return counts
