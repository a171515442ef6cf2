"""Fresh draws: other points of the same sampler each time."""

from __future__ import annotations

from dataclasses import dataclass

from distgram.points.adaptive.placement import Placed, Placement


@dataclass(frozen=True)
class Fresh(Placement):
    """All points anew, uniform: no place stays between the points for long."""

    def __call__(self, here, size, draw, view, rng):
        return Placed(draw(size))
