"""Tall-skinny QR: every device folds its rows [J | r] into a small triangle; the triangles meet.

    [φ̂ | r] = Q R,   R = [[R₁, z], [0, ρ]],   R₁ = W Δ̂ Ûᵀ,   c = Wᵀ z,   |ρ| the part outside.

Q is never formed and φ̂ never stored whole: memory is (P+1)² and one row block, whatever S is.
Backward stable, which the normal equations are not: they lose everything below √eps.
Source: Demmel, Grigori, Hoemmen, Langou, SIAM J. Sci. Comput. 34 (2012) A206.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float, Int

from distgram.linalg.butterfly import meet, triangle
from distgram.linalg.dual import Dual
from distgram.linalg.factorization import Factorization
from distgram.linalg.mesh import REPLICATED
from distgram.linalg.rows import Rows
from distgram.linalg.spectrum import (
    Determined,
    Regularized,
    Spectrum,
    SpectrumSummary,
    rounding_floor,
)
from distgram.linalg.stacked import stacked


def spectrum_of_triangle(r: Float[Array, "q q"]) -> Spectrum:
    """The spectrum from the triangle of [φ̂ | r], q = p + 1."""
    w, s, vt = jnp.linalg.svd(r[:-1, :-1])
    return Spectrum(s, vt, w.T @ r[:-1, -1], jnp.abs(r[-1, -1]))


class Triangle(NamedTuple):
    """R of [φ̂ | r] as a linear model, without its singular values: one λ costs one QR,

        [R₁, z; √λ I, 0] = Q [Rλ, w; 0, ·],   d = Rλ⁻¹ w,   φ̂ᵀφ̂ + λ = RλᵀRλ,

    with the zeros left out a tenth of an SVD with its vectors. The normal equations would do it
    faster and lose every singular value below √eps s₁; √λ comes down to 1e-15 s₁.

    The predicted decrease, ‖r‖² - ‖r - φ̂ d‖², comes without a difference from φ̂ᵀ(r - φ̂ d) = λ d:

        predicted = ‖R₁ d‖² + 2 λ ‖d‖².

    Source: Eldén, BIT 17 (1977) 134, there from the bidiagonal form, which LAPACK has and jax not.
    """

    r: Float[Array, "q q"]

    def loss(self) -> Float[Array, ""]:
        """‖r‖², the mean square residual."""
        return jnp.sum(self.r[:, -1] ** 2)

    def regularized(self, lam: Float[Array, ""]) -> Regularized:
        """The step of one λ > 0."""
        both, p = self.r[:-1], len(self.r) - 1
        root = jnp.sqrt(lam) * jnp.eye(p, p + 1, dtype=both.dtype)
        found = stacked(both, root)
        factor, w = found[:, :-1], found[:, -1]
        d = solve_triangular(factor, w)

        def inverse(g):
            return solve_triangular(factor, solve_triangular(factor, g, trans=1))

        predicted = jnp.sum((both[:, :-1] @ d) ** 2) + 2.0 * lam * jnp.sum(d**2)
        return Regularized(d, predicted, inverse)

    def rank(self, lam: Float[Array, ""]) -> Int[Array, ""]:
        """Not known."""
        return jnp.asarray(-1)

    def floor(self, theta: Float[Array, " p"]) -> Float[Array, ""]:
        """The mean square residual below which a loss is rounding, see `rounding_floor`."""
        return rounding_floor(self.r[:-1, :-1], theta)

    def summary(self, theta: Float[Array, " p"]) -> SpectrumSummary:
        """The triangle and its floor, from which `completed` has the rest."""
        none, exact = jnp.zeros(0, self.r.dtype), jnp.zeros((), self.r.dtype)
        return SpectrumSummary(none, none, self.floor(theta), exact, self.r)


def completed(r: Float[Array, "q q"]) -> tuple[Float[Array, " p"], Float[Array, " q"]]:
    """Singular values and reconstruction errors from the triangle of [φ̂ | r]."""
    spectrum = spectrum_of_triangle(r)
    return spectrum.s, spectrum.rce()


@dataclass(frozen=True)
class TSQR(Factorization):
    """Streamed TSQR over the row blocks of a device, then over the devices; LAPACK's SVD of the
    triangle, the same on every device."""

    name = "tsqr"

    def __call__(self, rows, needs, state):
        return spectrum_of_triangle(self.reduce(rows)), state

    def linear_model(self, rows, needs, state):
        return Triangle(self.reduce(rows)), state

    def reduce(self, rows: Rows) -> Float[Array, "q q"]:
        """R of the QR of all rows [φ̂ | r], q = p + 1, replicated."""

        def fold(mine):
            def add(r, block):
                return triangle(block if r is None else jnp.concatenate([r, block]))

            r, _ = meet(mine.fold(add), rows.mesh.size)
            return r

        return rows.on_devices(fold, REPLICATED)()


def whole_spectrum(rows: Rows) -> Spectrum:
    """The spectrum with all its triplets, outside of the steps of a run: by TSQR where there are as
    many rows as parameters, by its dual where there are fewer. Called inside jit."""

    def everything(spectrum: Spectrum) -> Determined:
        return Determined(jnp.asarray(True), jnp.asarray(spectrum.s.shape[0]), 0.0)

    residual, theta = rows.residual, rows.theta
    terms = zip(residual.terms, rows.points, strict=True)
    count = sum(residual.weighted(term, theta, points).size for term, points in terms)
    factorization = TSQR() if count >= rows.p else Dual()
    return factorization(rows, everything, ())[0]
