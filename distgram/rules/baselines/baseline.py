"""Baselines: the methods that natural-gradient rules are compared with.

A baseline sees the mean square residual as a function of the parameters, and neither the residual
rows nor their spectrum.
"""

from __future__ import annotations

import abc
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from distgram.rules.rule import Method, StepInfo


class Objective(Protocol):
    """The mean square residual L(θ) = Σᵢ rᵢ(θ)², weights folded into r; traceable."""

    def __call__(self, theta: Float[Array, " p"]) -> Float[Array, ""]:
        """L(θ)."""
        ...

    def batch(self, thetas: Float[Array, "t p"]) -> Float[Array, " t"]:
        """L at t trial parameters."""
        ...

    def gram(self, theta: Float[Array, " p"]) -> tuple[Float[Array, "p p"], Float[Array, " p"]]:
        """(JᵀJ, Jᵀr), with J the Jacobian of r."""
        ...


class Baseline(Method):
    """One step of a method that sees the objective only. Nothing that
    depends on the objective is kept from one step to the next except curvature, so the
    collocation points may change in between.
    """

    uses_spectrum = False

    @abc.abstractmethod
    def init(self, objective: Objective, theta: Float[Array, " p"]) -> Any:
        """The state before the first step: a pytree of arrays whose structure, shapes and types
        every step returns again, as of `Rule.init`. Traceable."""

    @abc.abstractmethod
    def step(
        self, objective: Objective, theta: Float[Array, " p"], state: Any
    ) -> tuple[Float[Array, " p"], Any, StepInfo]:
        """Take one step: (theta, state) after it, and what it did. Traceable."""


def strongly_typed(tree: Any) -> Any:
    """The pytree without weak types: jit would compile a second time for a state that has them."""
    return jax.tree.map(lambda x: jax.lax.convert_element_type(x, jnp.asarray(x).dtype), tree)


def first_order_info(
    loss: Float[Array, ""], step_size: Float[Array, ""], accepted: Bool[Array, ""]
) -> StepInfo:
    """A StepInfo of a method without a spectrum: rank -1, regularization nan."""
    return StepInfo(
        loss=loss,
        rank=jnp.asarray(-1),
        regularization=jnp.asarray(jnp.nan, loss.dtype),
        step_size=jnp.asarray(step_size, loss.dtype),
        accepted=accepted,
    )


def decreased(loss: Float[Array, ""], search: optax.ScaleByZoomLinesearchState) -> Bool[Array, ""]:
    """Whether a line search from `loss` moved and found enough decrease, or any at all.

    Near its floor the loss is constant to rounding; there the search's own criterion, which
    compares slopes (Hager, Zhang, ACM TOMS 32 (2006) 113), is the sharper one.
    """
    enough = jnp.asarray(search.info.decrease_error) <= 0
    value = jnp.asarray(search.value)
    return jnp.isfinite(value) & (jnp.asarray(search.learning_rate) > 0) & (enough | (value < loss))
