"""Adaptive ratio: Tikhonov steps whose regularization follows actual over predicted decrease."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from distgram.errors import require
from distgram.linalg.spectrum import Determined, Spectrum, hard_cutoff, tikhonov
from distgram.rules.rule import Rule, StepInfo, check_validation

# A direction may be left out once its filter factor is below this; the prediction then leaves it
# out too.
NEGLECTED = 1e-2
# An excursion that has not gained is followed by a higher one: its exponent is less by so much.
CLIMB = 0.15
# Backward error of the triplets over the least singular value in use: the ratio of actual to
# predicted decrease, which sees it, decides to a factor of ten.
TOLERANCE = 1e-2


class AdaptiveRatioState(NamedTuple):
    """λ chosen last; the loss at the start; the loss last seen to halve, and for how many steps
    it has not; the exponent of the excursion made last, and the loss that it left."""

    lam: Float[Array, ""]
    first: Float[Array, ""]
    reference: Float[Array, ""]
    waited: Int[Array, ""]
    exponent: Float[Array, ""]
    left: Float[Array, ""]


@dataclass(frozen=True)
class AdaptiveRatio(Rule):
    """The full step with the smallest λ whose model can be trusted; an excursion where none moves.

        d(λ) = Σ fᵢ cᵢ/sᵢ vᵢ,   fᵢ = sᵢ²/(sᵢ²+λ),   predicted decrease  Σ cᵢ² fᵢ (2 - fᵢ),
        ρ(λ) = (L(θ) - L(θ - d(λ))) / predicted(λ).

    `trials` values of λ in [λ/window, λ·window] are tried at once, λ the last one chosen; from the
    largest down, the smallest λ is taken for which ρ, as a running minimum, is still >= `ratio`.
    Where none is, the parameters stay and the next window begins where this one ended. No line
    search.

    Such a descent ends on a plateau: the stiff directions (large sᵢ) have converged, the residual
    that is left needs parameter changes cᵢ/sᵢ of order one along directions of small sᵢ, and a step
    of length t bends the stiff ones by O(t²), so that decrease allows only t = O(√‖r‖). An
    excursion leaves it: once `patience` steps have not halved a loss below depth·L₀, the step goes
    uphill, to the largest loss among trials λ·10⁻ʲ, j = 1..trials, that is at most

        L₀^(1-a) L^a,    a = first_excursion, less by 0.15 after each excursion that has not halved
                         the loss which it left, down to a = excursion,

    L₀ the loss at the start. The stiff directions then converge again within a few tens of steps,
    from a place where less of the residual is out of reach. Low excursions take few of those steps,
    and where they do not gain, higher ones do. The best parameters met are the loop's to keep.
    excursion = 1 never goes uphill.

    With `acceleration` every trial is first corrected for the bend of the residual along it,

        e(λ) = ½ (JᵀJ + λ)⁻¹ Jᵀ r_dd,   ½ r_dd ≈ r(θ - d) - (r - J d),

    the full step being θ - d - e where 2‖e‖ <= acceleration ‖d‖, else θ - d. The difference over
    the whole step costs a residual per trial, and one more pass over the rows for all of them;
    derivatives higher than the second are in it too. The same factorization serves: in the right
    vectors, Jᵀ(r - J d) is sᵢ(1 - fᵢ)cᵢ. By Jᵀ the conditioning is squared: e is good to
    eps s₁‖r‖/λ, enough for a correction. Excursions go without.

    Args:
        ratio: least actual over predicted decrease, dimensionless, in (0, 1).
        window: factor of the window, > 1. trials: values of λ tried per step, >= 2.
        initial: λ before the first step, in units of the squared singular values.
        excursion: exponent of the height of the highest excursion, in [0, 1]. first_excursion: of
            the first one, in [excursion, 1]; None: all are as high.
        patience: steps without halving before one, >= 1.
        depth: loss over L₀ above which none is made, in (0, 1]: descents begin slowly.
        acceleration: largest 2‖e‖/‖d‖ of a correction of the trials, in [0, 1]; 0: none is made.
        validation: points per term held out of training to cap the rank by extrapolation, see
            `Spectrum.k_opt`; None: no cap.

    Source: the ratio test of trust regions (Conn, Gould, Toint 2000, ch. 6), tried on a window at
    once as in DSGNAR, arXiv 2607.02194, there with a radius in place of λ; leaving a basin uphill
    as in basin hopping (Wales, Doye 1997), along the Gauss-Newton direction in place of noise;
    geodesic acceleration: Transtrum, Sethna 2012, arXiv 1201.5885, there by a shorter difference.
    """

    name = "adaptive_ratio"
    ratio: float = 0.075
    window: float = 20.0
    trials: int = 12
    initial: float = 1.0
    excursion: float = 0.1
    first_excursion: float | None = None
    patience: int = 4
    depth: float = 1e-8
    acceleration: float = 0.0
    validation: int | None = None

    def __post_init__(self):
        for name, low, high in (
            ("ratio", 0, 1),
            ("window", 1, math.inf),
            ("initial", 0, math.inf),
        ):
            inside = low < getattr(self, name) < high
            require(inside, self, name, f"{low} < {name} < {high}")
        require(0 <= self.excursion <= 1, self, "excursion", "a number in [0, 1]")
        lowest = self.first_excursion is None or self.excursion <= self.first_excursion <= 1
        require(lowest, self, "first_excursion", "a number in [excursion, 1], or left out")
        require(0 <= self.acceleration <= 1, self, "acceleration", "a number in [0, 1]")
        require(0 < self.depth <= 1, self, "depth", "a number in (0, 1]")
        require(self.trials >= 2, self, "trials", "at least 2")
        require(self.patience >= 1, self, "patience", "at least 1")
        check_validation(self)

    def init(self, p):
        unset = jnp.asarray(jnp.inf, jnp.float64)
        lam = jnp.asarray(self.initial, jnp.float64)
        return AdaptiveRatioState(lam, unset, unset, jnp.asarray(0), self._lowest(), unset)

    def _lowest(self) -> Float[Array, ""]:
        """The exponent of the first excursion."""
        first = self.excursion if self.first_excursion is None else self.first_excursion
        return jnp.asarray(first, jnp.float64)

    def needs(self, spectrum, theta, state):
        least = jnp.min(self._window(spectrum, theta, state)[1])
        enough = spectrum.left_out**2 <= NEGLECTED * least
        return Determined(jnp.asarray(enough), jnp.sum(spectrum.s**2 >= least), TOLERANCE)

    def moved(self, state, loss):
        # The wait for a halving begins anew; L₀ is a height, to an order of magnitude.
        return state._replace(reference=loss, waited=np.asarray(0), left=np.asarray(np.inf))

    def slab_begun(self, state):
        # λ goes on; L₀ is that of the slab, so that an excursion goes as high as its own start.
        unset = np.asarray(np.inf)
        lowest = np.asarray(self._lowest())
        return state._replace(
            first=unset, reference=unset, waited=np.asarray(0), exponent=lowest, left=unset
        )

    def _window(
        self, spectrum: Spectrum, theta: Float[Array, " p"], state: AdaptiveRatioState
    ) -> tuple[Array, Float[Array, " t"]]:
        """(whether this step is an excursion, the values of λ to be tried)."""
        deep = state.reference <= self.depth * state.first
        deep &= state.reference > spectrum.floor(theta)  # below it there is nothing to leave
        uphill = (state.waited >= self.patience) & deep & (self.excursion < 1)
        around = self.window ** jnp.linspace(1.0, -1.0, self.trials)
        below = 10.0 ** -jnp.arange(1.0, self.trials + 1)
        return uphill, state.lam * jnp.where(uphill, below, around)

    def step(self, spectrum, losses_at, theta, state):
        uphill, lams = self._window(spectrum, theta, state)
        filters = tikhonov(spectrum, lams)
        if self.validation is not None:
            filters *= hard_cutoff(spectrum, spectrum.k_opt())
        directions = spectrum.direction(filters)
        if self.acceleration > 0:
            bend = losses_at.pulled_back(theta - directions) @ spectrum.vt.T
            bend -= spectrum.s * (1.0 - filters) * spectrum.c
            inverse = jnp.where(filters > 0, 1.0 / (spectrum.s**2 + lams[:, None]), 0.0)
            corrections = (inverse * bend) @ spectrum.vt
            length = partial(jnp.linalg.norm, axis=1)
            short = 2.0 * length(corrections) <= self.acceleration * length(directions)  # nan: no
            directions += jnp.where((short & ~uphill)[:, None], corrections, 0.0)
        losses = losses_at(jnp.concatenate([theta[None], theta - directions]))
        loss, losses = losses[0], losses[1:]
        first = jnp.where(jnp.isinf(state.first), loss, state.first)

        predicted = jnp.sum(spectrum.c**2 * filters * (2.0 - filters), axis=1)
        rho = (loss - losses) / predicted
        running = lax.cummin(jnp.where(jnp.isfinite(rho), rho, -jnp.inf))
        smallest = jnp.sum(running >= self.ratio) - 1  # -1: none can be trusted

        gained = loss < 0.5 * state.left
        higher = jnp.maximum(state.exponent - CLIMB, self.excursion)
        exponent = jnp.where(uphill & ~gained, higher, state.exponent)
        height = first ** (1.0 - exponent) * loss**exponent
        heights = jnp.where(losses <= height, losses, -jnp.inf)  # nan <= height is false
        highest = jnp.where(jnp.any(heights > -jnp.inf), jnp.argmax(heights), -1)

        chosen = jnp.where(uphill, highest, smallest)
        accepted = chosen >= 0
        refused = state.lam * jnp.where(uphill, 1.0, self.window**2)
        lam = jnp.where(accepted, lams[chosen], refused)
        left = jnp.where(uphill & accepted, loss, state.left)
        loss = jnp.where(accepted, losses[chosen], loss)
        halved = uphill | (loss < 0.5 * state.reference)
        after = AdaptiveRatioState(
            lam=lam,
            first=first,
            reference=jnp.where(halved, loss, state.reference),
            waited=jnp.where(halved, 0, state.waited + accepted),
            exponent=jnp.where(accepted, exponent, state.exponent),
            left=left,
        )
        info = StepInfo(
            loss=loss,
            rank=jnp.minimum(jnp.sum(spectrum.s**2 > lam), spectrum.k_opt()),
            regularization=lam,
            step_size=accepted.astype(theta.dtype),
            accepted=accepted,
        )
        return jnp.where(accepted, theta - directions[chosen], theta), after, info
