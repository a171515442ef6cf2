"""Curved shapes with closed forms: disk, ellipse, annulus, ball, cylinder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from scipy.special import ellipe, ellipeinc

from distgram.errors import RegionError
from distgram.geometry.boundary import Boundary, Piece
from distgram.geometry.distance import both, ring
from distgram.geometry.region import CLOSE, Chart, Domain
from distgram.geometry.regions import Box


def _circle(turns: np.ndarray) -> np.ndarray:
    """Points (n, 2) of the unit circle, from its share that is passed."""
    return np.stack([np.cos(2 * np.pi * turns), np.sin(2 * np.pi * turns)], axis=1)


def _point(what: str, center: Sequence[float], dim: int) -> tuple[float, ...]:
    found = tuple(float(c) for c in np.atleast_1d(center))
    if len(found) != dim or not np.isfinite(found).all():
        raise RegionError(f"{what}: center={center!r}: expected {dim} finite numbers.")
    return found


def _positive(what: str, **lengths: float) -> None:
    for name, value in lengths.items():
        if not 0 < value < np.inf:
            raise RegionError(f"{what}: {name}={value!r}: expected a finite number > 0.")


class Circle(Piece):
    """A circle in the plane; `side` is 1 where the domain lies within, -1 where it lies outside."""

    periodic = (True,)

    def __init__(self, center: Sequence[float], radius: float, side: int = 1, name: str = ""):
        self.center, self.radius = np.asarray(center, float), radius
        self.side, self.name = side, name

    def measure(self):
        return 2 * np.pi * self.radius

    def place(self, unit):
        return self.center + self.radius * _circle(unit[:, 0])

    def normal(self, x):
        r = jnp.asarray(x) - self.center
        return self.side * r / jnp.linalg.norm(r)

    def normals(self, x):
        r = x - self.center
        return self.side * r / np.linalg.norm(r, axis=1, keepdims=True)

    def away(self, x):
        return jnp.abs(jnp.linalg.norm(jnp.asarray(x) - self.center) - self.radius)


class _Sector(Chart):
    """A ring  inner <= r <= outer  as the image of (share of the area, share of the turn)."""

    periodic = (False, True)

    def __init__(self, center: Sequence[float], inner: float, outer: float):
        self.center, self.inner, self.outer = np.asarray(center, float), inner, outer

    def measure(self):
        return np.pi * (self.outer**2 - self.inner**2)

    def place(self, unit):
        r = np.sqrt(self.inner**2 + unit[:, :1] * (self.outer**2 - self.inner**2))
        return self.center + r * _circle(unit[:, 1])


@dataclass(frozen=True, init=False)
class Disk(Domain):
    """The disk  |x - center| <= radius  in the plane.

    Raises: RegionError for a center of other than two numbers, or a radius that is not > 0.
    """

    center: tuple[float, ...]
    radius: float

    def __init__(self, center: Sequence[float] = (0.0, 0.0), radius: float = 1.0):
        _positive("Disk", radius=radius)
        object.__setattr__(self, "center", _point("Disk", center, 2))
        object.__setattr__(self, "radius", float(radius))

    @property
    def lower(self):
        return tuple(c - self.radius for c in self.center)

    @property
    def upper(self):
        return tuple(c + self.radius for c in self.center)

    def contains(self, x):
        return np.linalg.norm(x - self.center, axis=1) <= self.radius * (1 + CLOSE)

    def measure(self):
        return np.pi * self.radius**2

    def charts(self):
        return (_Sector(self.center, 0.0, self.radius),)

    @property
    def boundary(self) -> Boundary:
        """The circle."""
        return Boundary([Circle(self.center, self.radius, name="outer")])

    def distance(self, x):
        return ring(x, jnp.asarray(self.center), self.radius)


@dataclass(frozen=True, init=False)
class Annulus(Domain):
    """The annulus  inner <= |x - center| <= outer  in the plane; the parts of its boundary are
    called 'inner' and 'outer'.

    Raises: RegionError unless 0 < inner < outer.
    """

    center: tuple[float, ...]
    inner: float
    outer: float

    def __init__(self, center: Sequence[float], inner: float, outer: float):
        _positive("Annulus", inner=inner, outer=outer)
        if not inner < outer:
            raise RegionError(f"Annulus: inner={inner}, outer={outer}: expected inner < outer.")
        object.__setattr__(self, "center", _point("Annulus", center, 2))
        object.__setattr__(self, "inner", float(inner))
        object.__setattr__(self, "outer", float(outer))

    @property
    def lower(self):
        return tuple(c - self.outer for c in self.center)

    @property
    def upper(self):
        return tuple(c + self.outer for c in self.center)

    def contains(self, x):
        r = np.linalg.norm(x - self.center, axis=1)
        close = CLOSE * self.outer
        return (r <= self.outer + close) & (r >= self.inner - close)

    def measure(self):
        return np.pi * (self.outer**2 - self.inner**2)

    def charts(self):
        return (_Sector(self.center, self.inner, self.outer),)

    @property
    def boundary(self) -> Boundary:
        """Both circles."""
        outer = Circle(self.center, self.outer, name="outer")
        return Boundary([outer, Circle(self.center, self.inner, -1, name="inner")])

    def distance(self, x):
        center = jnp.asarray(self.center)
        return both(ring(x, center, self.outer), -ring(x, center, self.inner))


class _Oval(Piece):
    """An ellipse by its arc length, from (a, 0) counter-clockwise."""

    periodic = (True,)

    def __init__(self, center: tuple[float, ...], axes: tuple[float, ...]):
        self.center, self.axes, self.name = np.asarray(center), np.asarray(axes), "outer"

    @cached_property
    def _angles(self) -> tuple[np.ndarray, np.ndarray]:
        """The share of the arc at angles t of (a cos t, b sin t)."""
        t = np.linspace(0.0, 2 * np.pi, 4097)
        arc = self._arc(t)
        return arc / arc[-1], t

    def _arc(self, t: np.ndarray) -> np.ndarray:
        """The arc length up to the angle t:  b E(t | 1 - a²/b²),  for any a and b."""
        a, b = self.axes
        return b * ellipeinc(t, 1 - (a / b) ** 2)

    def measure(self):
        a, b = self.axes
        return float(4 * b * ellipe(1 - (a / b) ** 2))

    def place(self, unit):
        share, angles = self._angles
        t, (a, b) = np.interp(unit[:, 0], share, angles), self.axes
        for _ in range(4):  # Newton's method, from 4096 places: to rounding
            speed = np.hypot(a * np.sin(t), b * np.cos(t))
            t = t - (self._arc(t) - unit[:, 0] * self.measure()) / speed
        return self.center + np.stack([a * np.cos(t), b * np.sin(t)], axis=1)

    def charts(self) -> tuple[Chart, ...]:
        """The curve by its angle: smoother where the ellipse is slender."""
        return (_Angle(self),)

    def normal(self, x):
        outward = (jnp.asarray(x) - self.center) / self.axes**2
        return outward / jnp.linalg.norm(outward)

    def normals(self, x):
        outward = (x - self.center) / self.axes**2
        return outward / np.linalg.norm(outward, axis=1, keepdims=True)

    def away(self, x):
        return jnp.abs(_oval(x, self.center, self.axes))


class _Angle(Chart):
    """An ellipse by the angle t of (a cos t, b sin t)."""

    periodic = (True,)

    def __init__(self, oval: _Oval):
        self.oval = oval

    def measure(self):
        return self.oval.measure()

    def place(self, unit):
        return self.oval.center + self.oval.axes * _circle(unit[:, 0])

    def density(self, unit):
        speed = np.linalg.norm(_circle(unit[:, 0])[:, ::-1] * self.oval.axes, axis=1)
        return 2 * np.pi * speed / self.measure()


def _oval(x: Array | np.ndarray, center: np.ndarray, axes: np.ndarray) -> Array:
    """(1 - q²) / |grad q²|,  q² = sum ((x - center)/axes)²,  to first order: a distance. A part in
    (1 - q²)² under the root keeps it smooth at the center, where it is half of the less axis."""
    y = (jnp.asarray(x) - center) / axes
    square, slope = jnp.sum(y**2), jnp.sum((y / axes) ** 2)
    return (1.0 - square) / (2.0 * jnp.sqrt(slope + (1.0 - square) ** 2 / np.min(axes) ** 2))


@dataclass(frozen=True, init=False)
class Ellipse(Domain):
    """The ellipse  ((x - center)_1 / a)² + ((x - center)_2 / b)² <= 1.  Points on its boundary are
    uniform in arc length.

    Args: semiaxes: a, b, half of the widths along the coordinates, > 0.
    """

    center: tuple[float, ...]
    semiaxes: tuple[float, ...]

    def __init__(self, center: Sequence[float], semiaxes: Sequence[float]):
        half = _point("Ellipse, semiaxes", semiaxes, 2)
        _positive("Ellipse", a=half[0], b=half[1])
        object.__setattr__(self, "center", _point("Ellipse", center, 2))
        object.__setattr__(self, "semiaxes", half)

    @property
    def lower(self):
        return tuple(np.subtract(self.center, self.semiaxes).tolist())

    @property
    def upper(self):
        return tuple(np.add(self.center, self.semiaxes).tolist())

    def contains(self, x):
        return np.sum(((x - self.center) / np.asarray(self.semiaxes)) ** 2, axis=1) <= 1 + 2 * CLOSE

    def measure(self):
        return float(np.pi * np.prod(self.semiaxes))

    def charts(self):
        return (_Stretched(_Sector((0.0, 0.0), 0.0, 1.0), self.center, self.semiaxes),)

    @property
    def boundary(self) -> Boundary:
        """The curve."""
        return Boundary([_Oval(self.center, self.semiaxes)])

    def distance(self, x):
        return _oval(jnp.asarray(x), np.asarray(self.center), np.asarray(self.semiaxes))


class _Stretched(Chart):
    """A chart about the origin with its coordinates stretched, and moved to a center."""

    def __init__(self, chart: Chart, center: Sequence[float], factors: Sequence[float]):
        self.chart, self.center, self.factors = chart, np.asarray(center), np.asarray(factors)
        self.periodic = chart.periodic

    def measure(self):
        return float(self.chart.measure() * np.prod(self.factors))

    def place(self, unit):
        return self.center + self.factors * self.chart.place(unit)

    def density(self, unit):
        return self.chart.density(unit)


def _sphere(unit: np.ndarray) -> np.ndarray:
    """Points (n, 3) of the unit sphere, of (share of the height, share of the turn), which keeps
    areas (Archimedes)."""
    z = 2 * unit[:, :1] - 1
    return np.concatenate([np.sqrt(1 - z**2) * _circle(unit[:, 1]), z], axis=1)


class Sphere(Piece):
    """A sphere in space; `side` is 1 where the domain lies within, -1 where it lies outside."""

    periodic = (False, True)

    def __init__(self, center: Sequence[float], radius: float, side: int = 1, name: str = ""):
        self.center, self.radius = np.asarray(center, float), radius
        self.side, self.name = side, name

    def measure(self):
        return 4 * np.pi * self.radius**2

    def place(self, unit):
        return self.center + self.radius * _sphere(unit)

    def normal(self, x):
        r = jnp.asarray(x) - self.center
        return self.side * r / jnp.linalg.norm(r)

    def normals(self, x):
        r = x - self.center
        return self.side * r / np.linalg.norm(r, axis=1, keepdims=True)

    def away(self, x):
        return jnp.abs(jnp.linalg.norm(jnp.asarray(x) - self.center) - self.radius)


class _Shells(Chart):
    """A ball as the image of (share of the radius, of the height, of the turn): r² dr."""

    periodic = (False, False, True)

    def __init__(self, center: tuple[float, ...], radius: float):
        self.center, self.radius = np.asarray(center), radius

    def measure(self):
        return 4 / 3 * np.pi * self.radius**3

    def place(self, unit):
        return self.center + self.radius * unit[:, :1] * _sphere(unit[:, 1:])

    def density(self, unit):
        return 3 * unit[:, 0] ** 2


@dataclass(frozen=True, init=False)
class Ball(Domain):
    """The ball  |x - center| <= radius  in space.

    Raises: RegionError for a center of other than three numbers, or a radius that is not > 0.
    """

    center: tuple[float, ...]
    radius: float

    def __init__(self, center: Sequence[float] = (0.0, 0.0, 0.0), radius: float = 1.0):
        _positive("Ball", radius=radius)
        object.__setattr__(self, "center", _point("Ball", center, 3))
        object.__setattr__(self, "radius", float(radius))

    @property
    def lower(self):
        return tuple(c - self.radius for c in self.center)

    @property
    def upper(self):
        return tuple(c + self.radius for c in self.center)

    def contains(self, x):
        return np.linalg.norm(x - self.center, axis=1) <= self.radius * (1 + CLOSE)

    def measure(self):
        return 4 / 3 * np.pi * self.radius**3

    def charts(self):
        return (_Shells(self.center, self.radius),)

    @property
    def boundary(self) -> Boundary:
        """The sphere."""
        return Boundary([Sphere(self.center, self.radius, name="outer")])

    def distance(self, x):
        return ring(x, jnp.asarray(self.center), self.radius)


def Cylinder(center: Sequence[float], radius: float, height: float) -> Domain:
    """The upright cylinder: a disk about (center_1, center_2), times the height from center_3 - h/2
    to center_3 + h/2. `rotated` turns it. The parts of its boundary are called 'outer' (the side),
    'lower' and 'upper'.

    Raises: RegionError for a center of other than three numbers, a radius or height not > 0.
    """
    center = _point("Cylinder", center, 3)
    _positive("Cylinder", radius=radius, height=height)
    half = 0.5 * height
    return Disk(center[:2], radius) * Box(center[2] - half, center[2] + half)
