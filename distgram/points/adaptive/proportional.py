"""Sampling without replacement, each candidate with a probability proportional to its weight."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int


def inclusion(weights: Float[np.ndarray, " m"], n: int) -> Float[np.ndarray, " m"]:
    """Probabilities  π_i = min(1, κ w_i)  with  Σ π_i = n  of each candidate to be among n of m.

    Weights that are all zero, or not finite, count as equal.
    """
    total = weights.sum()
    if not (np.isfinite(total) and total > 0):
        weights = np.ones(len(weights))
    w = weights + 1e-12 * weights.mean()  # none is left out, should n exceed the positive ones
    sure = np.zeros(len(w), bool)
    while True:
        pi = np.where(sure, 1.0, (n - sure.sum()) * w / max(w[~sure].sum(), np.finfo(float).tiny))
        above = ~sure & (pi >= 1.0)
        if not above.any():
            return pi
        sure |= above


def systematic(
    pi: Float[np.ndarray, " m"], n: int, rng: np.random.Generator
) -> Int[np.ndarray, " n"]:
    """n different candidates, ascending, i among them with probability π_i, by one random number:
    those in whose share of the line Σ π_i one of  u, u + 1, ...  falls.

    Source: Madow, Ann. Math. Stat. 20 (1949) 333.
    """
    sure = np.flatnonzero(pi >= 1.0)
    open_ = np.flatnonzero(pi < 1.0)
    left = n - len(sure)
    if left == 0:
        return sure
    line = np.cumsum(pi[open_])
    marks = (rng.random() + np.arange(left)) * (line[-1] / left)  # the sum is `left` to rounding
    chosen = open_[np.minimum(np.searchsorted(line, marks, side="right"), len(open_) - 1)]
    return np.sort(np.concatenate([sure, chosen]))
