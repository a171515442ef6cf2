"""Laplace's equation on a square without four disks: Poisson2d-C of PINNacle."""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np

from distgram.geometry.regions import Box
from distgram.geometry.shapes import Disk
from distgram.pde.conditions import Dirichlet
from distgram.pde.operators import laplacian
from distgram.pde.problem import Problem, Reference, Term
from distgram.pde.registry import register

HALF, PLACE, RADIUS = 0.5, 0.3, 0.1
PER_AXIS = 101
POLES, POWERS = 18, 40  # orders of the series of each disk, and of that of the square


@register("poisson2d_c")
def poisson2d_c() -> Problem:
    """Laplace's equation on [-1/2, 1/2]² without the disks of radius 0.1 about (±0.3, ±0.3).

        u_xx + u_yy = 0,     u = 1 on the square,     u = 0 on the circles

    The reference is a harmonic series whose misfit on the boundary is below 1e-12, which bounds its
    error by the maximum principle.

    Source: Poisson2d-C of Hao et al., PINNacle, NeurIPS 2024, arXiv 2306.08827.
    """
    square = Box((-HALF, -HALF), (HALF, HALF))
    shape, disks = square, [Disk(c, RADIUS) for c in centers()]
    for disk in disks:
        shape = shape - disk
    circles = shape.boundary.part(lambda x: abs(x).max(axis=0) < 0.45)
    terms = {
        "interior": Term(laplacian, 0.0, shape),
        "square": Dirichlet(1.0, square.boundary),
        "circles": Dirichlet(0.0, circles),
    }

    def known() -> Reference:
        axes = shape.axes(PER_AXIS)
        x = np.stack([g.ravel() for g in np.meshgrid(*axes, indexing="ij")], axis=-1)
        u, inside = np.full((len(x), 1), np.nan), shape.contains(x)
        u[inside, 0] = series()(x[inside])
        return Reference(x, u, axes)

    return Problem(shape, terms, name="poisson2d_c", reference=known, inputs=("x", "y"))


def centers() -> list[tuple[float, ...]]:
    """The centers of the disks."""
    return list(itertools.product((-PLACE, PLACE), repeat=2))


class Series:
    """Σ_j (a_j log|z - c_j| + Re Σ_k b_jk (r / (z - c_j))^k) + Re Σ_k d_k (z / R)^k,  c_j the
    disks, and their images in the sides of the square, which have no logarithm.

    The data on the sides are constant, so that u - 1 goes on beyond them with the other sign: to
    the images, where its series have their poles, and around the corners.

    Args: misfit: the largest error on the boundary, at points between those of the fit.
    """

    def __init__(self) -> None:
        own = np.array([complex(c[0], c[1]) for c in centers()])
        far = 2 * HALF - PLACE
        images = [
            complex(sx * a, sy * b)
            for a, b in ((far, PLACE), (PLACE, far), (far, far))
            for sx, sy in itertools.product((-1, 1), repeat=2)
        ]
        self.own, self.every = own, np.concatenate([own, images])
        x, value = self._boundary(150)
        columns = self._columns(x)
        size = np.linalg.norm(columns, axis=0)
        size = np.where(size > 0, size, 1.0)  # the imaginary part of z⁰
        found = np.linalg.lstsq(columns / size, value, rcond=1e-15)[0]
        self.coefficients = found / size
        x, value = self._boundary(571)
        self.misfit = float(np.abs(self(x) - value).max())

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return np.concatenate(
            [self._columns(part) @ self.coefficients for part in np.array_split(x, 16)]
        )

    def _boundary(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Points of the sides, dense at the corners, and of the circles, and the values there."""
        s = -HALF * np.cos(np.pi * (np.arange(n) + 0.5) / n)
        edge = np.full(n, HALF)
        sides = [np.stack(pair, 1) for e in (edge, -edge) for pair in ((s, e), (e, s))]
        t = 2 * np.pi * np.arange(n) / n
        around = RADIUS * np.stack([np.cos(t), np.sin(t)], 1)
        circles = [np.asarray(c) + around for c in centers()]
        values = np.concatenate([np.ones(4 * n), np.zeros(4 * n)])
        return np.concatenate([*sides, *circles]), values

    def _columns(self, x: np.ndarray) -> np.ndarray:
        z = x[:, 0] + 1j * x[:, 1]
        from_own = z[:, None] - self.own
        poles = (RADIUS / (z[:, None] - self.every))[..., None] ** np.arange(1, POLES + 1)
        logs = np.log(np.abs(from_own))
        powers = (z[:, None] / (np.sqrt(2) * HALF)) ** np.arange(POWERS + 1)
        both = np.concatenate([poles.reshape(len(z), len(self.every) * POLES), powers], axis=1)
        return np.concatenate([logs, both.real, both.imag], axis=1)


@cache
def series() -> Series:
    """The reference, found once a process."""
    return Series()
