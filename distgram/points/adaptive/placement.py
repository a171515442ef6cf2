"""Placements: where the collocation points of a term go next.

A placement chooses points on the host. It sees its term through a View, whose values at given
points are found on all devices, and takes random numbers from an explicit generator: the same
arguments give the same points, on any number of devices.

PINNACLE (Lau et al. 2024, arXiv 2404.07662) chooses points of all terms at once by the same two
ingredients, the residual and the tangent kernel; here each term keeps its share.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from jaxtyping import Float, Int

from distgram.errors import require

DrawUniform = Callable[[int], Float[np.ndarray, "n d"]]


class Placed(NamedTuple):
    """Points (n, d), and their sampling density over the uniform one (n,), dimensionless; None: all
    points have the same weight."""

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

    def anew(self) -> Placed:
        """New points of the term by its own Draw, with its sampler and its focus."""
        ...

    def greedy(self, x: Float[np.ndarray, "n d"], count: int, by: str) -> Int[np.ndarray, " count"]:
        """The indices of `count` points out of x, in the order of choice: see `greedy.choose`."""
        ...


@dataclass(frozen=True)
class Growth:
    """A schedule: each growth multiplies the number of points by `factor`, up to `budget` in total.

    Each growth compiles the step again; choose a large factor.

    Args:
        budget: most points of all terms together. factor: >= 1.1.
        every: steps between two growths; None: when the overfitting alarm asks for one.
    """

    budget: int
    factor: float = 2.0
    every: int | None = None

    def __post_init__(self):
        require(self.budget >= 1, self, "budget", "at least 1")
        require(1.1 <= self.factor < math.inf, self, "factor", "a finite number >= 1.1")
        require(self.every is None or self.every >= 1, self, "every", "at least 1, or left out")

    def divides(self, step: int) -> bool:
        """Whether a growth is scheduled after a step."""
        return self.every is not None and step % self.every == 0


@dataclass(frozen=True)
class Placement(abc.ABC):
    """One way to place points. Settings are attributes; calling it is pure.

    name: what a config calls it. needs_spectrum: whether its View must know the leverage.
    keeps_focus: whether points of a term with a focus may be placed by it.

    Args:
        every: steps between two placements, >= 1. grow: whether the points become more.
    """

    name: ClassVar[str]
    needs_spectrum: ClassVar[bool] = False
    keeps_focus: ClassVar[bool] = False

    every: int = field(default=20, kw_only=True)
    grow: Growth | None = field(default=None, kw_only=True)

    def __init_subclass__(cls, **given: Any):
        super().__init_subclass__(**given)
        if "name" not in vars(cls):
            cls.name = cls.__name__

    def __post_init__(self):
        require(self.every >= 1, self, "every", "at least 1")

    def begin(self, size: int) -> int:
        """The number of points, out of `size`, with which a run begins: by default all."""
        return size

    @abc.abstractmethod
    def __call__(
        self,
        here: Float[np.ndarray, "n d"],
        size: int,
        draw: DrawUniform,
        view: View,
        rng: np.random.Generator,
    ) -> Placed:
        """The next points of one term, at most `size` of them.

        Args:
            here: the present points. size: how many there may be: more, once S grows.
            draw: draw(n), called once, gives n new points, uniform on the region.
        """
