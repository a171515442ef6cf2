"""Certified randomized subspace iteration, for the leading triplets that the rule needs.

From an orthonormal V (p, w) of trial directions, one sweep is

    Y = J V,   Y = Q T,   Z = Jᵀ Q = V' B,   Bᵀ = W Δ̂ Gᵀ,   u_i = Q w_i,   v_i = V' g_i,

two passes over the row blocks, in which a block of J is made, multiplied and dropped. Afterwards
Jᵀ u_i = s_i v_i holds exactly. A third pass bounds the residual E of the other equation, J v_i =
s_i u_i, and the part of J outside the range of U. Each bound takes 16 fresh Gaussian columns and
fails with probability 3⁻¹⁶ (2e-8) at most:

    E = J V_r - U_r Δ̂_r,   ‖E‖ <= 3 √(2/π) maxⱼ ‖(I - U Uᵀ) J V_r gⱼ‖,
    ‖J - U UᵀJ‖ <= 3 √(2/π) maxⱼ ‖(I - U Uᵀ) J ωⱼ‖.

J - E V_rᵀ has these r triplets exactly, so ‖E‖ is a backward error. The triplets are certified as
soon as the rule says that they determine its step, given the bound on the part of J that they leave
out, and ‖E‖ is at most rounding plus the rule's tolerance times the least singular value in use.
Until then the iteration sweeps again; if more sweeps at this width cannot certify, it doubles the
width; beyond half of min(n, p) it calls the dense factorization, which is then cheaper. The next
step begins with the vectors and the width of this one.

J V makes rows of J by reverse mode and multiplies them by V. On one core this costs, for 64
columns, a tenth of 64 forward-mode products (P = 2000, two dimensions).
Source: Halko, Martinsson, Tropp, SIAM Rev. 53 (2011) 217, alg. 4.4 and lemma 4.1; Martinsson,
Tropp, Acta Numer. 29 (2020) 403, sec. 12 (a posteriori bounds).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import NamedSharding
from jaxtyping import Array, Bool, Float, Int

from distgram.errors import PlanError, require
from distgram.linalg.butterfly import orthonormal
from distgram.linalg.dual import Dual
from distgram.linalg.factorization import PLANNED, Factorization, Needs
from distgram.linalg.memory import PROBES, WIDTH
from distgram.linalg.mesh import SHARDED
from distgram.linalg.rows import Rows
from distgram.linalg.spectrum import Spectrum
from distgram.linalg.tsqr import TSQR

FAILURE = 3.0  # ‖A‖ > 3 √(2/π) max ‖Aω‖ over 16 probes with probability 3⁻¹⁶ at most
SWEEPS = 4  # at one width: each divides the error of v_i by (s_i / s_w)²; then widening is cheaper
ROUNDING = 3.0  # ‖E‖ in units of eps s₁ √w that no sweep removes


class Warm(NamedTuple):
    """What one step hands to the next.

    v: right vectors, in its first `known` columns. level: index into `widths` of the width to begin
    with. sweeps: the number of sweeps that the last step took. key: data of the random key from
    which the next step draws its directions and probes.
    """

    v: Float[Array, "p w"]
    known: Int[Array, ""]
    level: Int[Array, ""]
    sweeps: Int[Array, ""]
    key: Array


class _Found(NamedTuple):
    """The result of the last sweep at one width.

    rank: how many triplets the rule uses. certified: these triplets determine the rule's step, and
    their backward error is small enough. hopeless: more sweeps at this width cannot certify them,
    since the rule needs more triplets, or these are exact already and leave out too much.
    """

    spectrum: Spectrum
    rank: Int[Array, ""]
    certified: Bool[Array, ""]
    hopeless: Bool[Array, ""]
    sweeps: Int[Array, ""]


@dataclass(frozen=True)
class Randomized(Factorization):
    """Certified randomized subspace iteration.

    Args:
        width: number of trial directions to begin with. capacity: the largest such number; None:
            memory decides.

    The plan gives the rest:
        widths: numbers of trial directions, ascending.
        dense: the factorization called when the largest width does not certify; None: the step
            then takes the triplets of the largest width, and the spectrum's `left_out` bounds what
            they miss.
        seed: of the first directions and of the probes.
    """

    name = "randomized"
    width: int = WIDTH
    capacity: int | None = None
    widths: tuple[int, ...] = field(default=(), metadata=PLANNED)
    dense: Factorization | None = field(default=None, metadata=PLANNED)
    seed: int = field(default=0, metadata=PLANNED)

    def __post_init__(self):
        require(self.width >= 1, self, "width", "at least 1", PlanError)
        if self.capacity is not None:
            require(self.capacity >= 1, self, "capacity", "at least 1", PlanError)

    def planned(self, plan, seed):
        dense = {"tsqr": TSQR(), "dual": Dual(), None: None}[plan.dense]
        return replace(self, widths=plan.widths, dense=dense, seed=seed)

    def init(self, rows):
        v = jnp.zeros((rows.p, self.widths[-1]), rows.theta.dtype)
        key = jax.random.key_data(jax.random.key(self.seed))
        zero = jnp.asarray(0, int)
        return Warm(v, zero, zero, zero, key)

    def __call__(self, rows, needs, state):
        theta = rows.theta
        p, widest, dense = rows.p, self.widths[-1], self.dense
        # One draw per step: the directions of a sweep do not depend on the probes, so that the
        # probes are as good as fresh for every sweep.
        key, noise = _normal(state.key, (p + widest, widest + PROBES))
        noise, probes, mix = noise[:p, :widest], noise[:p, widest:], noise[p:, widest:]

        def begin(warm: Warm, width: int) -> Float[Array, "p w"]:
            known = jnp.arange(width) < warm.known
            return jnp.linalg.qr(jnp.where(known, warm.v[:, :width], noise[:, :width]))[0]

        kept = widest if dense is None else p

        def at(width: int) -> Callable:
            def attempt(warm: Warm):
                found = self._search(rows, needs, begin(warm, width), probes, mix)
                v = jnp.zeros_like(warm.v).at[:, :width].set(found.spectrum.vt.T)
                sweeps = warm.sweeps + found.sweeps
                warm = warm._replace(v=v, known=jnp.asarray(width, int), sweeps=sweeps)
                return warm, found.spectrum.padded(kept), found.rank, found.certified

            return attempt

        def densely(warm: Warm):
            assert dense is not None
            spectrum, _ = dense(rows, needs, ())
            spectrum = spectrum.padded(kept)
            warm = warm._replace(v=spectrum.vt[:widest].T, known=jnp.asarray(widest, int))
            return warm, spectrum, needs(spectrum).rank, jnp.asarray(True)

        attempts = [at(w) for w in self.widths] + ([] if dense is None else [densely])

        def wider(carry):
            level = carry[0].level + 1
            return lax.switch(level, attempts, carry[0]._replace(level=level))

        def going(carry):
            return ~carry[-1] & (carry[0].level < len(attempts) - 1)

        zeros = [jnp.zeros(shape, theta.dtype) for shape in ((1,), (1, p), (1,), ())]
        first = state._replace(level=state.level - 1, sweeps=jnp.asarray(0, int), key=key)
        nothing = Spectrum(*zeros, left_out=jnp.asarray(jnp.inf)).padded(kept)
        carry = (first, nothing, jnp.asarray(0, int), jnp.asarray(False))
        warm, spectrum, rank, _ = lax.while_loop(going, wider, carry)
        # If the rule used at most a quarter of the width, the next step begins one width lower.
        spare = 4 * rank <= jnp.asarray([*self.widths, 2 * widest])[warm.level]
        return spectrum, warm._replace(level=warm.level - ((warm.level > 0) & spare))

    def _search(
        self,
        rows: Rows,
        needs: Needs,
        v: Float[Array, "p w"],
        probes: Float[Array, "p t"],
        mix: Float[Array, "w t"],
    ) -> _Found:
        """Sweep from V until the triplets are certified or hopeless, SWEEPS times at most."""
        (p, width), dtype = v.shape, rows.theta.dtype
        eps, sharded = jnp.finfo(dtype).eps, NamedSharding(rows.mesh, SHARDED)
        complete = width >= min(jax.eval_shape(rows.multiply, v)[0].shape[0], p)

        def sweep(found: _Found) -> _Found:
            y, r = rows.multiply(found.spectrum.vt.T)
            q, _ = rows.on_matrix(orthonormal)(y)
            v, b = jnp.linalg.qr(rows.multiply_transposed(q))
            w, s, gt = jnp.linalg.svd(b.T)
            u, v = lax.with_sharding_constraint(q @ w, sharded), v @ gt.T
            c = u.T @ r
            spectrum = Spectrum(s, v.T, c, jnp.linalg.norm(r - u @ c), zero)
            # Before the bound is measured: the first singular value left out is about s[-1], and
            # the bound on it comes out at about twice that.
            asked = needs(spectrum._replace(left_out=2.0 * s[-1]))

            mixed = jnp.where(jnp.arange(width) < asked.rank, v, 0.0) @ mix[:width]
            trial = jnp.concatenate([mixed, probes], axis=1)
            y, _ = rows.multiply(trial)
            beyond = jnp.linalg.norm(y - u @ (u.T @ y), axis=0).reshape(2, PROBES)
            error, left_out = FAILURE * jnp.sqrt(2.0 / jnp.pi) * jnp.max(beyond, axis=1)
            spectrum = spectrum._replace(left_out=jnp.where(complete, 0.0, left_out))
            enough = needs(spectrum).enough
            least = s[jnp.clip(asked.rank - 1, 0, width - 1)]
            rounding = ROUNDING * eps * s[0] * jnp.sqrt(width)
            exact = error <= asked.tolerance * least + rounding
            # If the triplets are exact and not enough, another sweep would hardly lower the bound.
            hopeless = ~enough & (~asked.enough | exact)
            return _Found(spectrum, asked.rank, enough & exact, hopeless, found.sweeps + 1)

        def going(found: _Found) -> Array:
            return ~(found.certified | found.hopeless) & (found.sweeps < SWEEPS)

        none, zero = jnp.zeros(width, dtype), jnp.asarray(0.0, dtype)
        spectrum, count, no = (
            Spectrum(none, v.T, none, zero, zero),
            jnp.asarray(0, int),
            jnp.asarray(False),
        )
        return lax.while_loop(going, sweep, _Found(spectrum, count, no, no, count))


def _normal(key: Array, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """(the next key, standard normal numbers)."""
    after, now = jax.random.split(jax.random.wrap_key_data(key))
    return jax.random.key_data(after), jax.random.normal(now, shape, jnp.float64)
