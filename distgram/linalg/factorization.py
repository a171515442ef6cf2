"""Factorizations: from the sharded rows [J | r] to their spectrum."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any

from jaxtyping import Array, Float

from distgram.linalg.rows import Points, Residual
from distgram.linalg.spectrum import Determined, Spectrum

Needs = Callable[[Spectrum], Determined]


class Factorization(abc.ABC):
    """One way to the spectrum of the residual Jacobian. Called inside jit."""

    def init(
        self, residual: Residual, theta: Float[Array, " p"], points: tuple[Points, ...]
    ) -> Any:
        """What one step hands to the next: nothing, but for those that start warm."""
        return ()

    @abc.abstractmethod
    def __call__(
        self,
        residual: Residual,
        theta: Float[Array, " p"],
        points: tuple[Points, ...],
        needs: Needs,
        state: Any,
    ) -> tuple[Spectrum, Any]:
        """The spectrum of the weighted rows at θ, and the state after it.

        Args:
            needs: what the rule needs of a spectrum. A factorization that finds the triplets
                from the largest on stops where it is met; the others give all.
        """
