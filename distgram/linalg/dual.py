"""The dual of TSQR for more parameters than rows: J sharded by columns, QR of Jᵀ.

    Jᵀ = Q R,   Rᵀ = W Δ̂ Gᵀ,   J = W Δ̂ (Q G)ᵀ,   c = Wᵀ r.

Each device computes the rows of its own points, one all-to-all hands every device its columns of
all rows, and the triangles R (n, n) of the devices meet as in TSQR. Q is applied to G where the
right vectors are made, and they stay sharded by columns: a device holds n P/D numbers of J and as
many of the vectors. The Gram matrix J Jᵀ would give the same shape with half of the digits.
Source: as TSQR, for the transpose; the dual form of natural gradients as in Dangel, Müller,
Zeinhofer, NeurIPS 2024 (there by the Gram matrix J Jᵀ).
"""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
from jax import lax

from distgram.linalg.butterfly import meet, qr
from distgram.linalg.factorization import Factorization
from distgram.linalg.mesh import COLUMNS, POINTS, REPLICATED
from distgram.linalg.spectrum import Spectrum


@dataclass(frozen=True)
class Dual(Factorization):
    """TSQR of Jᵀ over devices that hold columns. Gives min(n, p) triplets, n the padded rows."""

    name = "dual"

    def __call__(self, rows, needs, state):
        p, devices = rows.p, rows.mesh.size

        def local(mine):
            rows = mine.whole()
            r = lax.all_gather(rows[:, -1], POINTS, tiled=True)
            j = jnp.pad(rows[:, :-1], ((0, 0), (0, -p % devices)))
            j = lax.all_to_all(j, POINTS, split_axis=1, concat_axis=0, tiled=True)
            factor, triangle = qr(j.T)
            triangle, share = meet(triangle, devices)
            w, s, gt = jnp.linalg.svd(triangle.T)
            k, c = min(j.shape[0], p), w.T @ r
            vt = (gt[:k] @ share.T) @ factor[: j.shape[1]].T
            return s[:k], vt, c[:k], jnp.linalg.norm(c[k:])

        laid_out = (REPLICATED, COLUMNS, REPLICATED, REPLICATED)
        s, vt, c, outside = rows.on_devices(local, laid_out)()
        vt = vt[:, :p]
        if (
            s.shape[0] == p
        ):  # more rows than columns: rows of zeros took part, see `square_at_least`
            q, t = jnp.linalg.qr(vt.T)
            vt = (q * jnp.where(jnp.diag(t) < 0, -1.0, 1.0)).T
        return Spectrum(s, vt, c, outside), state
