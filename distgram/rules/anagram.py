"""ANaGRAM: the truncated pseudoinverse with a fixed cutoff, and a line search."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import jax.numpy as jnp
from jaxtyping import Array

from distgram.errors import require
from distgram.linalg.spectrum import Determined, Spectrum, hard_cutoff
from distgram.rules.line_search import GridSearch, LineSearch
from distgram.rules.rule import PSEUDOINVERSE, Rule, StepInfo, check_validation


@dataclass(frozen=True)
class ANaGRAM(Rule):
    """θ - η φ̂†ᵅ r,  with  φ̂†ᵅ = Σ_{sᵢ >= α} vᵢ sᵢ⁻¹ v̂ᵢᵀ.

    Exactly one of the two cutoffs is given.

    Args:
        cutoff: α, on the singular values of the weighted Jacobian, > 0.
        relative_cutoff: α / s₁, in [0, 1).
        line_search: chooses η.
        validation: points per term held out of training to cap the rank by extrapolation, see
            `Spectrum.k_opt`; None: no cap.

    Source: Schwencke, Furtlehner, ICLR 2025, arXiv 2412.10782.
    """

    name = "anagram"
    cutoff: float | None = None
    relative_cutoff: float | None = None
    line_search: LineSearch = field(default_factory=GridSearch)
    validation: int | None = None

    def __post_init__(self):
        if (self.cutoff is None) == (self.relative_cutoff is None):
            require(False, self, "cutoff", "this or relative_cutoff, and not both")
        if self.cutoff is not None:
            positive = math.isfinite(self.cutoff) and self.cutoff > 0
            require(positive, self, "cutoff", "a finite number > 0")
        if self.relative_cutoff is not None:
            require(0 <= self.relative_cutoff < 1, self, "relative_cutoff", "a number in [0, 1)")
        check_validation(self)

    def init(self, p):
        return ()

    def needs(self, spectrum, theta, state):
        alpha, rank = self._cut(spectrum)
        enough = (spectrum.beyond(rank) < alpha) | (spectrum.left_out == 0)
        return Determined(enough, rank, PSEUDOINVERSE)

    def _cut(self, spectrum: Spectrum) -> tuple[Array, Array]:
        """(α, the number of singular values that are at least α)."""
        if self.relative_cutoff is not None:
            alpha = self.relative_cutoff * spectrum.s[0]
        else:
            alpha = jnp.asarray(self.cutoff, spectrum.s.dtype)
        return alpha, jnp.sum(spectrum.s >= alpha)

    def step(self, spectrum, losses_at, theta, state):
        alpha, rank = self._cut(spectrum)
        rank = jnp.minimum(rank, spectrum.k_opt())
        direction = spectrum.direction(hard_cutoff(spectrum, rank))
        loss = losses_at(theta[None])[0]
        eta, loss = self.line_search(losses_at, theta, direction, loss)
        info = StepInfo(loss, rank, alpha**2, eta, eta > 0)
        return theta - eta * direction, state, info
