"""Boxes, their faces, and fixed sites."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, reduce

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from distgram.errors import RegionError
from distgram.geometry.boundary import Boundary, Flat
from distgram.geometry.distance import between, both
from distgram.geometry.region import CLOSE, Chart, Domain, Region
from distgram.geometry.samplers import (
    SAMPLERS,
    Key,
    check_sampler,
    checked_count,
    focus,
    generator,
    nodes_per_axis,
    shared_out,
    unit_grid,
    unit_points,
)

__all__ = ["SAMPLERS", "Box", "Domain", "Faces", "Key", "Region", "RegionError", "Sites"]


@dataclass(frozen=True, init=False)
class Box(Domain):
    """The box  lower_k <= x_k <= upper_k.  Its grid is the k^d inner nodes of a (k + 2)^d grid.

    Args:
        lower, upper: the bounds, shape (d,) each; of an interval plain numbers, `Box(0, 1)`.

    Raises: RegionError for bounds that are not finite, or not lower < upper.
    """

    lower: tuple[float, ...]
    upper: tuple[float, ...]

    def __init__(self, lower: float | Sequence[float], upper: float | Sequence[float]):
        try:
            lower, upper = (tuple(map(float, np.atleast_1d(side))) for side in (lower, upper))
        except (TypeError, ValueError) as error:
            raise RegionError(
                f"Box(lower={lower!r}, upper={upper!r}): expected numbers, or one per coordinate."
            ) from error
        if not lower or len(lower) != len(upper):
            raise RegionError(
                f"Box(lower={lower}, upper={upper}): expected as many lower as upper bounds, "
                "at least one."
            )
        for axis, (a, b) in enumerate(zip(lower, upper, strict=True)):
            if not (np.isfinite(a) and np.isfinite(b) and a < b):
                raise RegionError(
                    f"Box(lower={lower}, upper={upper}): axis {axis}: expected finite bounds "
                    "with lower < upper."
                )
        object.__setattr__(self, "lower", lower)
        object.__setattr__(self, "upper", upper)

    def contains(self, x: Float[np.ndarray, "n d"]) -> Bool[np.ndarray, " n"]:
        """Whether points lie between the bounds."""
        close = CLOSE * self.lengths
        return np.all((x >= self.lower - close) & (x <= self.upper + close), axis=1)

    def distance(self, x: Float[Array | np.ndarray, " d"]) -> Float[Array, ""]:
        """An approximate distance from the faces: see Domain.distance."""
        ends = zip(jnp.asarray(x), self.lower, self.upper, strict=True)
        return reduce(both, [between(*each) for each in ends])

    def charts(self) -> tuple[Chart, ...]:
        """The box as the image of a cube."""
        return (_Scaled(self),)

    @property
    def boundary(self) -> Faces:
        """All faces."""
        return Faces(self)

    def face(self, axis: int, side: int) -> Faces:
        """The face  x_axis = lower_axis  (side 0) or  x_axis = upper_axis  (side 1)."""
        return Faces(self, ((axis, side),))

    def start(self, axis: int = 0) -> Faces:
        """The first instant of a box of space and time, whose coordinate `axis` is time."""
        return self.face(axis, 0)

    def end(self, axis: int = 0) -> Faces:
        """The last instant of a box of space and time, whose coordinate `axis` is time."""
        return self.face(axis, 1)

    def walls(self, time: int = 0) -> Faces:
        """The faces in space of a box of space and time, at all times.

        Raises: RegionError where there is no coordinate but time.
        """
        faces = tuple((a, s) for a in range(self.dim) if a != time for s in (0, 1))
        if not 0 <= time < self.dim or not faces:
            raise RegionError(
                f"Box.walls(time={time}) of {self.dim} coordinates: expected 0 <= time < "
                f"{self.dim}, and a coordinate of space beside it."
            )
        return Faces(self, faces)

    def measure(self) -> float:
        """The volume  prod_k (upper_k - lower_k)."""
        return float(np.prod(self.lengths))

    def sample(self, n: int, key: Key, sampler: str = "sobol") -> Float[np.ndarray, " {n} d"]:
        """Exactly n points, shape (n, d); see Region.sample. On a grid n = k^d."""
        return self.place(self._unit(n, key, sampler))

    def sample_focused(
        self,
        n: int,
        seed: Key,
        sampler: str,
        axis: int,
        center: float,
        width: float,
        fraction: float,
    ) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, " n"]]:
        """Points concentrated around x_axis = center, and their density over the uniform one.

        A share `fraction` of them follows a truncated Cauchy density along the axis, the others
        are uniform: see samplers.focus. The weights 1/ratio restore the uniform measure.

        Args:
            axis: coordinate along which the points are concentrated.
            center, width: of q, in units of that coordinate; half width at half maximum, > 0.
            fraction: share of the points drawn from q, dimensionless, in [0, 1).

        Returns: x of shape (n, d), and p / p_uniform >= 1 - fraction of shape (n,), dimensionless.
        """
        if not 0 <= axis < self.dim:
            raise RegionError(f"focus: axis={axis}: expected 0 <= axis < {self.dim}.")
        unit = self._unit(n, seed, sampler)
        x, edge = self.place(unit), (self.lower[axis], self.upper[axis])
        x[:, axis], ratio = focus(unit[:, axis], edge, center, width, fraction)
        return x, ratio

    def _unit(self, n: int, key: Key, sampler: str) -> Float[np.ndarray, "n d"]:
        n = checked_count("Box", n)
        if sampler != "grid":
            return unit_points(n, self.dim, generator(key), sampler)
        k = nodes_per_axis("Box", n, self.dim, 1)
        return unit_grid(np.linspace(0.0, 1.0, k + 2)[1:-1], self.dim)

    def place(self, unit: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
        """Points of the unit cube mapped onto the box, shape (n, d)."""
        return np.asarray(self.lower) + unit * self.lengths

    def during(self, axis, begin, end):
        lower, upper = list(self.lower), list(self.upper)
        lower[axis], upper[axis] = begin, end
        return Box(lower, upper)


class _Scaled(Chart):
    """A box as the image of a cube."""

    def __init__(self, box: Box):
        self.box, self.periodic = box, (False,) * box.dim

    def measure(self):
        return self.box.measure()

    def place(self, unit):
        return self.box.place(unit)


def Interval(lower: float, upper: float) -> Box:
    """The box of one coordinate,  lower <= x <= upper.

    Raises: RegionError for bounds that are not two finite numbers with lower < upper.
    """
    return _of_dim(1, "Interval", lower, upper)


def Rectangle(lower: Sequence[float], upper: Sequence[float]) -> Box:
    """The box of two coordinates, from its lower to its upper corner.

    Raises: RegionError for bounds that are not two finite numbers each, with lower < upper.
    """
    return _of_dim(2, "Rectangle", lower, upper)


def _of_dim(
    dim: int, what: str, lower: float | Sequence[float], upper: float | Sequence[float]
) -> Box:
    box = Box(lower, upper)
    if box.dim != dim:
        raise RegionError(
            f"{what}(lower={lower!r}, upper={upper!r}): {box.dim} coordinates: expected {dim}."
        )
    return box


@dataclass(frozen=True)
class Faces(Boundary):
    """Faces of a box: x_axis = lower_axis (side 0) or upper_axis (side 1) for each (axis, side).

    By default the whole boundary. Points are split over the faces in proportion to their measure;
    on a grid each face has the k^(d-1) nodes of a tensor grid that includes its edges.
    """

    box: Box
    faces: tuple[tuple[int, int], ...] = ()

    def __post_init__(self):
        d = self.box.dim
        faces = tuple((int(a), int(s)) for a, s in self.faces)
        for axis, side in faces:
            if not 0 <= axis < d or side not in (0, 1):
                raise RegionError(
                    f"Faces: face {(axis, side)}: expected (axis, side) with 0 <= axis < {d} "
                    "and side 0 (lower) or 1 (upper)."
                )
        if len(set(faces)) < len(faces):
            raise RegionError(f"Faces: faces={faces}: expected each face once.")
        every = tuple((axis, side) for axis in range(d) for side in (0, 1))
        object.__setattr__(self, "faces", faces or every)

    @cached_property
    def pieces(self) -> tuple[Flat, ...]:  # type: ignore[override]
        """The faces as pieces of a boundary: 'x1 lower', 'x1 upper', ...; of an interval 'lower'
        and 'upper'."""
        return tuple(self._flat(axis, side) for axis, side in self.faces)

    def _flat(self, axis: int, side: int) -> Flat:
        corner = np.array(self.box.lower)
        corner[axis] = (self.box.lower, self.box.upper)[side][axis]
        edges = np.delete(np.diag(self.box.lengths), axis, axis=0)
        outward = np.eye(self.box.dim)[axis] * (1.0 if side else -1.0)
        end = ("lower", "upper")[side]
        return Flat(corner, edges, outward, end if self.box.dim == 1 else f"x{axis + 1} {end}")

    def counts(self, n: int) -> Int[np.ndarray, " faces"]:
        """n split over the faces in proportion to their measure, by largest remainder."""
        return shared_out(n, self.measures())

    def sample(self, n: int, key: Key, sampler: str = "sobol") -> Float[np.ndarray, " {n} d"]:
        """Exactly n points, shape (n, d); see Region.sample. On a grid n = faces * k^(d-1)."""
        n = checked_count("Faces", n)
        check_sampler(sampler)
        d, rng = self.dim, generator(key)
        if sampler == "grid":
            k = nodes_per_axis("Faces", n, d - 1, len(self.faces))
            nodes = np.linspace(0.0, 1.0, k) if k > 1 else np.array([0.5])
            parts = [unit_grid(nodes, d - 1)] * len(self.faces)
        else:
            counts = self.counts(n)
            if counts.min() == 0:
                raise RegionError(
                    f"Faces: n={n} points leave face {self.faces[int(counts.argmin())]} without "
                    f"one: expected at least {len(self.faces)}, more where faces differ in size."
                )
            parts = [unit_points(int(c), d - 1, rng, sampler) for c in counts]
        return np.concatenate([self.on(f, p) for f, p in zip(self.faces, parts, strict=True)])

    def on(
        self, face: tuple[int, int], unit: Float[np.ndarray, "n {self.dim}-1"]
    ) -> Float[np.ndarray, "n d"]:
        """Points of the unit cube of d - 1 dimensions mapped onto a face, shape (n, d)."""
        axis, side = face
        x = self.box.place(np.insert(unit, axis, float(side), axis=1))
        x[:, axis] = (self.box.lower, self.box.upper)[side][axis]  # on the face to the last bit
        return x

    def normal(self, x: Float[Array | np.ndarray, " d"]) -> Float[Array, " d"]:
        """The outward unit normal at x: that of the nearest face, the first of several."""
        axes, sides = np.transpose(self.faces)
        bounds = np.where(sides, np.take(self.box.upper, axes), np.take(self.box.lower, axes))
        outward = np.eye(self.dim)[axes] * np.where(sides, 1.0, -1.0)[:, None]
        distance = jnp.abs(jnp.asarray(x)[axes] - bounds) / self.box.lengths[axes]
        return jnp.asarray(outward)[jnp.argmin(distance)]

    def draw(self, n: int, key: Key, sampler: str = "sobol"):
        """Exactly n points and the outward normals there, (n, d) both."""
        x = self.sample(n, key, sampler)
        axes, sides = np.transpose(self.faces)
        bounds = np.where(sides, np.take(self.box.upper, axes), np.take(self.box.lower, axes))
        nearest = np.argmin(np.abs(x[:, axes] - bounds) / self.box.lengths[axes], axis=1)
        return x, np.eye(self.dim)[axes[nearest]] * np.where(sides, 1.0, -1.0)[nearest, None]

    def during(self, axis, begin, end):
        if self.begins(axis) or all(a != axis for a, _ in self.faces):
            return Faces(self.box.during(axis, begin, end), self.faces)
        return None

    def begins(self, axis):
        return self.faces == ((axis, 0),)

    @property
    def span(self):
        return self.box.span


@dataclass(frozen=True, eq=False)
class Sites(Region):
    """Fixed points x of shape (n, d), as of measurements; the sampler does not move them."""

    x: np.ndarray

    def __post_init__(self):
        x = np.array(self.x, dtype=np.float64)
        if x.ndim != 2 or x.size == 0 or not np.isfinite(x).all():
            raise RegionError(f"Sites: x of shape {x.shape}: expected finite values, shape (n, d).")
        x.setflags(write=False)
        object.__setattr__(self, "x", x)

    @property
    def dim(self) -> int:
        """d, the number of coordinates of a point."""
        return self.x.shape[1]

    def measure(self) -> float:
        """The number of points."""
        return float(len(self.x))

    def sample(self, n: int, key: Key, sampler: str = "sobol") -> Float[np.ndarray, "n d"]:
        """All the points, shape (n, d); n must be their number."""
        check_sampler(sampler)
        if checked_count("Sites", n) != len(self.x):
            raise RegionError(f"Sites: n={n} points: expected {len(self.x)}, all of them.")
        return self.x.copy()
