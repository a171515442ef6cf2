"""Adaptive ratio: Tikhonov steps whose regularization follows actual over predicted decrease."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from distgram.rules import Rule, RuleError, StepInfo
from distgram.spectrum import tikhonov


class AdaptiveRatioState(NamedTuple):
    """The regularization λ chosen last."""

    lam: Float[Array, ""]


@dataclass(frozen=True)
class AdaptiveRatio(Rule):
    """The full step with the smallest λ whose model can be trusted.

        d(λ) = Σ sᵢcᵢ/(sᵢ²+λ) vᵢ,   predicted decrease  Σ (sᵢcᵢ)² (sᵢ²+2λ)/(sᵢ²+λ)²,
        ρ(λ) = (L(θ) - L(θ - d(λ))) / predicted(λ).

    `trials` values of λ in [λ/window, λ·window] are tried at once, λ the last one chosen; from the
    largest down, the smallest λ is taken for which ρ, as a running minimum, is still >= `ratio`.
    Where none is, the parameters stay and the window moves up. No line search.

    Args:
        ratio: least actual over predicted decrease, dimensionless, in (0, 1).
        window: factor of the window, > 1. trials: values of λ tried a step, >= 2.
        initial: λ before the first step, in units of the squared singular values.

    Source: the ratio test of trust regions (Conn, Gould, Toint 2000, ch. 6); its use on a whole
    window at once as in DSGNAR, arXiv 2607.02194, there with a radius in place of λ.
    """

    ratio: float = 0.075
    window: float = 20.0
    trials: int = 12
    initial: float = 1.0

    def __post_init__(self):
        for name, low, high in (("ratio", 0, 1), ("window", 1, jnp.inf), ("initial", 0, jnp.inf)):
            value = getattr(self, name)
            if not low < value < high:
                raise RuleError(f"rule.{name} = {value!r}: expected {low} < {name} < {high}.")
        if self.trials < 2:
            raise RuleError(f"rule.trials = {self.trials!r}: expected at least 2.")

    def init(self, p):
        return AdaptiveRatioState(jnp.asarray(self.initial, jnp.float64))

    def step(self, spectrum, losses_at, theta, state):
        exponents = jnp.linspace(1.0, -1.0, self.trials)
        lams = state.lam * self.window**exponents
        directions = spectrum.direction(tikhonov(spectrum, lams))
        losses = losses_at(jnp.concatenate([theta[None], theta - directions]))
        loss, losses = losses[0], losses[1:]
        square = spectrum.s**2
        shifted = square + lams[:, None]
        predicted = jnp.sum(
            (spectrum.s * spectrum.c) ** 2 * (shifted + lams[:, None]) / shifted**2, axis=1
        )
        rho = (loss - losses) / predicted
        running = lax.cummin(jnp.where(jnp.isfinite(rho), rho, -jnp.inf))
        chosen = jnp.sum(running >= self.ratio) - 1
        accepted = chosen >= 0
        lam = jnp.where(accepted, lams[chosen], state.lam * self.window)
        info = StepInfo(
            loss=jnp.where(accepted, losses[chosen], loss),
            rank=jnp.sum(square > lam),
            regularization=lam,
            step_size=accepted.astype(theta.dtype),
            accepted=accepted,
        )
        theta = jnp.where(accepted, theta - directions[chosen], theta)
        return theta, AdaptiveRatioState(lam), info
