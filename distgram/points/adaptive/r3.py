"""R3: retain, resample, release."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from distgram.points.adaptive.placement import Placed, Placement


@dataclass(frozen=True)
class R3(Placement):
    """Retain the points with |r| above the mean over all present ones; release the others, and
    draw as many anew: points gather where the residual stays large, and leave when it has fallen.

    Source: Daw, Bu, Wang, Perdikaris, Karpatne, ICML 2023, arXiv 2207.02338, algorithm 1.
    """

    name = "r3"

    def __call__(self, here, size, draw, view, rng):
        r = view.residual(here)
        retained = here[r > r.mean()]
        return Placed(np.concatenate([retained, draw(size - len(retained))]))
