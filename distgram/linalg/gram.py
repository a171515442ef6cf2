"""The normal equations, to be compared with: they lose every singular value below √eps·s₁.

    φ̂ᵀφ̂ = Û Δ̂² Ûᵀ,   c = Δ̂⁻¹ Ûᵀ φ̂ᵀr,   outside² = ‖r‖² - Σ cᵢ².

An eigenvalue is known to eps·s₁², so a singular value of relative size 1e-8 to 20 % at best, and
those below are noise; the difference that gives the part outside cancels likewise. Half the flops
of QR. Never a default.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp

from distgram.linalg.factorization import Factorization
from distgram.linalg.spectrum import Spectrum


@dataclass(frozen=True)
class Gram(Factorization):
    """Eigenvalues of φ̂ᵀφ̂, negative ones taken as zero."""

    name = "gram"

    def __call__(self, rows, needs, state):
        gram, gradient = rows.normal_equations()
        values, vectors = jnp.linalg.eigh(gram)
        s, vt = jnp.sqrt(jnp.maximum(values[::-1], 0.0)), vectors[:, ::-1].T
        c = jnp.where(s > 0, (vt @ gradient) / jnp.where(s > 0, s, 1.0), 0.0)
        total = jnp.sum(rows.term_losses())
        outside = jnp.sqrt(jnp.maximum(total - jnp.sum(c**2), 0.0))
        return Spectrum(s, vt, c, outside), state
