"""Tall-skinny QR: every device folds its rows [J | r] into a small triangle; the triangles meet.

    [φ̂ | r] = Q R,   R = [[R₁, z], [0, ρ]],   R₁ = W Δ̂ Ûᵀ,   c = Wᵀ z,   |ρ| the part outside.

Q is never formed and φ̂ never stored whole: memory is (P+1)² and one row block, whatever S is.
Backward stable, which the normal equations are not: they lose everything below √eps.
Source: Demmel, Grigori, Hoemmen, Langou, SIAM J. Sci. Comput. 34 (2012) A206.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from distgram.factorization import Factorization
from distgram.mesh import POINTS, REPLICATED, SHARDED
from distgram.residual import Points, Residual
from distgram.spectrum import Spectrum


def triangle(rows: Float[Array, "n q"]) -> Float[Array, "q q"]:
    """R of a QR of the rows, by Householder reflections; zero rows below when n < q."""
    n, q = rows.shape
    if n < q:
        rows = jnp.concatenate([rows, jnp.zeros((q - n, q), rows.dtype)])
    return jnp.linalg.qr(rows, mode="r")


def spectrum_of_triangle(r: Float[Array, "q q"]) -> Spectrum:
    """The spectrum from the triangle of [φ̂ | r], q = p + 1."""
    w, s, vt = jnp.linalg.svd(r[:-1, :-1])
    return Spectrum(s, vt, w.T @ r[:-1, -1], jnp.abs(r[-1, -1]))


@dataclass(frozen=True)
class TSQR(Factorization):
    """Streamed TSQR over row blocks and devices.

    Args:
        blocks: row blocks a device folds one after another; the points must be padded to a
            multiple of it. Folding factors P rows again for each block, so a block of 4 to 8 P
            rows costs little and keeps memory bounded.
    """

    blocks: int = 1

    def __call__(
        self, residual: Residual, theta: Float[Array, " p"], points: tuple[Points, ...]
    ) -> Spectrum:
        return spectrum_of_triangle(self.reduce(residual, theta, points))

    def reduce(
        self, residual: Residual, theta: Float[Array, " p"], points: tuple[Points, ...]
    ) -> Float[Array, "q q"]:
        """R of the QR of all rows [φ̂ | r], q = p + 1, replicated."""

        @partial(
            jax.shard_map,
            mesh=residual.mesh,
            in_specs=(REPLICATED, SHARDED),  # θ whole, each device its own points
            out_specs=REPLICATED,  # one triangle, the same to the last bit on every device
            check_vma=False,
        )
        def fold(theta, points):
            split = jax.tree.map(lambda a: a.reshape(self.blocks, -1, *a.shape[1:]), points)
            first = triangle(residual.rows(theta, jax.tree.map(lambda a: a[0], split)))

            def add(r, block):
                return triangle(jnp.concatenate([r, residual.rows(theta, block)])), None

            r, _ = lax.scan(add, first, jax.tree.map(lambda a: a[1:], split))
            if residual.mesh.size == 1:
                return r
            gathered = lax.all_gather(r, POINTS)
            return triangle(gathered.reshape(-1, r.shape[-1]))

        return fold(theta, points)
