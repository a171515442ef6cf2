"""Step sizes along a direction: a grid in one batched evaluation, and backtracking."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from distgram.errors import require
from distgram.rules.rule import LossesAt

# Steps that a backtracking tries at once: one collective for all of them.
BLOCK = 4


class LineSearch(abc.ABC):
    """Chooses η >= 0 for the step θ - η d. name: what a config calls it."""

    name: ClassVar[str]

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

    name = "grid"
    count: int = 31
    ratio: float = 0.5

    def __post_init__(self):
        require(self.count >= 1, self, "count", "at least 1")
        require(0 < self.ratio < 1, self, "ratio", "a number in (0, 1)")

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

    name = "backtracking"
    count: int = 31
    ratio: float = 0.5
    armijo: float = 1e-4

    def __post_init__(self):
        require(self.count >= 1, self, "count", "at least 1")
        require(0 < self.ratio < 1, self, "ratio", "a number in (0, 1)")
        require(0 <= self.armijo < 1, self, "armijo", "a number in [0, 1)")

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
