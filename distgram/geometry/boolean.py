"""Unions, intersections and differences of domains.

The boundary of the result is made of the pieces of both boundaries, of each what is kept: the
points x with the domain on the one side and not on the other,

    x - ε n inside,     x + ε n outside,

n the outward normal there, ε = STEP times the size. Where the boundaries of both coincide, those of
the first count; an approximate distance has another slope there.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from jaxtyping import Array, Float

from distgram.errors import RegionError
from distgram.geometry.boundary import Boundary, Piece, Reversed, trimmed
from distgram.geometry.distance import both, either
from distgram.geometry.region import STEP, Domain
from distgram.geometry.samplers import unit_grid

GAUSS = 48  # nodes along a curve by which an area is found from its boundary


class Boolean(Domain):
    """Two domains of one dimension, joined in some way."""

    def __init__(self, first: Domain, second: Domain):
        kind = type(self).__name__
        for one in (first, second):
            if not isinstance(one, Domain):
                raise RegionError(f"{kind}: {one!r}: expected a Domain, as a Box or a Disk.")
        if first.dim != second.dim:
            raise RegionError(
                f"{kind} of {type(first).__name__} and {type(second).__name__}: {first.dim} and "
                f"{second.dim} coordinates: expected as many of one as of the other."
            )
        self.first, self.second = first, second
        self.lower, self.upper = self._bounds()
        if not np.all(np.subtract(self.upper, self.lower) > 0):
            raise RegionError(f"{kind}: nothing is left: expected domains that meet.")

    def __repr__(self):
        return f"{type(self).__name__}({self.first!r}, {self.second!r})"

    def __eq__(self, other):
        same = type(self) is type(other)
        return same and (self.first, self.second) == (other.first, other.second)

    def __hash__(self):
        return hash((type(self), self.first, self.second))

    @abstractmethod
    def _bounds(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """The box around the result."""

    def _ends(self) -> tuple[np.ndarray, np.ndarray]:
        ends = [(np.asarray(d.lower), np.asarray(d.upper)) for d in (self.first, self.second)]
        lower, upper = (np.stack(side) for side in zip(*ends, strict=True))
        return lower, upper

    def _pieces(self) -> tuple[Sequence[Piece], Sequence[Piece]]:
        """Those of the first and of the second, outward from the result."""
        return self.first.boundary.pieces, self.second.boundary.pieces

    @cached_property
    def _boundary(self) -> Boundary:
        step, first = STEP * self.size, self.first

        def sides(x: np.ndarray, outward: np.ndarray) -> np.ndarray:
            return self.holds(x - step * outward) & ~self.holds(x + step * outward)

        def alone(x: np.ndarray, outward: np.ndarray) -> np.ndarray:
            inner, outer = (first.holds(x + s * step * outward) for s in (-1, 1))
            return sides(x, outward) & (inner == outer)

        ones, others = self._pieces()
        return Boundary([*trimmed(ones, sides), *trimmed(others, alone)], repr(self))

    @property
    def boundary(self) -> Boundary:
        """The boundary of the result."""
        return self._boundary

    @cached_property
    def _volume(self) -> float:
        try:
            return enclosed(self.boundary)
        except RegionError:
            return super().measure()

    def measure(self) -> float:
        """The volume: by the divergence theorem,  (1/d) ∮ x·n,  where the boundary has nodes of a
        quadrature; else counted (to about 1e-4)."""
        return self._volume


def enclosed(boundary: Boundary) -> float:
    """(1/d) ∮ x·n,  the volume within a boundary.

    Raises: RegionError where the boundary has no nodes of a quadrature.
    """
    nodes, weights = np.polynomial.legendre.leggauss(GAUSS)
    total, c = 0.0, boundary.dim - 1
    unit = unit_grid((nodes + 1) / 2, c)
    weight = unit_grid(weights / 2, c).prod(axis=1)
    for piece in boundary.pieces:
        for chart in piece.charts():
            x = chart.place(unit)
            flux = np.sum(x * piece.normals(x), axis=1) * chart.density(unit)
            total += chart.measure() * float(np.sum(weight * flux))
    return total / boundary.dim


class Union(Boolean):
    """a | b:  what is in a or in b."""

    def _bounds(self):
        lower, upper = self._ends()
        return tuple(lower.min(axis=0).tolist()), tuple(upper.max(axis=0).tolist())

    def contains(self, x):
        return self.first.holds(x) | self.second.holds(x)

    def distance(self, x: Float[Array | np.ndarray, " d"]) -> Float[Array, ""]:
        return either(self.first.distance(x), self.second.distance(x))


class Intersection(Boolean):
    """a & b:  what is in a and in b."""

    def _bounds(self):
        lower, upper = self._ends()
        return tuple(lower.max(axis=0).tolist()), tuple(upper.min(axis=0).tolist())

    def contains(self, x):
        return self.first.holds(x) & self.second.holds(x)

    def distance(self, x: Float[Array | np.ndarray, " d"]) -> Float[Array, ""]:
        return both(self.first.distance(x), self.second.distance(x))


class Difference(Boolean):
    """a - b:  what is in a and not in b."""

    def _bounds(self):
        return tuple(self.first.lower), tuple(self.first.upper)

    def contains(self, x):
        return self.first.holds(x) & ~self.second.holds(x)

    def _pieces(self):
        return self.first.boundary.pieces, [Reversed(p) for p in self.second.boundary.pieces]

    def distance(self, x: Float[Array | np.ndarray, " d"]) -> Float[Array, ""]:
        return both(self.first.distance(x), -self.second.distance(x))
