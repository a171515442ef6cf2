"""L-BFGS with a strong Wolfe line search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import jax
import jax.numpy as jnp
import optax

from distgram.errors import require
from distgram.rules.baselines.baseline import (
    Baseline,
    decreased,
    first_order_info,
    strongly_typed,
)


@dataclass(frozen=True)
class LBFGS(Baseline):
    """L-BFGS:  θ ← θ - η H g,  H from the last m pairs (s, y), η by the strong Wolfe conditions.

    Where the line search finds no decrease, θ stays and the memory is cleared.

    Args:
        memory_size: m >= 1, pairs kept.
        line_search_steps: most evaluations of (L, ∇L) in one line search, >= 1.

    Raises:
        RuleError: a setting outside its range.

    Source: Liu, Nocedal, Math. Programming 45 (1989) 503; line search: Nocedal, Wright (2006),
    algorithms 3.5 and 3.6; optax.lbfgs.
    """

    name = "lbfgs"
    memory_size: int = 20
    line_search_steps: int = 30

    def __post_init__(self):
        require(self.memory_size >= 1, self, "memory_size", "at least 1")
        require(self.line_search_steps >= 1, self, "line_search_steps", "at least 1")

    def _method(self) -> optax.GradientTransformationExtraArgs:
        search = optax.scale_by_zoom_linesearch(
            self.line_search_steps, initial_guess_strategy="one"
        )
        return optax.lbfgs(memory_size=self.memory_size, linesearch=search)

    def init(self, objective, theta):
        return strongly_typed(self._method().init(theta))

    def step(self, objective, theta, state):
        method = self._method()
        loss, gradient = jax.value_and_grad(objective)(theta)
        updates, moved = method.update(
            gradient, state, theta, value=loss, grad=gradient, value_fn=objective
        )
        search = cast(tuple, moved)[-1]  # of the line search, the last of optax's chain
        good = decreased(loss, search)
        state = jax.tree.map(
            lambda a, b: jnp.where(good, a, b),
            strongly_typed(moved),
            strongly_typed(method.init(theta)),
        )
        info = first_order_info(
            jnp.where(good, search.value, loss),
            jnp.where(good, search.learning_rate, 0.0),
            good,
        )
        return jnp.where(good, theta + jnp.asarray(updates), theta), state, info
