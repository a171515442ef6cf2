"""RAR and RAR-D: points are added where the residual is large, up to a budget."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from distgram.errors import require
from distgram.points.adaptive.placement import Placed, Placement
from distgram.points.adaptive.proportional import inclusion, systematic


@dataclass(frozen=True)
class RAR(Placement):
    """Begin with a share of the points, and add more where |r| is large.

    A run begins with the share `start`. Each placement adds the share `add`, out of
    candidates · size  uniform ones, until the budget is used; from then on the points stay.

    The budget is the number of points that the config gives, or to which it grows. Shapes do not
    change: a point that has not been added yet has weight zero.

    Args:
        start, add: shares of size, in (0, 1).
        by: 'largest', the largest |r| (RAR); 'density', with probability ∝ |r|^exponent (RAR-D).
        candidates: number of candidates per point of the budget, >= 1.

    Source: Lu, Meng, Mao, Karniadakis, SIAM Rev. 63 (2021) 208 (RAR); Wu et al. 2023 (RAR-D).
    """

    name = "rar"
    start: float = 0.5
    add: float = 0.05
    by: str = "density"
    exponent: float = 2.0
    candidates: int = 2

    def __post_init__(self):
        super().__post_init__()
        for share in ("start", "add"):
            require(0 < getattr(self, share) < 1, self, share, "a number in (0, 1)")
        require(self.by in ("largest", "density"), self, "by", "'largest' or 'density'")
        require(self.exponent > 0, self, "exponent", "a number > 0")
        require(self.candidates >= 1, self, "candidates", "at least 1")

    def begin(self, size):
        return max(1, math.ceil(self.start * size))

    def __call__(self, here, size, draw, view, rng):
        count = min(max(1, round(self.add * size)), size - len(here))
        if count <= 0:
            return Placed(here)
        x = draw(self.candidates * size)
        r = view.residual(x)
        if self.by == "largest":
            chosen = np.argsort(-r, kind="stable")[:count]
        else:
            chosen = systematic(inclusion(r**self.exponent, count), count, rng)
        return Placed(np.concatenate([here, x[chosen]]))
