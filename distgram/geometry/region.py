"""What a region is: points with a measure; with an inside, a domain; made of pieces, a boundary.

A region gives exactly as many points as asked for, from an explicit key, on the host in float64;
a mean over them approximates the mean over the region in its own measure (volume, surface, count).

Functions of one point, as `normal` and `distance`, are of jax, which may trace them; functions of
many, as `contains`, are of numpy.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Array, Bool, Float

from distgram.errors import RegionError
from distgram.geometry.samplers import (
    Key,
    accepted,
    check_sampler,
    checked_count,
    focus,
    generator,
    unit_grid,
    unit_points,
)

if TYPE_CHECKING:
    from distgram.geometry.boundary import Boundary

# A length of the size of a region is known to this share of it: points of a boundary count as
# inside, and points that are STEP of it off are on one side.
CLOSE, STEP = 1e-12, 1e-9
COUNTED = 2**17  # Sobol points by which a measure without a formula is found: to about 1e-4

Predicate = Callable[[Any], Any]


class Chart(ABC):
    """The image of the unit cube [0, 1]^c in R^d: where tensor rules of quadrature have their
    nodes.

    periodic: whether the image closes along each of the c axes. measure: of the image.
    """

    periodic: tuple[bool, ...]

    @abstractmethod
    def measure(self) -> float:
        """The measure of the image."""

    @abstractmethod
    def place(self, unit: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n d"]:
        """Points of the cube mapped onto the image."""

    def density(self, unit: Float[np.ndarray, "n c"]) -> Float[np.ndarray, " n"]:
        """The measure of the image over that of the cube, divided by its mean: 1 where the map
        keeps measure."""
        return np.ones(len(unit))


class Region(ABC):
    """A set of points with a measure, embedded in R^d.

    A region of your own says its dimension, its measure and how points are drawn in it. One with an
    inside is better a `Domain`, which draws by itself. A boundary says its outward normal as well,
    for the conditions Neumann and Robin.
    """

    @property
    @abstractmethod
    def dim(self) -> int:
        """d, the number of coordinates of a point."""

    @abstractmethod
    def measure(self) -> float:
        """The volume of the region, the surface of a boundary, the number of isolated points."""

    @abstractmethod
    def sample(self, n: int, key: Key, sampler: str = "sobol") -> Float[np.ndarray, "n d"]:
        """Exactly n points, shape (n, d), float64.

        Args:
            n: number of points, >= 1.
            key: seed; the same key gives the same points.
            sampler: one of SAMPLERS.

        Raises: RegionError for an unknown sampler, or a number of points it cannot place.
        """

    def normal(self, x: Float[Array | np.ndarray, " d"]) -> Float[Array, " d"]:
        """The outward unit normal at a point x of a boundary, dimensionless; jax may trace it.

        Raises: RegionError where the region is no boundary.
        """
        raise RegionError(
            f"{type(self).__name__} has no outward normal: expected the boundary of a region, "
            "such as Box.boundary, or a Region with a method `normal`."
        )

    def charts(self) -> tuple[Chart, ...]:
        """The images of a cube that the region is made of, for quadrature.

        Raises: RegionError where it is not made of such.
        """
        raise RegionError(
            f"{type(self).__name__} has no nodes of a quadrature: expected a Box, Disk, Ellipse, "
            "Annulus, Ball, Cylinder or Polygon, a product, shift or rotation of these, or the "
            "boundary of one; or take sampler = 'sobol'."
        )

    def during(self, axis: int, begin: float, end: float) -> Region | None:
        """What the region is between two instants of coordinate `axis`, where that is time and the
        region is the same at all times; itself at an earlier first instant; None: neither."""
        return None

    def begins(self, axis: int) -> bool:
        """Whether the region is the first instant of space and time, and nothing else."""
        return False

    @property
    def span(self) -> tuple[np.ndarray, np.ndarray] | None:
        """The lower and the upper ends of each coordinate, None: not known."""
        return None


class Domain(Region):
    """A region with an inside: a box around it, and which points of the box it contains.

        class Heart(dg.Domain):
            lower, upper = (-1.3, -1.1), (1.3, 1.3)

            def contains(self, x):
                u, v = x.T
                return (u**2 + v**2 - 1) ** 3 < u**2 * v**3

    is a whole domain: points are those of the box that it contains, and the measure is counted (to
    about 1e-4) unless `measure` is given. A `boundary` is asked for by conditions, a `distance` by
    exact boundary values, `charts` by quadrature.

    Domains are joined by  a | b,  cut by  a & b  and  a - b,  moved by `shifted` and `rotated`, and
    extended in time, or along another coordinate, by  a * Interval(0, 1).

    lower, upper: the box, (d,) each.
    """

    lower: tuple[float, ...]
    upper: tuple[float, ...]

    @abstractmethod
    def contains(self, x: Float[np.ndarray, "n d"]) -> Bool[np.ndarray, " n"]:
        """Whether points of the box lie inside, or within CLOSE times the size on the boundary."""

    def __repr__(self):
        return f"{type(self).__name__}(lower={tuple(self.lower)}, upper={tuple(self.upper)})"

    def holds(self, x: Float[np.ndarray, "n d"]) -> Bool[np.ndarray, " n"]:
        """Whether points, of the box or not, lie in the domain."""
        close = CLOSE * self.size
        lower, upper = self.span
        box = np.all((x >= lower - close) & (x <= upper + close), axis=1)
        return box & self.contains(x)

    @property
    def dim(self) -> int:
        """d, the number of coordinates."""
        return len(self.lower)

    @property
    def boundary(self) -> Boundary:
        """The whole boundary.

        Raises: RegionError where none is known.
        """
        raise RegionError(
            f"{type(self).__name__} has no boundary: expected a property `boundary`, as of a Disk "
            "or of the domain's own."
        )

    def distance(self, x: Float[Array | np.ndarray, " d"]) -> Float[Array, ""]:
        """A function that vanishes on the boundary, is positive inside and negative outside, and
        grows along the inward normal with slope 1 at its smooth points: an approximate distance,
        as exact boundary values ask for; jax may trace it.

        Source: Sukumar, Srivastava, Comput. Methods Appl. Mech. Eng. 389 (2022) 114333.
        Raises: RegionError where none is known.
        """
        raise RegionError(
            f"{type(self).__name__} has no distance: expected a method `distance`, as of a Disk or "
            "of the domain's own."
        )

    @property
    def lengths(self) -> Float[np.ndarray, " d"]:
        """Edge lengths  upper - lower  of the box, shape (d,)."""
        return np.subtract(self.upper, self.lower)

    @property
    def size(self) -> float:
        """The diagonal of the box."""
        return float(np.linalg.norm(self.lengths))

    @property
    def span(self) -> tuple[np.ndarray, np.ndarray]:
        """The lower and the upper ends of each coordinate."""
        return np.asarray(self.lower), np.asarray(self.upper)

    @cached_property
    def _counted(self) -> float:
        """The share of the box that is inside, counted."""
        inside = self.contains(self._in_box(unit_points(COUNTED, self.dim, generator(0), "sobol")))
        return max(float(np.mean(inside)), 1.0 / COUNTED)

    def measure(self) -> float:
        """The volume: by default that of the box times the share of COUNTED Sobol points inside."""
        return float(np.prod(self.lengths)) * self._counted

    def axes(self, per_axis: int) -> tuple[Float[np.ndarray, " k"], ...]:
        """One axis a coordinate: `per_axis` equidistant nodes over the box, both ends included."""
        return tuple(np.linspace(self.lower, self.upper, per_axis).T)

    def sobol(self, n: int, seed: Key) -> Float[np.ndarray, "n d"]:
        """n points of a scrambled Sobol sequence, shape (n, d)."""
        return self.sample(n, seed, "sobol")

    def sample(self, n: int, key: Key, sampler: str = "sobol") -> Float[np.ndarray, "n d"]:
        """Exactly n points, shape (n, d): the first n of the sequence over the box that are inside.
        On a grid the inner nodes of a (k + 2)^d grid of the box that are inside, all of them."""
        n = checked_count(type(self).__name__, n)
        check_sampler(sampler)
        if sampler == "grid":
            return self._grid(n)

        def inside(m: int) -> tuple[np.ndarray]:
            x = self._in_box(unit_points(m, self.dim, generator(key), sampler))
            return (x[self.contains(x)],)

        return accepted(type(self).__name__, n, inside, self._share)[0]

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

        A share `fraction` of the points of the box follows a truncated Cauchy density along the
        axis, the others are uniform: see samplers.focus; those inside are kept. The weights
        1/ratio restore the uniform measure.

        Args:
            axis: coordinate along which the points are concentrated.
            center, width: of q, in units of that coordinate; half width at half maximum, > 0.
            fraction: share of the points drawn from q, dimensionless, in [0, 1).

        Returns: x of shape (n, d), and p / p_uniform > 0 of shape (n,), dimensionless.
        """
        if not 0 <= axis < self.dim:
            raise RegionError(f"focus: axis={axis}: expected 0 <= axis < {self.dim}.")
        if sampler == "grid":
            raise RegionError(
                f"{type(self).__name__}: a focus on a grid: expected a Box, or another sampler."
            )
        n, edge = checked_count(type(self).__name__, n), (self.lower[axis], self.upper[axis])

        def inside(m: int) -> tuple[np.ndarray, np.ndarray]:
            unit = unit_points(m, self.dim, generator(seed), sampler)
            x = self._in_box(unit)
            x[:, axis], ratio = focus(unit[:, axis], edge, center, width, fraction)
            kept = self.contains(x)
            return x[kept], ratio[kept]

        x, ratio = accepted(type(self).__name__, n, inside, self._share)
        return x, ratio * np.mean(1.0 / ratio)  # the mean of 1/density is one

    def _in_box(self, unit: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
        return np.asarray(self.lower) + unit * self.lengths

    @property
    def _share(self) -> float:
        """The share of the box that is inside."""
        return min(1.0, self.measure() / float(np.prod(self.lengths)))

    def _grid(self, n: int) -> Float[np.ndarray, "n d"]:
        """The inner nodes of a grid of the box that are inside, where these are n."""
        guess, near = round((n / self._share) ** (1 / self.dim)), {}
        for k in range(max(1, guess - 4), guess + 5):
            x = self._in_box(unit_grid(np.linspace(0.0, 1.0, k + 2)[1:-1], self.dim))
            x = x[self.contains(x)]
            if len(x) == n:
                return x
            near[len(x)] = k
        best = sorted((m for m in near if m), key=lambda m: abs(m - n))[:2]
        raise RegionError(
            f"{type(self).__name__}: n={n} points on a grid: expected as many as nodes of a grid "
            f"of its box are inside; the nearest are {' and '.join(map(str, sorted(best)))}."
        )

    # -- algebra -----------------------------------------------------------------------------------

    def __or__(self, other: Domain) -> Domain:
        """The union: what is in one of the two, or in both."""
        from distgram.geometry.boolean import Union  # which is made of domains

        return Union(self, other)

    def __and__(self, other: Domain) -> Domain:
        """The intersection: what is in both."""
        from distgram.geometry.boolean import Intersection

        return Intersection(self, other)

    def __sub__(self, other: Domain) -> Domain:
        """The difference: what is in the first and not in the second."""
        from distgram.geometry.boolean import Difference

        return Difference(self, other)

    def __mul__(self, other: Domain) -> Domain:
        """The product: points (x, y), x of the first and y of the second; `shape * time` is the
        shape at all times."""
        from distgram.geometry.product import product

        return product(self, other)

    def shifted(self, by: Sequence[float]) -> Domain:
        """The domain moved by a vector (d,)."""
        from distgram.geometry.motion import Moved

        return Moved.by(self, np.eye(self.dim), by)

    def rotated(
        self,
        angle: float,
        center: Sequence[float] | None = None,
        axis: Sequence[float] | None = None,
    ) -> Domain:
        """The domain turned by an angle in radians: in the plane counter-clockwise about a center,
        in space about an axis through it, counter-clockwise for who looks against the axis.

        Args: center: (d,), by default the origin. axis: a vector (3,), in space only.
        """
        from distgram.geometry.motion import Moved, rotation

        turn = rotation(self.dim, angle, axis)
        about = np.zeros(self.dim) if center is None else np.asarray(center, float)
        return Moved.by(self, turn, about - turn @ about)
