"""The spectrum of the triangle by one-sided block Jacobi, its columns shared out over the devices.

With  R = [[R₁, z], [0, ρ]],  R₁ = W Δ̂ Ûᵀ,  rotations W from the right make the columns of

    [R₁ᵀ; zᵀ] W = [Û Δ̂; cᵀ]

orthogonal in their upper part; the last row becomes c, and W is never accumulated. In a round each
device turns the pairs of column blocks it holds, then blocks move on; in a sweep all meet. Two QRs
on every device come first: without them the triangles of networks, whose singular values run from
1 to 1e-16, took 17 to 20 sweeps, with them 6 to 9.

LAPACK's SVD on every device stays the default. Sweeps cost 8 P³/D operations each and more in
small rotations, seven times and up; the two QRs 8/3 P³ on every device, which caps the gain. Rounds
timed on one core, messages at 20 µs and 10 GB/s (tests/bench/svd.py): LAPACK's time over Jacobi's

    P        D = 1     4      8     16     32     64
    449       0.04   0.21   0.41   0.65   0.63   0.51
    1002      0.04   0.18   0.39   0.64   0.96   0.87
    2003      0.06   0.21   0.51   0.78   1.33   2.03

so cores win from P = 2000 and D = 32 on, none up to P = 1000; GPUs have not been measured. Singular
values came out to 3 eps s₁, and ‖VᵀV - I‖₂ at P eps.

Sources: Demmel, Veselić, SIAM J. Matrix Anal. Appl. 13 (1992) 1204; Drmač, Veselić, ibid. 29 (2008)
1322 (QR first); Bečka, Okša, Vajteršic, Parallel Comput. 28 (2002) 243 (blocks over processors);
Brent, Luk, SIAM J. Sci. Stat. Comput. 6 (1985) 69 (the rounds).
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.lax.linalg import ormqr
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from distgram.linalg.mesh import POINTS, REPLICATED
from distgram.linalg.spectrum import Spectrum

# Columns of a block, about: rotating the triangle of a pair then stays in a core's cache.
WIDTH = 32
# As many as LAPACK's dgesvj; preconditioned triangles were seen to need 3 to 9.
MAX_SWEEPS = 30


class Table(NamedTuple):
    """A tournament of columns, or of blocks of them, stored as rows: those that face meet."""

    upper: Float[Array, "k ..."]
    lower: Float[Array, "k ..."]


class Limits(NamedTuple):
    """Columns are orthogonal when |cosine| <= tolerance, and zero when shorter than `zero`."""

    tolerance: Float[Array, ""]
    zero: Float[Array, ""]


def spectrum_by_jacobi(r: Float[Array, "q q"], mesh: Mesh) -> Spectrum:
    """The spectrum from the triangle of [φ̂ | r], q = p + 1. Called inside jit.

    The same bits on every device. All is NaN where r is not finite, or MAX_SWEEPS do not suffice.
    """
    return spectrum_and_sweeps(r, mesh)[0]


def spectrum_and_sweeps(r: Float[Array, "q q"], mesh: Mesh) -> tuple[Spectrum, Int[Array, ""]]:
    """The spectrum from the triangle, and the number of sweeps that it took."""
    p, devices = r.shape[0] - 1, mesh.size
    held, width = layout(p, devices)
    finite = jnp.all(jnp.isfinite(r))
    whole = jnp.where(finite, r, 0.0)
    exponent = jnp.frexp(jnp.max(jnp.abs(whole[:-1, :-1])))[1]
    triangle = jnp.ldexp(whole[:-1, :-1], -exponent)  # squares of its entries stay in range
    eps = jnp.finfo(r.dtype).eps
    # dgesvj's tolerance; a column of length eps² s₁ is rounding of the rounding of a zero.
    limits = Limits(jnp.sqrt(1.0 * p) * eps, eps**2 * jnp.linalg.norm(triangle))

    @partial(
        jax.shard_map,
        mesh=mesh,
        in_specs=(REPLICATED, REPLICATED),  # the whole triangle, of which a device takes its blocks
        out_specs=REPLICATED,  # all columns, gathered: each was computed on one device
        check_vma=False,
    )
    def orthogonalize(triangle, z):
        seat = lax.axis_index(POINTS) * held + jnp.arange(held)
        blocks = jnp.concatenate([seat, 2 * devices * held - 1 - seat])
        columns = preconditioned(triangle, z, blocks, width)
        table = Table(columns[:held], columns[held:])

        def more(state):
            _, sweeps, done = state
            return ~done & (sweeps < MAX_SWEEPS)

        def sweep(state):
            table, sweeps, _ = state
            table, cosine, sine = one_sweep(table, limits, devices)
            cosine, sine = lax.pmax(cosine, POINTS), lax.pmax(sine, POINTS)
            # Each cosine was made zero, and at most p later rotations have moved it by cosine·sine.
            done = jnp.minimum(cosine, p * cosine * sine) <= limits.tolerance
            return table, sweeps + 1, done

        table, sweeps, done = lax.while_loop(more, sweep, (table, jnp.asarray(0), False))
        mine = jnp.concatenate([table.upper, table.lower]).reshape(-1, p + 1)
        return lax.all_gather(mine, POINTS, tiled=True), sweeps, done

    columns, sweeps, done = orthogonalize(triangle, whole[:-1, -1:])
    s, vt, c = sorted_triplets(columns, limits.zero)
    spectrum = Spectrum(jnp.ldexp(s, exponent), vt, c, jnp.abs(whole[-1, -1]))
    bad = jnp.where(finite & done, 1.0, jnp.nan)
    return jax.tree.map(lambda a: a * bad, spectrum), sweeps


def layout(p: int, devices: int) -> tuple[int, int]:
    """Pairs of blocks that each device holds, and the columns of a block."""
    held = -(-p // (2 * devices * WIDTH))
    return held, -(-p // (2 * devices * held))


def preconditioned(
    triangle: Float[Array, "p p"], z: Float[Array, "p 1"], blocks: Int[Array, " k"], width: int
) -> Float[Array, "k width p+1"]:
    """Blocks of columns of [R₁ᵀ; zᵀ] Q₂, with  R₁ᵀ = Q₁ Lᵀ  and  [L, z] = Q₂ [T, y].

    That is [Q₁ Tᵀ; yᵀ]: the rotation Q₂ is a step of the QR algorithm, after which the columns are
    nearly sorted and nearly orthogonal. Columns beyond p are zero.
    """
    p = triangle.shape[0]
    h, taus = jnp.linalg.qr(triangle.T, mode="raw")
    rows = jnp.linalg.qr(jnp.concatenate([jnp.tril(h), z], axis=1), mode="r")
    at = (width * blocks[:, None] + jnp.arange(width)).reshape(-1)
    mine = jnp.take(rows, at, axis=0, mode="fill", fill_value=0.0)
    turned = ormqr(h.T, taus, mine[:, :-1].T).T
    return jnp.concatenate([turned, mine[:, -1:]], axis=1).reshape(-1, width, p + 1)


def one_sweep(
    table: Table, limits: Limits, devices: int
) -> tuple[Table, Float[Array, ""], Float[Array, ""]]:
    """Every block meets every other once: the table, the largest |cosine| and |sin θ| met."""

    def meet(_, state):
        table, cosine, sine = state
        table, c, s = orthogonalize_pairs(table, limits)
        return next_round(table, devices), jnp.maximum(cosine, c), jnp.maximum(sine, s)

    rounds = 2 * devices * table.upper.shape[0] - 1
    return lax.fori_loop(0, rounds, meet, (table, 0.0, 0.0))


def next_round(table: Table, devices: int = 1) -> Table:
    """The circle method: all seats but the first upper one move on by one, across devices."""
    upper, lower = table
    circle = jnp.concatenate([upper[:1], lower[:1], upper[1:]])
    if devices == 1:
        return Table(circle[:-1], jnp.concatenate([lower[1:], circle[-1:]]))
    device = lax.axis_index(POINTS)
    leaving = jnp.where(device == 0, circle[-1], upper[-1])
    left = lax.ppermute(leaving, POINTS, [(d, d + 1) for d in range(devices - 1)])
    right = lax.ppermute(lower[0], POINTS, [(d, d - 1) for d in range(1, devices)])
    upper = jnp.where(device == 0, circle[:-1], jnp.concatenate([left[None], upper[:-1]]))
    end = jnp.where(device == devices - 1, leaving, right)
    return Table(upper, jnp.concatenate([lower[1:], end[None]]))


def orthogonalize_pairs(
    table: Table, limits: Limits
) -> tuple[Table, Float[Array, ""], Float[Array, ""]]:
    """Turn each pair of blocks by the rotations of its triangle, unless it is orthogonal.

    By QR and not by the Gram matrix, which has lost the columns that are small in the others'
    span; QR keeps every column to eps of its own length.
    """
    pair = jnp.concatenate([table.upper, table.lower], axis=1)
    r = jnp.linalg.qr(jnp.swapaxes(pair[..., :-1], 1, 2), mode="r")
    length = jnp.linalg.norm(r, axis=1, keepdims=True)
    unit = r / jnp.where(length > limits.zero, length, jnp.inf)
    cosine = jnp.max(jnp.abs(jnp.tril(jnp.swapaxes(unit, 1, 2) @ unit, -1)))

    def turn(pair):
        v, sine = jax.vmap(rotations, (0, None))(r, limits)
        return v @ pair, jnp.max(sine)

    pair, sine = lax.cond(cosine > limits.tolerance, turn, lambda pair: (pair, 0.0), pair)
    width = pair.shape[1] // 2
    return Table(pair[:, :width], pair[:, width:]), cosine, sine


def rotations(
    r: Float[Array, "m n"], limits: Limits
) -> tuple[Float[Array, "n n"], Float[Array, ""]]:
    """Vᵀ of one sweep of plane rotations over the columns of r, and the largest |sin θ|."""
    m, n = r.shape
    rows = jnp.concatenate([r.T, jnp.eye(n, dtype=r.dtype)], axis=1)

    def meet(_, state):
        table, sine = state
        table, s = rotate(table, m, limits)
        return next_round(table), jnp.maximum(sine, s)

    start = Table(rows[: n // 2], rows[n // 2 :])
    table, sine = lax.fori_loop(0, n - 1, meet, (start, 0.0))
    v = jnp.concatenate([table.upper, table.lower])[:, m:]
    # Some hundred rotations drift from length 1, all in one direction.
    return v / jnp.linalg.norm(v, axis=1, keepdims=True), sine


def rotate(table: Table, m: int, limits: Limits) -> tuple[Table, Float[Array, ""]]:
    """One rotation a facing pair, over m entries:  tan 2θ = 2 xᵀy / (‖y‖² - ‖x‖²),  |θ| <= π/4."""
    x, y = table
    xx = jnp.sum(x[:, :m] ** 2, axis=1)
    yy = jnp.sum(y[:, :m] ** 2, axis=1)
    xy = jnp.sum(x[:, :m] * y[:, :m], axis=1)
    live = jnp.minimum(xx, yy) > limits.zero**2
    skew = live & (jnp.abs(xy) > limits.tolerance * jnp.sqrt(xx) * jnp.sqrt(yy))
    zeta = (yy - xx) / jnp.where(skew, 2 * xy, 1.0)
    t = jnp.where(zeta < 0, -1.0, 1.0) / (jnp.abs(zeta) + jnp.hypot(1.0, zeta))
    tangent = jnp.where(skew, t, 0.0)[:, None]
    cosine = 1 / jnp.hypot(1.0, tangent)
    sine = cosine * tangent
    return Table(cosine * x - sine * y, sine * x + cosine * y), jnp.max(jnp.abs(sine))


def sorted_triplets(
    columns: Float[Array, "k p+1"], zero: Float[Array, ""]
) -> tuple[Float[Array, " p"], Float[Array, "p p"], Float[Array, " p"]]:
    """s descending, vt and c from orthogonal columns [sᵢ vᵢ; cᵢ].

    A QR of the vectors that are left completes those that have vanished. The columns of padding
    have no coefficient either, and come last.
    """
    p = columns.shape[1] - 1
    s, c = jnp.linalg.norm(columns[:, :-1], axis=1), columns[:, -1]
    order = jnp.lexsort((-jnp.abs(c), -s))[:p]
    s, c = s[order], c[order]
    gone = (s <= zero)[:, None]
    vt = jnp.where(gone, 0.0, columns[order, :-1] / jnp.where(gone, 1.0, s[:, None]))

    def complete(vt):
        return jnp.where(gone, jnp.linalg.qr(vt.T)[0].T, vt)

    return s, lax.cond(jnp.any(gone), complete, lambda vt: vt, vt), c
