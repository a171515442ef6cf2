"""The spectrum of a residual system with all its triplets, outside of the steps of a run."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from distgram.linalg.dual import Dual
from distgram.linalg.rows import Points, Residual
from distgram.linalg.spectrum import Determined, Spectrum
from distgram.linalg.tsqr import TSQR


def whole_spectrum(
    residual: Residual, theta: Float[Array, " p"], points: tuple[Points, ...]
) -> Spectrum:
    """By TSQR where there are as many rows as parameters, by its dual where there are fewer. Called
    inside jit."""

    def everything(spectrum: Spectrum) -> Determined:
        return Determined(jnp.asarray(True), jnp.asarray(spectrum.s.shape[0]), 0.0)

    terms = zip(residual.terms, points, strict=True)
    rows = sum(residual.weighted(term, theta, block).size for term, block in terms)
    factorization = TSQR() if rows >= theta.shape[0] else Dual()
    return factorization(residual, theta, points, everything, ())[0]
