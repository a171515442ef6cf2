"""Adam, with an exponentially decaying learning rate."""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from distgram.errors import require
from distgram.rules.baselines.baseline import Baseline, first_order_info, strongly_typed


@dataclass(frozen=True)
class Adam(Baseline):
    """Adam:  θ ← θ - η_k m̂_k / (√v̂_k + 1e-8),  η_k = η₀ q^(k/K).

    Args:
        learning_rate: η₀ > 0, dimensionless.
        decay_rate: q in (0, 1]; 1 keeps the rate constant.
        decay_steps: K >= 1, the steps in which the rate falls by the factor q.

    Raises:
        RuleError: a setting outside its range.

    Source: Kingma, Ba, ICLR 2015, arXiv 1412.6980; optax.adam.
    """

    name = "adam"
    learning_rate: float = 1e-3
    decay_rate: float = 1.0
    decay_steps: int = 1000

    def __post_init__(self):
        positive = math.isfinite(self.learning_rate) and self.learning_rate > 0
        require(positive, self, "learning_rate", "a finite number > 0")
        require(0 < self.decay_rate <= 1, self, "decay_rate", "a number in (0, 1]; 1: constant")
        require(self.decay_steps >= 1, self, "decay_steps", "at least 1")

    def _rate(self, count: jax.typing.ArrayLike) -> Float[Array, ""]:
        """η_k, in the default precision: optax's own schedule is of float32 even beside float64."""
        return self.learning_rate * self.decay_rate ** (
            jnp.asarray(count, float) / self.decay_steps
        )

    def init(self, objective, theta):
        return strongly_typed(optax.adam(self._rate).init(theta))

    def step(self, objective, theta, state):
        rate = self._rate(state[-1].count)  # of the schedule, the last of optax's chain
        updates, state = optax.adam(self._rate).update(jax.grad(objective)(theta), state)
        theta = theta + jnp.asarray(updates)
        loss = objective(theta)
        return theta, strongly_typed(state), first_order_info(loss, rate, jnp.isfinite(loss))
