"""AMStramGRAM: a cutoff rank that follows the reconstruction error."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from distgram.errors import require
from distgram.linalg.spectrum import Determined, Spectrum, hard_cutoff
from distgram.rules.line_search import GridSearch, LineSearch
from distgram.rules.rule import PSEUDOINVERSE, Rule, StepInfo, check_validation


def precision_rank(spectrum: Spectrum, epsilon: float) -> Int[Array, ""]:
    """rε = #{n : RCE_n >= ε}, n = 0..k; zero once the rms residual itself is below ε."""
    return jnp.sum(spectrum.rce() >= epsilon)


def elbow(s: Float[Array, " k"], start: Int[Array, ""]) -> Int[Array, ""]:
    """The index beyond `start` where log s is farthest from the chord between the ends there."""
    k = s.shape[0]
    n = jnp.arange(k)
    y = jnp.log(jnp.maximum(s, jnp.finfo(s.dtype).tiny))
    first = jnp.minimum(start, k - 1)
    slope = (y[-1] - y[first]) / jnp.maximum(k - 1 - first, 1)
    distance = jnp.abs(y - (y[first] + slope * (n - first)))
    return jnp.argmax(jnp.where(n >= first, distance, -1.0)) + 1


class AMStramGRAMState(NamedTuple):
    """Half step (0: r_max, 1: r_min), r_max (0 before the first), r_min of the last iteration,
    and whether r_min has once reached r_max."""

    half: Int[Array, ""]
    r_max: Int[Array, ""]
    r_min: Int[Array, ""]
    met: Bool[Array, ""]


@dataclass(frozen=True)
class AMStramGRAM(Rule):
    """Multi-cutoff steps: an iteration is a step of rank r_max, then one of rank r_min.

        r_min = max(1, min(r∩, rε)),
        r_max: first the elbow of log Δ̂ beyond r_min; then max(r∩, r_max), and one more while
        r_min has not moved and is below r_max, until they first meet.

    Each half is one step of the loop, with its own factorization and line search. It converges,
    by the rule's own criterion, at rε = 0: a mean square residual below ε². The network must be
    able to reach ε, else the rule stalls.

    Args:
        epsilon: ε, the precision wanted of the rms residual, > 0.
        line_search: chooses the step size.
        validation: points per term held out of training to cap the rank by extrapolation, see
            `Spectrum.k_opt`; None: no cap.

    Source: Schwencke, Rousselot, Shilova, Furtlehner 2025 (AMStramGRAM, algorithm 1, sketch);
    without the step of rank r_max the sketch stalls, since r∩ is small at the start.
    """

    name = "amstramgram"
    epsilon: float = 1e-8
    line_search: LineSearch = field(default_factory=GridSearch)
    validation: int | None = None

    def __post_init__(self):
        positive = math.isfinite(self.epsilon) and self.epsilon > 0
        require(positive, self, "epsilon", "a finite number > 0")
        check_validation(self)

    def init(self, p):
        zero = jnp.asarray(0)
        return AMStramGRAMState(zero, zero, zero, jnp.asarray(False))

    def needs(self, spectrum, theta, state):
        *_, rank = self._ranks(spectrum, state)
        r_cap = spectrum.crossing_rank()
        crossed = spectrum.beyond(r_cap) <= jnp.append(spectrum.rce()[1:], spectrum.outside)[r_cap]
        first = (state.half == 0) & (state.r_max == 0)  # the elbow is that of the whole spectrum
        enough = crossed & ~first & (rank <= spectrum.s.shape[0])
        return Determined(enough | (spectrum.left_out == 0), rank, PSEUDOINVERSE)

    def _ranks(self, spectrum: Spectrum, state: AMStramGRAMState) -> tuple[Array, ...]:
        """(r∩, rε, r_min, r_max, the rank of this half), at least 1 and not yet at most k."""
        r_cap, r_eps = spectrum.crossing_rank(), precision_rank(spectrum, self.epsilon)
        r_min = jnp.maximum(jnp.minimum(r_cap, r_eps), 1)
        grow = (r_min == state.r_min) & (r_min < state.r_max) & ~state.met
        later = jnp.maximum(r_cap, state.r_max + grow)
        r_max = jnp.where(state.r_max == 0, elbow(spectrum.s, r_min), later)
        r_max = jnp.where(state.half == 0, jnp.maximum(r_max, 1), state.r_max)
        return r_cap, r_eps, r_min, r_max, jnp.where(state.half == 0, r_max, r_min)

    def step(self, spectrum, losses_at, theta, state):
        r_cap, r_eps, *kept = self._ranks(spectrum, state)
        r_min, r_max, rank = (jnp.minimum(r, spectrum.s.shape[0]) for r in kept)
        rank = jnp.minimum(rank, spectrum.k_opt())
        direction = spectrum.direction(hard_cutoff(spectrum, rank))
        loss = losses_at(theta[None])[0]
        eta, loss = self.line_search(losses_at, theta, direction, loss)
        after = AMStramGRAMState(
            half=1 - state.half,
            r_max=r_max,
            r_min=jnp.where(state.half == 0, state.r_min, r_min),
            met=state.met | (r_min >= r_max),
        )
        info = StepInfo(
            loss=loss,
            rank=rank,
            regularization=spectrum.s[rank - 1] ** 2,
            step_size=eta,
            accepted=eta > 0,
            converged=r_eps == 0,
            r_cap=r_cap,
            r_eps=r_eps,
        )
        return theta - eta * direction, after, info
