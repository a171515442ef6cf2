"""Polygons with holes (shapely)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import jax.numpy as jnp
import numpy as np

from distgram.errors import RegionError
from distgram.geometry.boundary import Boundary, Flat, Piece
from distgram.geometry.distance import joined, to_segments
from distgram.geometry.extra import needed
from distgram.geometry.region import Chart, Domain
from distgram.geometry.samplers import generator, unit_points

Ring = Sequence[Sequence[float]] | np.ndarray


class Edges(Piece):
    """Edges from begin to end, each with the domain to its left.

    Args: begin, end: (e, 2).
    """

    periodic = (False,)

    def __init__(self, begin: np.ndarray, end: np.ndarray, name: str):
        self.begin, self.end, self.name = begin, end, name
        along = end - begin
        self.length = np.linalg.norm(along, axis=1)
        self.outward = np.stack([along[:, 1], -along[:, 0]], axis=1) / self.length[:, None]
        self.done = np.cumsum(self.length)

    def measure(self):
        return float(self.done[-1])

    def _at(self, unit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The edge of each parameter, and the share of it that is passed."""
        at = unit[:, 0] * self.done[-1]
        which = np.minimum(np.searchsorted(self.done, at, side="right"), len(self.done) - 1)
        return which, (at - self.done[which]) / self.length[which] + 1.0

    def place(self, unit):
        which, passed = self._at(unit)
        return self.begin[which] + passed[:, None] * (self.end - self.begin)[which]

    def draw(self, n, key, sampler):
        unit = unit_points(n, 1, generator(key), sampler)
        return self.place(unit), self.outward[self._at(unit)[0]]

    def charts(self) -> tuple[Chart, ...]:
        """Each edge."""
        along = self.end - self.begin
        return tuple(
            Flat(a, [e], n) for a, e, n in zip(self.begin, along, self.outward, strict=True)
        )

    def _distances(self, x):
        return to_segments(jnp.asarray(x), jnp.asarray(self.begin), jnp.asarray(self.end))

    def normal(self, x):
        return jnp.asarray(self.outward)[jnp.argmin(self._distances(x))]

    def away(self, x):
        return jnp.min(self._distances(x))

    def normals(self, x):
        return self.outward[_nearest(x, self.begin, self.end)]


def _nearest(x: np.ndarray, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The edge nearest to each point."""
    along = end - begin
    out = np.empty(len(x), int)
    for i in range(0, len(x), block := max(1, 2**22 // len(begin))):
        y = x[i : i + block, None] - begin
        t = np.clip(np.sum(y * along, axis=2) / np.sum(along**2, axis=1), 0.0, 1.0)
        out[i : i + block] = np.argmin(np.sum((y - t[..., None] * along) ** 2, axis=2), axis=1)
    return out


class _Triangle(Chart):
    """A triangle as the image of a square (Duffy): (1 - s) a + s ((1 - t) b + t c)."""

    periodic = (False, False)

    def __init__(self, corners: np.ndarray):
        self.a, self.b, self.c = corners
        (p, q), (r, s) = self.b - self.a, self.c - self.a
        self.area = 0.5 * abs(p * s - q * r)

    def measure(self):
        return float(self.area)

    def place(self, unit):
        s, t = unit[:, :1], unit[:, 1:]
        return (1 - s) * self.a + s * ((1 - t) * self.b + t * self.c)

    def density(self, unit):
        return 2.0 * unit[:, 0]


class Polygon(Domain):
    """A polygon in the plane, perhaps with holes; its boundary has the parts 'outer' and 'hole 1',
    'hole 2', ...

        dg.Polygon([(0, 0), (1, 0), (1, 1)], holes=[...])

    Args: outer: the corners in order, at least 3, either way round. holes: the corners of each.

    Raises: RegionError for corners that are no polygon: edges that cross, holes that are outside.
    """

    def __init__(self, outer: Ring, holes: Sequence[Ring] = ()):
        shapely = needed("shapely", "Polygon")
        try:
            shape = shapely.Polygon(outer, holes)
        except (ValueError, TypeError) as error:
            raise RegionError(f"Polygon: {error}: expected corners (x, y), at least 3.") from error
        if not shape.is_valid or not shape.area > 0:
            reason = shapely.is_valid_reason(shape) if not shape.is_valid else "it has no area"
            raise RegionError(
                f"Polygon: {reason}: expected edges that do not cross, and holes inside."
            )
        self._take(shape)

    def _take(self, shape: Any) -> None:
        from_library = needed("shapely", "Polygon")
        self.shape = from_library.orient_polygons(shape)  # counter-clockwise, holes clockwise
        from_library.prepare(self.shape)
        x0, y0, x1, y1 = self.shape.bounds
        self.lower, self.upper = (x0, y0), (x1, y1)

    @classmethod
    def of(cls, shape: Any) -> Polygon:
        """The domain of a polygon of shapely.

        Raises: RegionError for another shape.
        """
        if getattr(shape, "geom_type", None) != "Polygon":
            kind = getattr(shape, "geom_type", type(shape).__name__)
            raise RegionError(
                f"Polygon.of({kind}): expected a Polygon of shapely; join several by a | b."
            )
        return cls(
            np.asarray(shape.exterior.coords)[:-1],
            [np.asarray(ring.coords)[:-1] for ring in shape.interiors],
        )

    def __repr__(self):
        return f"Polygon({self.shape.wkt})"

    def contains(self, x):
        return needed("shapely", "Polygon").intersects_xy(self.shape, x[:, 0], x[:, 1])

    def measure(self):
        return float(self.shape.area)

    def charts(self):
        shapely = needed("shapely", "Polygon")
        found = shapely.constrained_delaunay_triangles(self.shape)
        return tuple(_Triangle(np.asarray(t.exterior.coords)[:3]) for t in found.geoms)

    @cached_property
    def _boundary(self) -> Boundary:
        rings = [self.shape.exterior, *self.shape.interiors]
        names = ["outer", *(f"hole {i}" for i in range(1, len(rings)))]
        corners = [np.asarray(ring.coords) for ring in rings]
        return Boundary(Edges(c[:-1], c[1:], name) for c, name in zip(corners, names, strict=True))

    @property
    def boundary(self) -> Boundary:
        """The outer edges and those of the holes."""
        return self._boundary

    def distance(self, x):
        """See Domain.distance: all edges joined by R-equivalence, negative outside."""
        x = jnp.asarray(x)
        pieces = self._boundary.pieces
        begin = np.concatenate([p.begin for p in pieces])  # type: ignore[attr-defined]
        end = np.concatenate([p.end for p in pieces])  # type: ignore[attr-defined]
        away = joined(to_segments(x, jnp.asarray(begin), jnp.asarray(end)))
        (a, b), (c, d) = begin.T, end.T
        above = (b > x[1]) != (d > x[1])  # the ray to the right crosses the edge
        rise = jnp.where(above, d - b, 1.0)
        crossed = above & (x[0] < a + (x[1] - b) * (c - a) / rise)
        return jnp.where(jnp.sum(crossed) % 2 == 1, away, -away)
