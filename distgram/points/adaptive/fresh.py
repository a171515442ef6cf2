"""Fresh draws: at each placement the sampler of the term draws all points again."""

from __future__ import annotations

from dataclasses import dataclass

from distgram.points.adaptive.placement import Placement


@dataclass(frozen=True)
class Fresh(Placement):
    """Draw all points again, so that no place lies between the points for long."""

    name = "fresh"
    keeps_focus = True

    def __call__(self, here, size, draw, view, rng):
        return view.anew()
