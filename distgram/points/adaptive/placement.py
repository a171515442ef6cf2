"""Placements: where the collocation points of a term go next.

A placement chooses points on the host. It sees its term through a View, whose values at given
points are found on all devices, and takes random numbers from an explicit generator: the same
arguments give the same points, on any number of devices.

PINNACLE (Lau et al. 2024, arXiv 2404.07662) chooses points of all terms at once by the same two
ingredients, the residual and the tangent kernel; here each term keeps its share.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Float, Int

Draw = Callable[[int], Float[np.ndarray, "n d"]]


class Placed(NamedTuple):
    """Points (n, d), and the density they follow over the uniform one (n,), dimensionless; None:
    all count alike."""

    x: Float[np.ndarray, "n d"]
    density: Float[np.ndarray, " n"] | None = None


class View(Protocol):
    """What a placement may ask about points of its term, at the present parameters."""

    def residual(self, x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
        """|D[u](x) - f(x)|, the Euclidean norm over the equations, in units of the residual."""
        ...

    def leverage(self, x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
        """K(x, x) = w Σ_{k<=r} (J(x)·v_k / s_k)², summed over the equations, dimensionless.

        w is the weight of the term; s, v are triplets of φ̂ on the present points and r the rank
        the rule uses. For the point i of φ̂ with quadrature weight ω_i, its leverage is
        h_i = Σ_{k<=r} V̂²_{k,i} = ω_i K(x_i, x_i), in [0, 1], and Σ_i h_i = r.
        """
        ...

    def greedy(self, x: Float[np.ndarray, "n d"], count: int, by: str) -> Int[np.ndarray, " count"]:
        """The indices of `count` points out of x, in the order of choice: see `greedy.choose`."""
        ...


class Placement(abc.ABC):
    """One way to place points. Settings are attributes; calling it is pure."""

    needs_spectrum = False

    def begin(self, size: int) -> int:
        """How many points of `size` there are at first: all of them by default."""
        return size

    @abc.abstractmethod
    def __call__(
        self,
        here: Float[np.ndarray, "n d"],
        size: int,
        draw: Draw,
        view: View,
        rng: np.random.Generator,
    ) -> Placed:
        """The next points of one term, at most `size` of them.

        Args:
            here: the present points. size: how many there may be: more, once S grows.
            draw: draw(n), called once, gives n new points, uniform on the region.
        """
