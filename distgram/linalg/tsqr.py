"""Tall-skinny QR: every device folds its rows [J | r] into a small triangle; the triangles meet.

    [φ̂ | r] = Q R,   R = [[R₁, z], [0, ρ]],   R₁ = W Δ̂ Ûᵀ,   c = Wᵀ z,   |ρ| the part outside.

Q is never formed and φ̂ never stored whole: memory is (P+1)² and one row block, whatever S is.
Backward stable, which the normal equations are not: they lose everything below √eps.
Source: Demmel, Grigori, Hoemmen, Langou, SIAM J. Sci. Comput. 34 (2012) A206.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float

from distgram.linalg.butterfly import meet, triangle
from distgram.linalg.dual import Dual
from distgram.linalg.factorization import Factorization
from distgram.linalg.mesh import REPLICATED
from distgram.linalg.rows import Rows
from distgram.linalg.spectrum import Determined, Spectrum


def spectrum_of_triangle(r: Float[Array, "q q"]) -> Spectrum:
    """The spectrum from the triangle of [φ̂ | r], q = p + 1."""
    w, s, vt = jnp.linalg.svd(r[:-1, :-1])
    return Spectrum(s, vt, w.T @ r[:-1, -1], jnp.abs(r[-1, -1]))


@dataclass(frozen=True)
class TSQR(Factorization):
    """Streamed TSQR over the row blocks of a device, then over the devices; LAPACK's SVD of the
    triangle, the same on every device."""

    name = "tsqr"

    def __call__(self, rows, needs, state):
        return spectrum_of_triangle(self.reduce(rows)), state

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
