"""Extrapolation: the truncated pseudoinverse at the rank that held-out rows ask for."""

from __future__ import annotations

from dataclasses import dataclass, field

from distgram.errors import require
from distgram.linalg.spectrum import hard_cutoff
from distgram.rules.line_search import GridSearch, LineSearch
from distgram.rules.rule import Rule, StepInfo


@dataclass(frozen=True)
class Extrapolation(Rule):
    """θ - η d_k of the rank k whose linear prediction at held-out points is the best one.

        d_k = Σ_{i<=k} (cᵢ / sᵢ) vᵢ,    k = argmin_{1<=k<=K} ‖r_Z - Φ_Z d_k‖,

    Φ_Z and r_Z the rows at points Z of the same terms and weights, drawn once and never trained
    on. A direction is left out where what it fits is not what holds between the points: the rank
    needs no threshold. K is all of the spectrum, so a factorization that gives less does not do.

    Args:
        validation: points Z per term, at least 1.
        line_search: chooses η.

    Source: the criterion is cross-validation of a truncated SVD (Hansen 1998, ch. 7), on fresh
    points, which for a differential equation cost nothing to have.
    """

    name = "extrapolation"
    validation: int = 1024
    line_search: LineSearch = field(default_factory=GridSearch)

    def __post_init__(self):
        given = self.validation is not None and self.validation >= 1
        require(given, self, "validation", "at least 1")

    def init(self, p):
        return ()

    def step(self, spectrum, losses_at, theta, state):
        rank = spectrum.k_opt()
        direction = spectrum.direction(hard_cutoff(spectrum, rank))
        loss = losses_at(theta[None])[0]
        eta, loss = self.line_search(losses_at, theta, direction, loss)
        info = StepInfo(loss, rank, spectrum.s[rank - 1] ** 2, eta, eta > 0)
        return theta - eta * direction, state, info
