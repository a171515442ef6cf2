"""Boundaries: made of pieces, each the image of a cube with an outward normal and a name.

A point of a boundary is drawn together with its normal. `Boundary.normal` finds the normal at any x
from the nearest piece, for operators that jax traces.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from distgram.errors import RegionError, nearest
from distgram.geometry.region import STEP, Chart, Domain, Predicate, Region
from distgram.geometry.samplers import (
    Key,
    accepted,
    check_sampler,
    checked_count,
    children,
    generator,
    nodes_per_axis,
    shared_out,
    unit_grid,
    unit_points,
)

Drawn = tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "n d"]]  # points and outward normals
Keep = Callable[[np.ndarray, np.ndarray], Bool[np.ndarray, " n"]]

SCANNED = 2**13  # places of a curve between which the ends of what is kept of it are looked for
SHARE = 2**15  # Sobol points by which the kept share of a surface is found: to about 1e-4


class Piece(Chart):
    """A piece of a boundary: the image of the unit cube of c = d - 1 dimensions under a map that
    keeps measure (`place`), with its outward normal.

    name: what `Boundary.part` calls it. traced: whether jax can find the normal at any x.
    mapped: whether there is such a map, `place`.
    """

    name: str = ""
    traced: bool = True
    mapped: bool = True

    @abstractmethod
    def normal(self, x: Float[Array | np.ndarray, " d"]) -> Float[Array, " d"]:
        """The outward unit normal at a point of the piece; jax may trace it."""

    @abstractmethod
    def away(self, x: Float[Array | np.ndarray, " d"]) -> Float[Array, ""]:
        """The distance of a point from the piece, to first order near it; jax may trace it."""

    @abstractmethod
    def normals(self, x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
        """The outward normals at points of the piece, in numpy."""

    def draw(self, n: int, key: Key, sampler: str) -> Drawn:
        """n points of the piece, and the normals there."""
        x = self.place(unit_points(n, len(self.periodic), generator(key), sampler))
        return x, self.normals(x)

    def charts(self) -> tuple[Chart, ...]:
        """The images of a cube that the piece is made of.

        Raises: RegionError where it is not made of such.
        """
        return (self,)

    def during(self, axis: int, begin: float, end: float) -> Piece | None:
        """See Region.during."""
        return None

    def begins(self, axis: int) -> bool:
        """See Region.begins."""
        return False


class Flat(Piece):
    """A flat piece  corner + s_1 e_1 + ... + s_c e_c,  s in [0, 1]^c, its edges at right angles; a
    point where there are no edges.

    Args:
        corner, outward: (d,). edges: (c, d), c = d - 1.
    """

    def __init__(
        self,
        corner: Sequence[float] | np.ndarray,
        edges: Sequence[Sequence[float]] | np.ndarray,
        outward: Sequence[float] | np.ndarray,
        name: str = "",
    ):
        self.corner = np.asarray(corner, np.float64)
        self.edges = np.asarray(edges, np.float64).reshape(-1, len(self.corner))
        self.outward = np.asarray(outward, np.float64) / np.linalg.norm(outward)
        self.periodic, self.name = (False,) * len(self.edges), name

    def measure(self):
        return float(np.prod(np.linalg.norm(self.edges, axis=1)))

    def place(self, unit):
        return self.corner + unit @ self.edges

    def normal(self, x):
        return jnp.asarray(self.outward)

    def normals(self, x):
        return np.tile(self.outward, (len(x), 1))

    def away(self, x):
        if not len(self.edges):
            return jnp.linalg.norm(x - self.corner)
        along = (self.edges @ (jnp.asarray(x) - self.corner)) / np.sum(self.edges**2, axis=1)
        return jnp.linalg.norm(x - self.corner - jnp.clip(along, 0.0, 1.0) @ self.edges)


class Reversed(Piece):
    """A piece seen from its other side."""

    def __init__(self, piece: Piece):
        self.piece, self.periodic = piece, piece.periodic
        self.name, self.traced = piece.name, piece.traced

    def measure(self):
        return self.piece.measure()

    def place(self, unit):
        return self.piece.place(unit)

    def normal(self, x):
        return -self.piece.normal(x)

    def away(self, x):
        return self.piece.away(x)

    def normals(self, x):
        return -self.piece.normals(x)

    def charts(self):
        return self.piece.charts()

    def draw(self, n, key, sampler):
        x, outward = self.piece.draw(n, key, sampler)
        return x, -outward


class Stretch(Chart):
    """The part of a curve between two of its parameters."""

    periodic = (False,)

    def __init__(self, curve: Chart, begin: float, end: float):
        self.curve, self.begin, self.end = curve, begin, end

    def measure(self):
        return self.curve.measure() * (self.end - self.begin)

    def place(self, unit):
        return self.curve.place(self.begin + unit * (self.end - self.begin))


class Trimmed(Piece):
    """What is kept of a piece. Of a curve the ends are found by bisection, to rounding, unless a
    part of it is shorter than 1/SCANNED of the piece; of a surface the share that is kept is
    counted.

    Args: keep: which points (n, d) with normals (n, d) are kept, (n,).
    """

    def __init__(self, piece: Piece, keep: Keep):
        self.piece, self.keep = piece, keep
        self.periodic, self.name, self.traced = piece.periodic, piece.name, piece.traced
        if len(self.periodic) == 1:
            self.periodic = (False,)
        self.mapped = len(self.periodic) < 2

    def _kept(self, unit: np.ndarray) -> np.ndarray:
        x = self.piece.place(unit)
        return np.asarray(self.keep(x, self.piece.normals(x)), bool)

    @cached_property
    def stretches(self) -> tuple[Stretch, ...]:
        """The kept parts of a curve."""
        at = (np.arange(SCANNED) + 0.5) / SCANNED
        inside = self._kept(at[:, None])
        change = np.flatnonzero(inside[1:] != inside[:-1])
        low, high, first = at[change], at[change + 1], inside[change]
        for _ in range(40 if change.size else 0):
            middle = 0.5 * (low + high)
            same = self._kept(middle[:, None]) == first
            low, high = np.where(same, middle, low), np.where(same, high, middle)
        cuts = [0.0, *(0.5 * (low + high)), 1.0]
        kept = inside[[0, *(change + 1)]]
        pairs = zip(cuts[:-1], cuts[1:], kept, strict=True)
        return tuple(Stretch(self.piece, a, b) for a, b, inner in pairs if inner)

    @cached_property
    def share(self) -> float:
        """The share of the piece that is kept."""
        if not self.periodic:
            return float(self._kept(np.zeros((1, 0)))[0])
        if len(self.periodic) == 1:
            return float(sum(s.end - s.begin for s in self.stretches))
        x, outward = self.piece.draw(SHARE, 0, "sobol")
        return float(np.mean(self.keep(x, outward)))

    def measure(self):
        return self.piece.measure() * self.share

    def place(self, unit):
        if not self.periodic:
            return self.piece.place(unit)
        if not self.mapped:
            raise RegionError("a part of a surface has no map from a square.")
        begins = np.array([s.begin for s in self.stretches])
        lengths = np.array([s.end - s.begin for s in self.stretches])
        done = np.cumsum(lengths)
        at = unit[:, 0] * done[-1]
        which = np.minimum(np.searchsorted(done, at, side="right"), len(done) - 1)
        return self.piece.place((begins[which] + at - (done - lengths)[which])[:, None])

    def charts(self):
        if not self.periodic:
            return self.piece.charts()
        if not self.mapped:
            raise RegionError(
                "a quadrature on a part of a surface: expected a whole one, a curve, or "
                "sampler = 'sobol'."
            )
        return self.stretches

    def normal(self, x):
        return self.piece.normal(x)

    def away(self, x):
        return self.piece.away(x)

    def normals(self, x):
        return self.piece.normals(x)

    def draw(self, n, key, sampler):
        if self.mapped:
            return super().draw(n, key, sampler)

        def kept(m: int) -> Drawn:
            x, outward = self.piece.draw(m, key, sampler)
            inside = self.keep(x, outward)
            return x[inside], outward[inside]

        return accepted("a part of a boundary", n, kept, self.share)


def trimmed(pieces: Iterable[Piece], keep: Keep) -> tuple[Piece, ...]:
    """What is kept of pieces: those that are kept whole as they are, none of those that are not."""
    out = []
    for piece in pieces:
        part = Trimmed(piece, keep)
        if part.share > STEP:
            out.append(piece if part.share > 1.0 - STEP else part)
    return tuple(out)


class Boundary(Region):
    """A boundary made of pieces. Points are split over the pieces in proportion to their measure.

    Args: pieces: in d dimensions, at least one.
    """

    pieces: tuple[Piece, ...]

    def __init__(self, pieces: Iterable[Piece], what: str = "Boundary"):
        self.pieces = tuple(pieces)
        if not self.pieces:
            raise RegionError(f"{what}: nothing of the boundary is left.")

    @property
    def dim(self) -> int:
        """d, the number of coordinates."""
        return len(self.pieces[0].periodic) + 1

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the pieces that have one."""
        return tuple(dict.fromkeys(p.name for p in self.pieces if p.name))

    @property
    def traced(self) -> bool:
        """Whether `normal` can be traced by jax."""
        return all(piece.traced for piece in self.pieces)

    def measures(self) -> Float[np.ndarray, " pieces"]:
        """The measure of each piece."""
        return np.array([piece.measure() for piece in self.pieces])

    def measure(self) -> float:
        """The sum of the measures of the pieces."""
        return float(self.measures().sum())

    def sample(self, n: int, key: Key, sampler: str = "sobol") -> Float[np.ndarray, "n d"]:
        """Exactly n points, shape (n, d); see Region.sample. On a grid the middles of as many equal
        parts on each piece."""
        return self.draw(n, key, sampler)[0]

    def draw(self, n: int, key: Key, sampler: str = "sobol") -> Drawn:
        """Exactly n points and the outward normals there, (n, d) both."""
        n = checked_count(type(self).__name__, n)
        check_sampler(sampler)
        if sampler == "grid":
            return self._grid(n)
        counts, keys = shared_out(n, self.measures()), children(key, len(self.pieces))
        drawn = [
            piece.draw(int(count), own, sampler)
            for piece, count, own in zip(self.pieces, counts, keys, strict=True)
            if count
        ]
        x, outward = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
        return x, outward

    def _grid(self, n: int) -> Drawn:
        parts = [(piece, chart) for piece in self.pieces for chart in piece.charts()]
        k = nodes_per_axis(type(self).__name__, n, self.dim - 1, len(parts))
        unit = unit_grid((np.arange(k) + 0.5) / k, self.dim - 1)
        x = [chart.place(unit) for _, chart in parts]
        outward = [p.normals(y) for (p, _), y in zip(parts, x, strict=True)]
        return np.concatenate(x), np.concatenate(outward)

    def charts(self) -> tuple[Chart, ...]:
        """The images of a cube that the pieces are made of."""
        return tuple(chart for piece in self.pieces for chart in piece.charts())

    def normal(self, x: Float[Array | np.ndarray, " d"]) -> Float[Array, " d"]:
        """The outward unit normal at x: that of the nearest piece, the first of several."""
        if not self.traced:
            raise RegionError(
                f"{type(self).__name__}: its normals are those of its points: expected a condition "
                "Neumann or Robin, which has them beside the points, in place of an operator."
            )
        x = jnp.asarray(x)
        away = jnp.stack([jax.lax.stop_gradient(piece.away(x)) for piece in self.pieces])
        return jnp.stack([piece.normal(x) for piece in self.pieces])[jnp.argmin(away)]

    def part(self, of: str | Predicate | Domain) -> Boundary:
        """A part of the boundary.

            disk.boundary.part(lambda x: x[0] > 0)

        Args:
            of: the name of pieces; or which points belong to it, a function of x whose x[k] are the
                k-th coordinates of all points; or a domain, on whose boundary the part lies.

        Raises: RegionError for an unknown name, or where nothing is left.
        """
        kind = type(self).__name__
        if isinstance(of, str):
            if of not in self.names:
                raise RegionError(f"{kind}: no piece is called {of!r}: {nearest(of, self.names)}")
            return Boundary(p for p in self.pieces if p.name == of)
        if isinstance(of, Domain):
            shape, step = of, STEP * of.size
            return Boundary(
                trimmed(
                    self.pieces,
                    lambda x, n: shape.holds(x - step * n) != shape.holds(x + step * n),
                ),
                f"the part of the {kind} on the boundary of a {type(of).__name__}",
            )
        chosen: Any = of
        return Boundary(
            trimmed(
                self.pieces,
                lambda x, n: np.broadcast_to(np.asarray(chosen(x.T), bool), len(x)),
            ),
            f"{kind}.part",
        )

    def during(self, axis, begin, end):
        parts = [piece.during(axis, begin, end) for piece in self.pieces]
        return None if any(p is None for p in parts) else Boundary(p for p in parts if p)

    def begins(self, axis):
        return all(piece.begins(axis) for piece in self.pieces)


class Oriented(Region):
    """The points of a boundary with the outward normals beside them: rows (x, n) of 2 d columns,
    for boundaries whose normal jax cannot find."""

    def __init__(self, boundary: Boundary):
        self.boundary = boundary

    @property
    def dim(self) -> int:
        """2 d."""
        return 2 * self.boundary.dim

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """Those of the boundary."""
        return self.boundary.pieces

    def measure(self) -> float:
        """That of the boundary."""
        return self.boundary.measure()

    def sample(self, n: int, key: Key, sampler: str = "sobol") -> Float[np.ndarray, "n _"]:
        """Exactly n rows, shape (n, 2 d); see Region.sample."""
        return np.concatenate(self.boundary.draw(n, key, sampler), axis=1)
