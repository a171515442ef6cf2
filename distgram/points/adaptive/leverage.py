"""Leverage-RAR: drop the redundant points, and insert new ones where the residual is large."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from distgram.errors import require
from distgram.points.adaptive.placement import Placed, Placement, View
from distgram.points.adaptive.proportional import inclusion, systematic


def informative(
    here: Float[np.ndarray, "n d"], drop: float, view: View
) -> Float[np.ndarray, "k d"]:
    """The points that stay when the share `drop` with the least leverage is dropped.

    A point i is redundant where the others determine the tangent space without it. Removing its
    row changes  det φ̂ᵀφ̂  by the factor  1 - h_i,  and the residual that the fit to the others
    leaves there is  r_i / (1 - h_i):  at h_i near 0 neither changes. Dropping the least h_i moves
    the points towards the density K(x, x), from which random points determine a least-squares fit
    with the fewest samples. Source: Cohen, Migliorati, SMAI J. Comput. Math. 3 (2017) 181.
    """
    order = np.argsort(-view.leverage(here), kind="stable")
    return here[np.sort(order[: len(here) - math.floor(drop * len(here))])]


@dataclass(frozen=True)
class Leverage(Placement):
    """Drop the points of least leverage, and insert the same number where |r| is large.

    Each uniform candidate is chosen with a probability ∝ |r|^exponent.

    Args:
        drop: share of the points that leaves, in (0, 1).
        candidates: number of candidates per inserted point, >= 2.

    Source: leverage scores as in Mahoney, Found. Trends Mach. Learn. 3 (2011) 123.
    """

    name = "leverage"
    drop: float = 0.2
    exponent: float = 1.0
    candidates: int = 4
    needs_spectrum = True

    def __post_init__(self):
        super().__post_init__()
        require(0 < self.drop < 1, self, "drop", "a number in (0, 1)")
        require(self.exponent > 0, self, "exponent", "a number > 0")
        require(self.candidates >= 2, self, "candidates", "at least 2")

    def __call__(self, here, size, draw, view, rng):
        kept = informative(here, self.drop, view)
        count = size - len(kept)
        x = draw(self.candidates * count)
        pi = inclusion(view.residual(x) ** self.exponent, count)
        return Placed(np.concatenate([kept, x[systematic(pi, count, rng)]]))
