"""Rules: from a spectrum and the losses along it to the next parameters.

A rule never sees a Jacobian. It filters the spectrum into directions, asks for the mean square
residual at trial parameters, and takes one step.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Protocol

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from distgram.errors import require
from distgram.linalg.spectrum import Determined, Spectrum

# Backward error, over the least singular value in use, of a rule that applies a pseudoinverse.
PSEUDOINVERSE = 1e-9

LossesAt = Callable[[Float[Array, "t p"]], Float[Array, " t"]]


class Trials(Protocol):
    """What a rule may ask of the residual at trial parameters."""

    def __call__(self, thetas: Float[Array, "t p"]) -> Float[Array, " t"]:
        """The mean square residual at each."""
        ...

    def pulled_back(self, thetas: Float[Array, "t p"]) -> Float[Array, "t p"]:
        """Jᵀ r(θ_t), J the Jacobian where the step begins. One more pass over its rows."""
        ...


class StepInfo(NamedTuple):
    """What a step did.

    loss: mean square residual after the step. rank: directions kept, -1 where it does not apply.
    regularization: λ in units of squared singular values: Tikhonov's, or the squared cutoff of a
    truncation; nan where there is no filter.
    step_size: factor of the direction, dimensionless. accepted: whether the parameters moved.
    converged: whether the rule's own stopping criterion holds. r_cap, r_eps: AMStramGRAM's r∩ and
    rε, -1 elsewhere.
    """

    loss: Float[Array, ""]
    rank: Int[Array, ""]
    regularization: Float[Array, ""]
    step_size: Float[Array, ""]
    accepted: Bool[Array, ""]
    converged: Bool[Array | np.ndarray, ""] = np.asarray(False)
    r_cap: Int[Array | np.ndarray, ""] = np.asarray(-1)
    r_eps: Int[Array | np.ndarray, ""] = np.asarray(-1)

    @property
    def cutoff(self) -> Float[Array, ""]:
        """√λ, the singular value at which the filter falls through 1/2: what figures draw."""
        return jnp.sqrt(self.regularization)


class Method(abc.ABC):
    """What takes the steps of a run: a rule or a baseline. Settings are attributes; the state is a
    pytree of arrays whose shapes and types a step does not change.

    name: what a config and a result call the method; by default the name of its class.
    """

    name: ClassVar[str]
    uses_spectrum: ClassVar[bool]
    validation: int | None = None

    def __init_subclass__(cls, **given: Any):
        super().__init_subclass__(**given)
        if "name" not in vars(cls):
            cls.name = cls.__name__

    def moved(self, state: Any, loss: Float[np.ndarray, ""]) -> Any:
        """The state once collocation points have moved: `loss` is L(θ) on the new ones, not to be
        compared with any loss before. By default the state holds none."""
        return state

    def slab_begun(self, state: Any) -> Any:
        """The state with which a time slab begins, from that of the slab before: no loss before is
        to be compared with. By default as if the points had moved."""
        return self.moved(state, np.asarray(np.inf))


def check_validation(method: Method) -> None:
    """Raise a RuleError where a method asks for no point to be validated at."""
    good = method.validation is None or method.validation >= 1
    require(good, method, "validation", "at least 1, or left out")


class Rule(Method):
    """One natural-gradient step from a spectrum.

    validation: points per term for the spectrum's `validation_errors`; None: there are none.
    """

    uses_spectrum = True

    @property
    def regularizes(self) -> bool:
        """Whether a step asks of the spectrum what a `LinearModel` has and no more, so that a
        factorization need not find singular values. By default it does not."""
        return False

    @abc.abstractmethod
    def init(self, p: int) -> Any:
        """The state before the first step, for p parameters.

        It is a pytree (tuple, dict, NamedTuple; `()` for none) of numbers and arrays of numbers,
        which a checkpoint saves. Every step must return the same structure, shapes and types, else
        the run raises a RuleError before it computes: a number that steps multiply begins as
        `jnp.asarray(x, jnp.float64)`, since `1` would be an int64. Of a random key the state holds
        `jax.random.key_data(key)`.
        """

    def needs(self, spectrum: Spectrum, theta: Float[Array, " p"], state: Any) -> Determined:
        """Whether the leading triplets at hand determine the step, whatever is left out within the
        spectrum's bound. By default the rule takes all."""
        all_of_them = jnp.asarray(spectrum.s.shape[0])
        return Determined(jnp.asarray(spectrum.left_out == 0), all_of_them, PSEUDOINVERSE)

    @abc.abstractmethod
    def step(
        self, spectrum: Spectrum, losses_at: Trials, theta: Float[Array, " p"], state: Any
    ) -> tuple[Float[Array, " p"], Any, StepInfo]:
        """Take one step: (theta, state) after it, and what it did.

        jax traces it once: a choice by the values of arrays is `jnp.where`, not a Python `if`.
        """
