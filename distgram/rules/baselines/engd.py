"""The full-Gram natural gradient (E-NGD)."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp

from distgram.rules.baselines.baseline import Baseline
from distgram.rules.line_search import GridSearch
from distgram.rules.rule import StepInfo


@dataclass(frozen=True)
class ENGD(Baseline):
    """Energy natural gradient:  θ ← θ - η G⁺ Jᵀr,  G = JᵀJ,  η = 0.5^j (j = 0..30) of least loss.

    Forming G squares the condition number of J: singular values of J below √(pε) σ_max are lost,
    and O(p³) is paid for the rest. It has no state.

    Least squares with its default tolerance cuts the singular values of J off at √(pε) σ_max(J).
    The reported regularization is the square of this cutoff; the rank is the number of singular
    values above the cutoff.

    Source: Müller, Zeinhofer, ICML 2023, arXiv 2302.13163.
    """

    name = "engd"
    line_search: GridSearch = GridSearch()

    def init(self, objective, theta):
        return ()

    def step(self, objective, theta, state):
        gram, gradient = objective.gram(theta)
        direction, _, rank, s = jnp.linalg.lstsq(gram, gradient)
        eta, loss = self.line_search(objective.batch, theta, direction, objective(theta))
        least = theta.size * jnp.finfo(theta.dtype).eps * s[0]
        info = StepInfo(loss=loss, rank=rank, regularization=least, step_size=eta, accepted=eta > 0)
        return theta - eta * direction, state, info
