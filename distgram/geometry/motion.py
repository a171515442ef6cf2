"""Domains that are shifted and rotated."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cached_property

import jax.numpy as jnp
import numpy as np

from distgram.errors import RegionError
from distgram.geometry.boundary import Boundary, Piece
from distgram.geometry.region import Chart, Domain
from distgram.geometry.regions import Box


def rotation(dim: int, angle: float, axis: Sequence[float] | None = None) -> np.ndarray:
    """The matrix of a rotation by an angle in radians: in the plane, or about an axis in space
    (Rodrigues).

    Raises: RegionError for another dimension, or an axis that is missing, zero or not asked for.
    """
    c, s = np.cos(angle), np.sin(angle)
    if dim == 2 and axis is None:
        return np.array([[c, -s], [s, c]])
    k = np.asarray(() if axis is None else axis, float)
    if dim != 3 or k.shape != (3,) or not np.linalg.norm(k) > 0:
        raise RegionError(
            f"rotated(axis={axis!r}) of {dim} coordinates: expected 2 coordinates and no axis, or "
            "3 and an axis (3,) that is not zero."
        )
    x, y, z = k / np.linalg.norm(k)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + s * cross + (1 - c) * cross @ cross


class _MovedChart(Chart):
    def __init__(self, chart: Chart, turn: np.ndarray, shift: np.ndarray):
        self.chart, self.turn, self.shift = chart, turn, shift
        self.periodic = chart.periodic

    def measure(self):
        return self.chart.measure()

    def place(self, unit):
        return self.chart.place(unit) @ self.turn.T + self.shift

    def density(self, unit):
        return self.chart.density(unit)


class _MovedPiece(Piece):
    def __init__(self, piece: Piece, turn: np.ndarray, shift: np.ndarray):
        self.piece, self.turn, self.shift = piece, turn, shift
        self.periodic, self.name = piece.periodic, piece.name
        self.traced, self.mapped = piece.traced, piece.mapped

    def measure(self):
        return self.piece.measure()

    def place(self, unit):
        return self.piece.place(unit) @ self.turn.T + self.shift

    def charts(self):
        return tuple(_MovedChart(c, self.turn, self.shift) for c in self.piece.charts())

    def normal(self, x):
        return self.turn @ self.piece.normal((jnp.asarray(x) - self.shift) @ self.turn)

    def away(self, x):
        return self.piece.away((jnp.asarray(x) - self.shift) @ self.turn)

    def normals(self, x):
        return self.piece.normals((x - self.shift) @ self.turn) @ self.turn.T

    def draw(self, n, key, sampler):
        x, outward = self.piece.draw(n, key, sampler)
        return x @ self.turn.T + self.shift, outward @ self.turn.T


class Moved(Domain):
    """The domain of the points  R x + s,  x those of another; see `Domain.shifted`, `rotated`."""

    def __init__(self, domain: Domain, turn: np.ndarray, shift: np.ndarray):
        self.domain, self.turn, self.shift = domain, turn, shift
        corners = np.array(list(itertools.product(*zip(domain.lower, domain.upper, strict=True))))
        corners = corners @ turn.T + shift
        self.lower = tuple(corners.min(axis=0).tolist())
        self.upper = tuple(corners.max(axis=0).tolist())

    @classmethod
    def by(cls, domain: Domain, turn: np.ndarray, shift: Sequence[float] | np.ndarray) -> Domain:
        """The moved domain; of a Box that is not turned, a Box.

        Raises: RegionError for a shift that is not finite, or of another dimension.
        """
        by = np.asarray(shift, float)
        if by.shape != (domain.dim,) or not np.isfinite(by).all():
            raise RegionError(
                f"{type(domain).__name__}.shifted({shift!r}): expected {domain.dim} finite numbers."
            )
        if isinstance(domain, Box) and np.array_equal(turn, np.eye(domain.dim)):
            return Box(np.add(domain.lower, by).tolist(), np.add(domain.upper, by).tolist())
        return cls(domain, turn, by)

    def __repr__(self):
        return f"Moved({self.domain!r}, turn={self.turn.tolist()}, shift={self.shift.tolist()})"

    def contains(self, x):
        return self.domain.holds((x - self.shift) @ self.turn)

    def measure(self):
        return self.domain.measure()

    def charts(self):
        return tuple(_MovedChart(c, self.turn, self.shift) for c in self.domain.charts())

    @cached_property
    def _boundary(self) -> Boundary:
        pieces = self.domain.boundary.pieces
        return Boundary(_MovedPiece(piece, self.turn, self.shift) for piece in pieces)

    @property
    def boundary(self) -> Boundary:
        """The moved boundary."""
        return self._boundary

    def distance(self, x):
        return self.domain.distance((jnp.asarray(x) - self.shift) @ self.turn)
