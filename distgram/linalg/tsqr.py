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

from distgram.linalg.butterfly import meet, square_at_least
from distgram.linalg.factorization import Factorization
from distgram.linalg.jacobi import spectrum_by_jacobi
from distgram.linalg.mesh import REPLICATED
from distgram.linalg.rows import Points, Residual
from distgram.linalg.spectrum import Spectrum


def triangle(rows: Float[Array, "n q"]) -> Float[Array, "q q"]:
    """R of a QR of the rows, by Householder reflections; zero rows below when n < q."""
    return jnp.linalg.qr(square_at_least(rows), mode="r")


def spectrum_of_triangle(r: Float[Array, "q q"]) -> Spectrum:
    """The spectrum from the triangle of [φ̂ | r], q = p + 1."""
    w, s, vt = jnp.linalg.svd(r[:-1, :-1])
    return Spectrum(s, vt, w.T @ r[:-1, -1], jnp.abs(r[-1, -1]))


@dataclass(frozen=True)
class TSQR(Factorization):
    """Streamed TSQR over the row blocks of a device, then over the devices.

    Args:
        svd: of the triangle: 'lapack', the same on every device, or 'jacobi', over the devices;
            `jacobi` says from which size on that pays.
    """

    svd: str = "lapack"

    def __call__(self, residual, theta, points, needs, state):
        r = self.reduce(residual, theta, points)
        if self.svd == "jacobi":
            return spectrum_by_jacobi(r, residual.mesh), state
        return spectrum_of_triangle(r), state

    def reduce(
        self, residual: Residual, theta: Float[Array, " p"], points: tuple[Points, ...]
    ) -> Float[Array, "q q"]:
        """R of the QR of all rows [φ̂ | r], q = p + 1, replicated."""

        def fold(theta, points):
            def add(r, rows):
                return triangle(rows if r is None else jnp.concatenate([r, rows]))

            r, _ = meet(residual.fold(add, theta, points), residual.mesh.size)
            return r

        return residual.on_devices(fold, REPLICATED)(theta, points)
