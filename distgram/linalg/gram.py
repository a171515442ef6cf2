"""The normal equations, to be compared with: they lose every singular value below √eps·s₁.

    φ̂ᵀφ̂ = Û Δ̂² Ûᵀ,   c = Δ̂⁻¹ Ûᵀ φ̂ᵀr,   outside² = ‖r‖² - Σ cᵢ².

An eigenvalue is known to eps·s₁², so a singular value of relative size 1e-8 to 20 % at best, and
those below are noise; the difference that gives the part outside cancels likewise. Half the flops
of QR. Never a default.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from distgram.linalg.factorization import Factorization
from distgram.linalg.mesh import POINTS, REPLICATED
from distgram.linalg.rows import Points, Residual
from distgram.linalg.spectrum import Spectrum


def normal_equations(
    residual: Residual, theta: Float[Array, " p"], points: tuple[Points, ...]
) -> tuple[Float[Array, "p p"], Float[Array, " p"]]:
    """(φ̂ᵀφ̂, φ̂ᵀr), summed over the devices."""

    def local(theta, points):
        rows = residual.rows(theta, points)
        return lax.psum(rows[:, :-1].T @ rows, POINTS)

    product = residual.on_devices(local, REPLICATED)(theta, points)
    return product[:, :-1], product[:, -1]


@dataclass(frozen=True)
class Gram(Factorization):
    """Eigenvalues of φ̂ᵀφ̂, negative ones taken as zero."""

    def __call__(self, residual, theta, points, needs, state):
        gram, gradient = normal_equations(residual, theta, points)
        values, vectors = jnp.linalg.eigh(gram)
        s, vt = jnp.sqrt(jnp.maximum(values[::-1], 0.0)), vectors[:, ::-1].T
        c = jnp.where(s > 0, (vt @ gradient) / jnp.where(s > 0, s, 1.0), 0.0)
        total = jnp.sum(residual.term_losses(theta, points))
        outside = jnp.sqrt(jnp.maximum(total - jnp.sum(c**2), 0.0))
        return Spectrum(s, vt, c, outside), state
