"""Step sizes along a direction: a grid in one batched evaluation, and backtracking."""

from __future__ import annotations

import abc
from dataclasses import dataclass

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from distgram.rules import LossesAt, RuleError


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
        def at(j) -> Array:
            return losses_at((theta - self.ratio**j * direction)[None])[0]

        def failed(carry):
            j, value = carry
            enough = value <= (1.0 - self.armijo * self.ratio**j) * loss
            return (j < self.count) & ~enough

        zero = jnp.asarray(0.0, theta.dtype)
        j, value = lax.while_loop(failed, lambda c: (c[0] + 1, at(c[0] + 1)), (zero, at(zero)))
        good = j < self.count
        return jnp.where(good, self.ratio**j, 0.0), jnp.where(good, value, loss)
