"""Held-out rows, streamed like the training rows: how well each rank of a step extrapolates."""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from distgram.linalg.mesh import POINTS, REPLICATED
from distgram.linalg.rows import Points, Residual, weighted_points
from distgram.linalg.spectrum import Spectrum
from distgram.points.draw import draw_validation
from distgram.run.assemble import Assembled


def validation_points(run: Assembled, count: int) -> tuple[Points, ...]:
    """`count` points of every term from the run's seed, the same at every step, and neither those
    trained on nor those a run is measured at. Not sharded: the step holds them as constants."""
    residual, drawn = run.residual, []
    for i, term in enumerate(run.terms):
        key = [run.config.run.seed, i, 2]
        x, density = draw_validation(term, run.config.points[term.name], count, key)
        mesh, blocks = residual.mesh, residual.blocks
        weighted = weighted_points(mesh.size, term, x, density, blocks)
        drawn.append(Points(*map(jnp.asarray, weighted)))
    return tuple(drawn)


def reconstruction_errors(
    residual: Residual,
    theta: Float[Array, " p"],
    points: tuple[Points, ...],
    spectrum: Spectrum,
) -> Float[Array, " k+1"]:
    """‖r_Z - Φ_Z d_k‖ at held-out points Z,  d_k = Σ_{i<=k} (cᵢ / sᵢ) vᵢ,  k = 0..K. Replicated.

    Each row block [Φ_Z | r_Z] meets all the d_k at once and leaves K + 1 sums of squares; neither
    Φ_Z nor its product with them is there whole. The weighted rms residual, at each rank, that the
    linear model predicts for points it has not seen.
    """
    steps = jnp.cumsum(spectrum.lengths()[:, None] * spectrum.vt, axis=0)
    steps = jnp.pad(-steps.T, ((0, 1), (1, 0))).at[-1].set(1.0)  # of [Φ_Z | r_Z], a column a rank

    def local(theta, points, steps):
        def add(sums, rows):
            squares = jnp.sum((rows @ steps) ** 2, axis=0)
            return squares if sums is None else sums + squares

        return lax.psum(residual.fold(add, theta, points), POINTS)

    squares = residual.on_devices(local, REPLICATED, REPLICATED)(theta, points, steps)
    return jnp.sqrt(squares)
