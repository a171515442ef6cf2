"""Adaptive ratio: Tikhonov steps whose regularization follows actual over predicted decrease."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from distgram.errors import require
from distgram.linalg.spectrum import Determined, LinearModel
from distgram.rules.rule import Rule, StepInfo, Trials, check_validation

# A direction may be left out once its filter factor is below this; the prediction then leaves it
# out too.
NEGLECTED = 1e-2
# An excursion that has not brought the loss below GAIN times what it left is followed by a higher
# one: its exponent is less by CLIMB.
GAIN, CLIMB = 0.1, 0.15
# Backward error of the triplets over the least singular value in use: the ratio of actual to
# predicted decrease, which sees it, decides to a factor of ten.
TOLERANCE = 1e-2


class AdaptiveRatioState(NamedTuple):
    """λ chosen last; the loss at the start; the loss last seen to halve, and for how many steps
    it has not; the exponent of the excursion made last, and the loss that it left; which λ of the
    window is tried first."""

    lam: Float[Array, ""]
    first: Float[Array, ""]
    reference: Float[Array, ""]
    waited: Int[Array, ""]
    exponent: Float[Array, ""]
    left: Float[Array, ""]
    begin: Int[Array, ""]


class _Search(NamedTuple):
    """Where a step's search stands: the trial that comes next; the last one taken, -1: none yet,
    with its parameters and loss; whether one has failed; whether the search is over."""

    at: Int[Array, ""]
    taken: Int[Array, ""]
    theta: Float[Array, " p"]
    loss: Float[Array, ""]
    failed: Bool[Array, ""]
    over: Bool[Array, ""]


@dataclass(frozen=True)
class AdaptiveRatio(Rule):
    """The full step with the smallest λ whose model can be trusted; an excursion where none moves.

        d(λ) = Σ fᵢ cᵢ/sᵢ vᵢ,   fᵢ = sᵢ²/(sᵢ²+λ),   predicted decrease  Σ cᵢ² fᵢ (2 - fᵢ),
        ρ(λ) = (L(θ) - L(θ - d(λ))) / predicted(λ).

    The window [λ/window, λ·window] about the λ chosen last has `trials` values. Beginning with the
    one at the place in the window that was right for the step before, they are tried one by one:
    smaller ones as long as ρ >= `ratio`, or larger ones until it is. So the smallest λ that can be
    trusted costs two or three trials, each a small factorization and a loss, where ρ falls with
    λ; elsewhere it is the first one met. Where none can be trusted, the parameters stay and the
    next window begins where this one ended. No line search.

    Such a descent ends on a plateau: the stiff directions (large sᵢ) have converged, the residual
    that is left needs parameter changes cᵢ/sᵢ of order one along directions of small sᵢ, and a step
    of length t bends the stiff ones by O(t²), so that decrease allows only t = O(√‖r‖). An
    excursion leaves it: once `patience` steps have not halved a loss below depth·L₀, the step goes
    uphill, to the largest loss among trials λ·10⁻ʲ, j = 1..trials, that is at most

        L₀^(1-a) L^a,    a = first_excursion, less by 0.15 after each excursion that has not brought
                         the loss to a tenth of what it left, down to a = excursion,

    L₀ the loss at the start. The stiff directions then converge again within a few tens of steps,
    from a place where less of the residual is out of reach. Low excursions take few of those steps,
    and where they do not gain, higher ones do. The best parameters met are the loop's to keep.
    excursion = 1 never goes uphill.

    With `acceleration` every trial is first corrected for the bend of the residual along it,

        e(λ) = ½ (JᵀJ + λ)⁻¹ Jᵀ r_dd,   ½ r_dd ≈ r(θ - d) - (r - J d),   Jᵀ(r - J d) = λ d,

    the full step being θ - d - e where 2‖e‖ <= acceleration ‖d‖, else θ - d. The difference over
    the whole step costs a residual and one more pass over the rows per trial; derivatives higher
    than the second are in it too. By Jᵀ the conditioning is squared: e is good to eps s₁‖r‖/λ,
    enough for a correction. Excursions go without.

    Args:
        ratio: least actual over predicted decrease, dimensionless, in (0, 1).
        window: factor of the window, > 1. trials: values of λ in it, >= 2.
        initial: λ before the first step, in units of the squared singular values.
        excursion: exponent of the height of the highest excursion, in [0, 1]. first_excursion: of
            the first one, in [excursion, 1]; None: all are as high.
        patience: steps without halving before one, >= 1.
        depth: loss over L₀ above which none is made, in (0, 1]: descents begin slowly.
        acceleration: largest 2‖e‖/‖d‖ of a correction of the trials, in [0, 1]; 0: none is made.
        validation: points per term held out of training to cap the rank by extrapolation, see
            `Spectrum.k_opt`; None: no cap.

    Source: the ratio test of trust regions (Conn, Gould, Toint 2000, ch. 6), on a window as in
    DSGNAR, arXiv 2607.02194, there with a radius in place of λ and all of it at once; leaving a
    basin uphill as in basin hopping (Wales, Doye 1997), along the Gauss-Newton direction in place
    of noise; geodesic acceleration: Transtrum, Sethna 2012, arXiv 1201.5885, there by a shorter
    difference.
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

    @property
    def regularizes(self):
        """Unless held-out rows cap the rank."""
        return self.validation is None

    def init(self, p):
        unset, smallest = jnp.asarray(jnp.inf, jnp.float64), jnp.asarray(self.trials - 1)
        lam = jnp.asarray(self.initial, jnp.float64)
        begins = self._first_exponent()
        return AdaptiveRatioState(lam, unset, unset, jnp.asarray(0), begins, unset, smallest)

    def _first_exponent(self) -> Float[Array, ""]:
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
        exponent = np.asarray(self._first_exponent())
        return state._replace(
            first=unset, reference=unset, waited=np.asarray(0), exponent=exponent, left=unset
        )

    def _window(
        self, model: LinearModel, theta: Float[Array, " p"], state: AdaptiveRatioState
    ) -> tuple[Array, Float[Array, " t"]]:
        """(whether this step is an excursion, the values of λ to be tried)."""
        deep = state.reference <= self.depth * state.first
        deep &= state.reference > model.floor(theta)  # below it there is nothing to leave
        uphill = (state.waited >= self.patience) & deep & (self.excursion < 1)
        around = self.window ** jnp.linspace(1.0, -1.0, self.trials)
        below = 10.0 ** -jnp.arange(1.0, self.trials + 1)
        return uphill, state.lam * jnp.where(uphill, below, around)

    def step(self, spectrum: LinearModel, losses_at, theta, state):
        uphill, lams = self._window(spectrum, theta, state)
        before = spectrum.loss()
        first = jnp.where(jnp.isinf(state.first), before, state.first)
        gained = before < GAIN * state.left
        climbed = jnp.maximum(state.exponent - CLIMB, self.excursion)
        exponent = jnp.where(uphill & ~gained, climbed, state.exponent)
        height = first ** (1.0 - exponent) * before**exponent

        def look(search: _Search) -> _Search:
            after, value, rho = self._trial(
                spectrum, losses_at, theta, before, lams[search.at], ~uphill
            )
            # Uphill all are tried, and the highest below the height is taken; nan never is.
            higher = (value <= height) & ((search.taken < 0) | (value > search.loss))
            good = jnp.where(uphill, higher, rho >= self.ratio)
            over = ~uphill & jnp.where(good, search.failed, search.taken >= 0)
            return _Search(
                at=search.at + jnp.where(uphill | good, 1, -1),
                taken=jnp.where(good, search.at, search.taken),
                theta=jnp.where(good, after, search.theta),
                loss=jnp.where(good, value, search.loss),
                failed=search.failed | ~good,
                over=over,
            )

        def going(search: _Search) -> Array:
            return ~search.over & (search.at >= 0) & (search.at < self.trials)

        no = jnp.asarray(False)
        begin = _Search(jnp.where(uphill, 0, state.begin), jnp.asarray(-1), theta, before, no, no)
        _, chosen, theta, loss, *_ = lax.while_loop(going, look, begin)

        accepted = chosen >= 0
        refused = state.lam * jnp.where(uphill, 1.0, self.window**2)
        lam = jnp.where(accepted, lams[chosen], refused)
        halved = uphill | (loss < 0.5 * state.reference)
        after = AdaptiveRatioState(
            lam=lam,
            first=first,
            reference=jnp.where(halved, loss, state.reference),
            waited=jnp.where(halved, 0, state.waited + accepted),
            exponent=jnp.where(accepted, exponent, state.exponent),
            left=jnp.where(uphill & accepted, before, state.left),
            # After an excursion nothing is known; the smallest λ of the next window has failed.
            begin=jnp.where(uphill, self.trials // 2, jnp.where(accepted, chosen, self.trials - 2)),
        )
        info = StepInfo(
            loss=loss,
            rank=spectrum.rank(lam),
            regularization=lam,
            step_size=accepted.astype(theta.dtype),
            accepted=accepted,
        )
        return theta, after, info

    def _trial(
        self,
        model: LinearModel,
        losses_at: Trials,
        theta: Float[Array, " p"],
        loss: Float[Array, ""],
        lam: Float[Array, ""],
        corrected: Bool[Array, ""],
    ) -> tuple[Float[Array, " p"], Float[Array, ""], Float[Array, ""]]:
        """(parameters, loss, ρ) of one λ; `corrected`: for the bend, where the rule does so."""
        found = model.regularized(lam)
        step = found.direction
        if self.acceleration > 0:
            bend = losses_at.pulled_back((theta - step)[None])[0] - lam * step
            correction = found.inverse(bend)
            length = jnp.linalg.norm(correction)
            short = 2.0 * length <= self.acceleration * jnp.linalg.norm(step)  # nan: no
            step = step + jnp.where(short & corrected, correction, 0.0)
        value = losses_at((theta - step)[None])[0]
        return theta - step, value, (loss - value) / found.predicted
