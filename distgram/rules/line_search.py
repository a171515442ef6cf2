"""Step sizes along a direction: a grid in one batched evaluation, and backtracking."""

from __future__ import annotations

import abc
from dataclasses import dataclass

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from distgram.errors import RuleError
from distgram.rules.rule import LossesAt

# Steps that a backtracking tries at once: one collective for all of them.
BLOCK = 4


class LineSearch(abc.ABC):
    """Chooses η >= 0 for the step θ - η d."""

    @abc.abstractmethod
    def __call__(
        self,
        losses_at: LossesAt,
        theta: Float[Array, " p"],
        direction: Float[Array, " p"],
        loss: Float[Array, ""],
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """(η, the mean square residual there); η = 0 and `loss` where no step is taken."""


@dataclass(frozen=True)
class GridSearch(LineSearch):
    """The step of least loss among  η = ratio^j, j = 0..count-1, all evaluated at once.

    It is taken even where the loss rises by it, as in the source: a first direction that is too
    long for the shortest step is left behind that way, where insisting on a decrease would stop
    for good.

    Source: Müller, Zeinhofer, ICML 2023 (E-NGD), with ratio 1/2 and 31 steps.
    """

    count: int = 31
    ratio: float = 0.5

    def __post_init__(self):
        if not (self.count >= 1 and 0 < self.ratio < 1):
            raise RuleError(
                f"GridSearch(count={self.count}, ratio={self.ratio}): expected count >= 1 and "
                "0 < ratio < 1."
            )

    def __call__(self, losses_at, theta, direction, loss):
        etas = self.ratio ** jnp.arange(self.count, dtype=theta.dtype)
        losses = losses_at(theta - etas[:, None] * direction)
        losses = jnp.where(jnp.isfinite(losses), losses, jnp.inf)
        best = jnp.argmin(losses)
        finite = jnp.isfinite(losses[best])
        return jnp.where(finite, etas[best], 0.0), jnp.where(finite, losses[best], loss)


@dataclass(frozen=True)
class Backtracking(LineSearch):
    """The first of  η = ratio^j  with  L(θ - ηd) <= (1 - armijo·η) L(θ).

    For a full Gauss-Newton step the predicted decrease along d is proportional to η L.
    """

    count: int = 31
    ratio: float = 0.5
    armijo: float = 1e-4

    def __post_init__(self):
        if not (self.count >= 1 and 0 < self.ratio < 1 and 0 <= self.armijo < 1):
            raise RuleError(
                f"Backtracking(count={self.count}, ratio={self.ratio}, armijo={self.armijo}): "
                "expected count >= 1, 0 < ratio < 1 and 0 <= armijo < 1."
            )

    def __call__(self, losses_at, theta, direction, loss):
        def look(carry):
            begin, *_ = carry
            j = begin + jnp.arange(BLOCK, dtype=theta.dtype)
            etas = self.ratio**j
            losses = losses_at(theta - etas[:, None] * direction)
            good = (losses <= (1.0 - self.armijo * etas) * loss) & (j < self.count)
            first = jnp.argmax(good)
            found = jnp.any(good)
            eta, value = jnp.where(found, etas[first], 0.0), jnp.where(found, losses[first], loss)
            return begin + BLOCK, eta, value

        def going(carry):
            begin, eta, _ = carry
            return (eta == 0) & (begin < self.count)

        zero = jnp.asarray(0.0, theta.dtype)
        _, eta, value = lax.while_loop(going, look, (zero, zero, loss))
        return eta, value
