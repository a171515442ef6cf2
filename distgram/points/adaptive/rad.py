"""RAD: residual-based adaptive distribution."""

from __future__ import annotations

from dataclasses import dataclass

from distgram.errors import require
from distgram.points.adaptive.placement import Placed, Placement
from distgram.points.adaptive.proportional import inclusion, systematic


@dataclass(frozen=True)
class RAD(Placement):
    """Choose all points again, out of  candidates · size  uniform ones, with the density

        p(x) ∝ |r(x)|^exponent / mean |r|^exponent + floor.

    No candidate is chosen twice: probabilities are capped at one, and the weights use the capped
    density.

    Args:
        exponent: α > 0. floor: c >= 0; 0 leaves places without points where r is small.
        candidates: number of candidates per chosen point, >= 2.
        weights: 'importance' restores the uniform measure with ω ∝ 1/p, so that the loss remains
            the mean square; 'uniform' leaves it weighted by p, as in the source.

    Source: Wu, Zhu, Tan, Kartha, Lu, Comput. Methods Appl. Mech. Eng. 403 (2023) 115671.
    """

    name = "rad"
    exponent: float = 1.0
    floor: float = 1.0
    candidates: int = 4
    weights: str = "importance"

    def __post_init__(self):
        super().__post_init__()
        require(self.exponent > 0, self, "exponent", "a number > 0")
        require(self.floor >= 0, self, "floor", "a number >= 0")
        require(self.candidates >= 2, self, "candidates", "at least 2")
        known = self.weights in ("importance", "uniform")
        require(known, self, "weights", "'importance' or 'uniform'")

    def __call__(self, here, size, draw, view, rng):
        x = draw(self.candidates * size)
        power = view.residual(x) ** self.exponent
        mean = power.mean()
        pi = inclusion(power / mean + self.floor if mean > 0 else power + 1.0, size)
        chosen = systematic(pi, size, rng)
        density = pi[chosen] * len(x) / size if self.weights == "importance" else None
        return Placed(x[chosen], density)
