"""Factorizations: from the sharded rows [J | r] to their spectrum."""

from __future__ import annotations

import abc

from jaxtyping import Array, Float

from distgram.residual import Points, Residual
from distgram.spectrum import Spectrum


class Factorization(abc.ABC):
    """One way to the spectrum of the residual Jacobian. Called inside jit; result replicated."""

    @abc.abstractmethod
    def __call__(
        self, residual: Residual, theta: Float[Array, " p"], points: tuple[Points, ...]
    ) -> Spectrum:
        """The spectrum of the weighted rows at θ."""
