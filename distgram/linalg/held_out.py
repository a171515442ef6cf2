"""Held-out rows, streamed like the training rows: how well each rank of a step extrapolates."""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from distgram.linalg.mesh import POINTS, REPLICATED
from distgram.linalg.rows import Rows
from distgram.linalg.spectrum import Spectrum


def reconstruction_errors(rows: Rows, spectrum: Spectrum) -> Float[Array, " k+1"]:
    """‖r_Z - Φ_Z d_k‖ for the rows [Φ_Z | r_Z] at held-out points Z,
    d_k = Σ_{i<=k} (cᵢ / sᵢ) vᵢ,  k = 0..K. Replicated.

    Each row block meets all the d_k at once and leaves K + 1 sums of squares; neither Φ_Z nor its
    product with them is there whole. The weighted rms residual, at each rank, that the linear
    model predicts for points it has not seen.
    """
    steps = jnp.cumsum(spectrum.lengths()[:, None] * spectrum.vt, axis=0)
    steps = jnp.pad(-steps.T, ((0, 1), (1, 0))).at[-1].set(1.0)  # of [Φ_Z | r_Z], a column a rank

    def local(mine, steps):
        def add(sums, block):
            squares = jnp.sum((block @ steps) ** 2, axis=0)
            return squares if sums is None else sums + squares

        return lax.psum(mine.fold(add), POINTS)

    return jnp.sqrt(rows.on_devices(local, REPLICATED, REPLICATED)(steps))
