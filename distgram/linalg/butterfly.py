"""QR of a matrix whose rows lie on many devices: triangles meet pairwise, log₂ stages.

    A = [A₀; A₁; ...],  A_i = Q_i R_i,  [R_i; R_j] = [H_i; H_j] R_ij,  ...

Stage k combines devices i and i + 2ᵏ: each sends its triangle to the other by one `ppermute`, and
both factor the same pair in the same order, so that all devices end with the same bits. For D =
2ᵐ + e devices the last e first meet the first e, and get the result from them at the end.
Source: Demmel, Grigori, Hoemmen, Langou, SIAM J. Sci. Comput. 34 (2012) A206, sec. 4.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from distgram.linalg.mesh import POINTS


def meet(r: Float[Array, "q q"], devices: int) -> tuple[Array, Array]:
    """(R, H): the triangle of all devices' rows, and this device's share of the orthogonal factor.

    Inside shard_map. If this device's rows are Q_i R_i, then they are Q_i H R, and over all devices
    the columns of Q_i H are orthonormal. Where H is not used, it is not computed.
    """
    half = 1 << (devices.bit_length() - 1)
    extra, device = devices - half, lax.axis_index(POINTS)
    first = last = jnp.eye(r.shape[0], dtype=r.dtype)
    if extra:
        pairs = [(i, i + half) for i in range(extra)]
        r, first = _pair(r, device, pairs, (device < extra) | (device >= half), device < half)
    bit = 1
    while bit < half:
        pairs = [(i, i ^ bit) for i in range(half) if not i & bit]
        r, share = _pair(r, device, pairs, device < half, device & bit == 0)
        last = last @ share
        bit *= 2
    if extra:
        there = [(i, i + half) for i in range(extra)]
        r, last = (jnp.where(device >= half, lax.ppermute(x, POINTS, there), x) for x in (r, last))
    return r, first @ last


def orthonormal(
    a: Float[Array, "n q"], devices: int
) -> tuple[Float[Array, "n q"], Float[Array, "q q"]]:
    """(Q, R) of the rows of all devices, A = Q R, n rows of it on this one; inside shard_map.

    A device with fewer rows than columns adds rows of zeros. Columns of Q that belong to zeros on
    R's diagonal need then not be of unit length: what they span is not in the range of A.
    """
    n = a.shape[0]
    factor, r = qr(a)
    r, share = meet(r, devices)
    return factor[:n] @ share, r


def qr(rows: Float[Array, "n q"]) -> tuple[Array, Array]:
    """(Q, R) by Householder reflections, with rows of zeros below where n < q."""
    rows = square_at_least(rows)
    factor, r = jnp.linalg.qr(rows)
    return underflown(rows, factor), underflown(rows, r)


def triangle(rows: Float[Array, "n q"]) -> Float[Array, "q q"]:
    """R of a QR of the rows, by Householder reflections; zero rows below when n < q."""
    rows = square_at_least(rows)
    return underflown(rows, jnp.linalg.qr(rows, mode="r"))


def underflown(rows: Float[Array, "n q"], factor: Float[Array, "m q"]) -> Float[Array, "m q"]:
    """A factor of finite rows, zero where it is not finite; of rows that are not finite, as it is.

    Where fewer rows than columns are not zero, what is left of a later column is rounding, then
    rounding of rounding, until it underflows. XLA flushes such numbers to zero and the threads of
    LAPACK do not, so that a reflection may come out as 0/0: in rows below 1e-280 of the largest.
    """
    return jnp.where(jnp.isfinite(factor) | ~jnp.all(jnp.isfinite(rows)), factor, 0.0)


def square_at_least(rows: Float[Array, "n q"]) -> Array:
    """The rows, with rows of zeros below until there are as many as columns."""
    n, q = rows.shape
    if n >= q:
        return rows
    return jnp.concatenate([rows, jnp.zeros((q - n, q), rows.dtype)])


def _pair(r, device, pairs, active, upper):
    """One stage: (triangle of both, this device's share), unchanged where it takes no part."""
    other = lax.ppermute(r, POINTS, pairs + [(j, i) for i, j in pairs])
    stacked = jnp.concatenate([jnp.where(upper, r, other), jnp.where(upper, other, r)])
    factor, both = qr(stacked)
    q = r.shape[0]
    share = jnp.where(upper, factor[:q], factor[q:])
    eye = jnp.eye(q, dtype=r.dtype)
    return jnp.where(active, both, r), jnp.where(active, share, eye)
