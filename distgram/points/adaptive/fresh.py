"""Fresh draws: other points of the same sampler each time."""

from __future__ import annotations

from dataclasses import dataclass

from distgram.points.adaptive.placement import Placement


@dataclass(frozen=True)
class Fresh(Placement):
    """All points anew: no place stays between the points for long."""

    name = "fresh"
    keeps_focus = True

    def __call__(self, here, size, draw, view, rng):
        return view.anew()
