"""Products of domains: a shape at all times, or extended along another coordinate."""

from __future__ import annotations

from functools import cached_property

import jax.numpy as jnp
import numpy as np

from distgram.errors import RegionError
from distgram.geometry.boundary import Boundary, Piece
from distgram.geometry.distance import both
from distgram.geometry.region import Chart, Domain
from distgram.geometry.regions import Box
from distgram.geometry.samplers import accepted, children, generator, unit_points


def product(first: Domain, second: Domain) -> Domain:
    """first * second, a Box where both are.

    Raises: RegionError for what is no domain.
    """
    for one in (first, second):
        if not isinstance(one, Domain):
            raise RegionError(f"{first!r} * {second!r}: expected two domains, as shape * time.")
    if isinstance(first, Box) and isinstance(second, Box):
        return Box((*first.lower, *second.lower), (*first.upper, *second.upper))
    return Product(first, second)


class _Both(Chart):
    """The image of two cubes."""

    def __init__(self, first: Chart, second: Chart):
        self.first, self.second = first, second
        self.periodic = (*first.periodic, *second.periodic)

    def _split(self, unit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        c = len(self.first.periodic)
        return unit[:, :c], unit[:, c:]

    def measure(self):
        return self.first.measure() * self.second.measure()

    def place(self, unit):
        u, v = self._split(unit)
        return np.concatenate([self.first.place(u), self.second.place(v)], axis=1)

    def density(self, unit):
        u, v = self._split(unit)
        return self.first.density(u) * self.second.density(v)


class Extended(Piece):
    """A piece of the boundary of one factor, times all of the other.

    Args: after: whether the coordinates of the other factor stand after those of the piece.
    """

    def __init__(self, piece: Piece, other: Domain, after: bool):
        self.piece, self.other, self.after = piece, other, after
        self.name, self.traced, self.mapped = piece.name, piece.traced, piece.mapped
        self.periodic = (*piece.periodic, *(False,) * other.dim)
        self.d = len(piece.periodic) + 1  # coordinates of the piece

    def _joined(self, own: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.concatenate([own, other] if self.after else [other, own], axis=1)

    def _own(self, x):
        return x[..., : self.d] if self.after else x[..., self.other.dim :]

    def measure(self):
        return self.piece.measure() * self.other.measure()

    def place(self, unit):
        (chart,) = self._whole
        return chart.place(unit)

    @property
    def _whole(self) -> tuple[Chart, ...]:
        charts = self.charts()
        if len(charts) != 1:
            raise RegionError("a piece that is made of several has no map from one cube.")
        return charts

    def charts(self):
        own, other = self.piece.charts(), self.other.charts()
        return tuple(_Both(a, b) if self.after else _Both(b, a) for a in own for b in other)

    def normal(self, x):
        own, zero = self.piece.normal(self._own(jnp.asarray(x))), jnp.zeros(self.other.dim)
        return jnp.concatenate([own, zero] if self.after else [zero, own])

    def away(self, x):
        return self.piece.away(self._own(jnp.asarray(x)))

    def normals(self, x):
        own = self.piece.normals(self._own(x))
        return self._joined(own, np.zeros((len(x), self.other.dim)))

    def draw(self, n, key, sampler):
        """Of one sequence over the piece and the box of the other factor, what is inside."""
        c, other = self.d - 1, self.other
        if not self.piece.mapped:
            one, two = children(key, 2)
            own, outward = self.piece.draw(n, one, sampler)
            y = other.sample(n, two, sampler)
            return self._joined(own, y), self._joined(outward, np.zeros_like(y))

        def inside(m: int) -> tuple[np.ndarray, np.ndarray]:
            unit = unit_points(m, c + other.dim, generator(key), sampler)
            y = np.asarray(other.lower) + unit[:, c:] * other.lengths
            kept = other.contains(y)
            return self.piece.place(unit[kept, :c]), y[kept]

        share = min(1.0, other.measure() / float(np.prod(other.lengths)))
        own, y = accepted("a boundary at all times", n, inside, share)
        x = self._joined(own, y)
        return x, self.normals(x)

    def _time(self) -> int | None:
        """The coordinate of the other factor, where it is one interval."""
        if not isinstance(self.other, Box) or self.other.dim != 1:
            return None
        return self.d if self.after else 0

    def during(self, axis, begin, end):
        if self._time() == axis:
            return Extended(self.piece, Box(begin, end), self.after)
        return self._instant(axis, begin)

    def _instant(self, axis: int, at: float) -> Piece | None:
        """The piece at another first instant, None where it is no first instant."""
        if not self.begins(axis):
            return None
        first = Box(at, at + 1.0).face(0, 0).pieces[0]
        return Extended(first, self.other, self.after)

    def begins(self, axis):
        own = 0 if self.after else self.other.dim
        return self.d == 1 and own == axis and self.name == LOWER


LOWER, UPPER = "lower", "upper"


class Product(Domain):
    """The points (x, y), x of one domain and y of another, in this order: `shape * time` is a shape
    at all times, its last coordinate being time; of `time * shape` it is the first.

    The parts of its boundary are those of the factors; of an interval they are called 'lower' and
    'upper'.
    """

    def __init__(self, first: Domain, second: Domain):
        self.first, self.second = first, second
        self.lower, self.upper = (*first.lower, *second.lower), (*first.upper, *second.upper)

    def __repr__(self):
        return f"{self.first!r} * {self.second!r}"

    def __eq__(self, other):
        same = isinstance(other, Product)
        return same and (self.first, self.second) == (other.first, other.second)

    def __hash__(self):
        return hash((self.first, self.second))

    @property
    def time(self) -> int:
        """The coordinate that is an interval, the last where both factors are.

        Raises: RegionError where neither is.
        """
        for factor, at in ((self.second, self.dim - 1), (self.first, 0)):
            if isinstance(factor, Box) and factor.dim == 1:
                return at
        raise RegionError(f"{self!r}: expected shape * time, time an Interval.")

    def contains(self, x):
        d = self.first.dim
        return self.first.holds(x[:, :d]) & self.second.holds(x[:, d:])

    def measure(self):
        return self.first.measure() * self.second.measure()

    def charts(self):
        ones, others = self.first.charts(), self.second.charts()
        return tuple(_Both(a, b) for a in ones for b in others)

    @cached_property
    def _boundary(self) -> Boundary:
        ones = [Extended(p, self.second, True) for p in self.first.boundary.pieces]
        others = [Extended(p, self.first, False) for p in self.second.boundary.pieces]
        return Boundary([*ones, *others])

    @property
    def boundary(self) -> Boundary:
        """The boundary in space at all times, and the first and the last instant."""
        return self._boundary

    def distance(self, x):
        d, x = self.first.dim, jnp.asarray(x)
        return both(self.first.distance(x[:d]), self.second.distance(x[d:]))

    def walls(self, time: int | None = None) -> Boundary:
        """The boundary in space, at all times."""
        shape, interval, after = self._factors(time)
        return Boundary(Extended(piece, interval, after) for piece in shape.boundary.pieces)

    def start(self, time: int | None = None) -> Boundary:
        """The first instant."""
        return self._instant(time, LOWER)

    def end(self, time: int | None = None) -> Boundary:
        """The last instant."""
        return self._instant(time, UPPER)

    def _instant(self, time: int | None, side: str) -> Boundary:
        shape, interval, after = self._factors(time)
        (piece,) = (p for p in interval.boundary.pieces if p.name == side)
        return Boundary([Extended(piece, shape, not after)])

    def _factors(self, time: int | None) -> tuple[Domain, Box, bool]:
        """The shape, the interval of time, and whether time is the last coordinate."""
        asked = self.time if time is None else time
        for shape, interval, at in (
            (self.first, self.second, self.dim - 1),
            (self.second, self.first, 0),
        ):
            if asked == at and isinstance(interval, Box) and interval.dim == 1:
                return shape, interval, at > 0
        raise RegionError(
            f"{self!r}: time={time!r}: expected the coordinate {self.time}, which is an interval."
        )

    def during(self, axis, begin, end):
        if axis == self.dim - 1 and isinstance(self.second, Box) and self.second.dim == 1:
            return Product(self.first, Box(begin, end))
        if axis == 0 and isinstance(self.first, Box) and self.first.dim == 1:
            return Product(Box(begin, end), self.second)
        return None
