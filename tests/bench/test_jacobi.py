"""One-sided block Jacobi against 80-bit oracles and invariants, on 1, 2, 3, 5 and 8 devices."""

from __future__ import annotations

from functools import cache, partial
from itertools import combinations

import jax
import jax.numpy as jnp
import matrices as M
import numpy as np
import pytest
from jacobi import Table, next_round, spectrum_and_sweeps
from jax import lax
from matrices import EPS, Long

from distgram.linalg.mesh import POINTS, REPLICATED, make_mesh

P = 16
DEVICES = [1, 2, 3, 5, 8]

# As for TSQR and LAPACK: 100 eps of backward error; singular values are Lipschitz in it with
# constant 1, and reach far below the bound.
BACKWARD, SINGULAR = 100 * EPS, 10 * EPS

MATRICES = {
    **{f"condition {c:.0e}": M.prescribed(60, M.geometric(P, c)) for c in (1, 1e4, 1e8, 1e16)},
    "rank 5": M.rank_deficient(60, P, 5),
    "rank 1": M.rank_deficient(60, P, 1),
    "zero": np.zeros((60, P)),
    "graded columns": M.graded_columns(60, P, 1e14),
    "graded rows": M.graded_rows(60, P, 1e14),
    "tiny": 1e-200 * M.prescribed(60, M.geometric(P, 1e8)),
    "huge": 1e120 * M.prescribed(60, M.geometric(P, 1e8)),
    "lauchli 1e-12": M.lauchli(P, 1e-12),
    "kahan": M.kahan(P, 0.5),
    "one row": M.prescribed(1, np.ones(P)),
    "S = 5 < P": M.prescribed(5, M.geometric(P, 1e8)),
    "two columns": M.prescribed(60, M.geometric(2, 1e8)),
    # On 3 devices the padding comes before the vanished column that has all of b's coefficient.
    "six zero columns": np.pad(M.prescribed(60, M.geometric(10, 1e8)), ((0, 0), (0, 6))),
    "one column": M.prescribed(60, np.ones(1)),
}


@cache
def compiled(p: int, devices: int):
    mesh, triangle = make_mesh(devices), jax.ShapeDtypeStruct((p + 1, p + 1), jnp.float64)
    return jax.jit(lambda r: spectrum_and_sweeps(r, mesh)).lower(triangle).compile()


def triangle_of(a, b):
    """R of the QR of [a | b], (p + 1, p + 1), by NumPy."""
    rows = np.column_stack([a, b])
    rows = np.concatenate([rows, np.zeros((rows.shape[1], rows.shape[1]))])
    return np.linalg.qr(rows, mode="r")


def right_side(a, seed=1):
    """b with parts along every left singular vector, and outside the range."""
    b = np.random.default_rng(seed).standard_normal(len(a))
    return b * max(np.abs(a).max(), 1e-300)


def distance_to_orthogonal(a, s, vt) -> float:
    """‖A - V Δ Uᵀ‖_F for an orthonormal V, by the QR of AU: a bound of the backward error."""
    _, r = M.householder(a.astype(Long) @ np.asarray(vt, Long).T)
    return float(np.linalg.norm((r - np.diag(np.asarray(s, Long))).astype(np.float64)))


def check_spectrum(r, spectrum):
    """Backward error, singular values, orthonormality and coefficients, in units of s₁ and ‖b‖."""
    a, b, p = r[:-1, :-1], r[:-1, -1], len(r) - 1
    s, vt, c = (np.asarray(leaf) for leaf in (spectrum.s, spectrum.vt, spectrum.c))
    norm, right = float(M.svd(a)[1][0]), np.linalg.norm(b)
    assert np.linalg.norm(vt @ vt.T - np.eye(p)) <= BACKWARD
    assert distance_to_orthogonal(a, s, vt) <= BACKWARD * norm
    assert np.all(np.diff(s) <= 0) and np.all(s >= 0)
    assert np.max(np.abs(s - M.svd(a)[1].astype(np.float64))) <= SINGULAR * norm
    # Aᵀb = Û Δ̂ c, both sides over s₁; and no part of b is lost, of those in the null space either.
    scale = norm or 1.0
    assert np.linalg.norm(vt.T @ (s / scale * c) - (a / scale).T @ b) <= BACKWARD * right
    assert np.linalg.norm(c / (right or 1.0)) == pytest.approx(float(right > 0), rel=BACKWARD)
    assert spectrum.outside == abs(r[-1, -1])


@pytest.mark.parametrize("devices", DEVICES)
@pytest.mark.parametrize("name", MATRICES)
def test_spectrum_is_backward_stable(name, devices):
    a = MATRICES[name]
    r = triangle_of(a, right_side(a))
    spectrum, sweeps = compiled(a.shape[1], devices)(jnp.asarray(r))
    check_spectrum(r, spectrum)
    assert sweeps <= 10  # quadratic convergence, from a preconditioned start


@pytest.mark.parametrize("devices", DEVICES)
def test_prescribed_singular_values_are_found(devices):
    prescribed = M.geometric(P, 1e12)
    a = M.prescribed(60, prescribed)
    spectrum, _ = compiled(P, devices)(jnp.asarray(triangle_of(a, right_side(a))))
    assert np.max(np.abs(np.asarray(spectrum.s) - prescribed)) <= SINGULAR


@pytest.mark.slow
@pytest.mark.parametrize("devices, p", [(1, 70), (2, 131), (3, 45)])
def test_several_pairs_of_blocks_a_device_and_padding(devices, p):
    """70 columns on one device are two pairs of blocks, 131 on two three; none divides evenly."""
    a = M.prescribed(p, M.geometric(p, 1e16))
    r = triangle_of(a, right_side(a))
    spectrum, _ = compiled(p, devices)(jnp.asarray(r))
    s, vt = np.asarray(spectrum.s), np.asarray(spectrum.vt)
    # Cosines of √P eps are left, 2 P² of them: P^1.5 eps in the Frobenius norm, at the very most.
    assert np.linalg.norm(vt @ vt.T - np.eye(p)) <= p**1.5 * EPS
    assert np.max(np.abs(s - np.linalg.svd(r[:-1, :-1], compute_uv=False))) <= 2 * SINGULAR
    gradient = vt.T @ (s * np.asarray(spectrum.c))
    assert np.linalg.norm(gradient - r[:-1, :-1].T @ r[:-1, -1]) <= BACKWARD * np.linalg.norm(
        r[:, -1]
    )


@pytest.mark.parametrize("devices", DEVICES)
def test_least_squares_direction(devices):
    """b = A y, condition 1e4: the sensitivity is the condition number itself."""
    a = M.prescribed(60, M.geometric(P, 1e4))
    y = np.random.default_rng(5).standard_normal(P)
    spectrum, _ = compiled(P, devices)(jnp.asarray(triangle_of(a, a @ y)))
    direction = spectrum.direction(jnp.ones(P))
    assert np.linalg.norm(direction - y) <= BACKWARD * 1e4 * np.linalg.norm(y)


def test_every_device_holds_the_same_bits():
    a = MATRICES["condition 1e+16"]
    out = compiled(P, 8)(jnp.asarray(triangle_of(a, right_side(a))))
    for leaf in jax.tree.leaves(out):
        shards = [np.asarray(s.data) for s in leaf.addressable_shards]
        assert len(shards) == 8
        assert all(s.tobytes() == shards[0].tobytes() for s in shards)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("at", [(3, 7), (3, P), (P, P)])
@pytest.mark.parametrize("devices", [1, 3])
def test_what_is_not_finite_is_not_hidden(devices, at, bad):
    a = MATRICES["condition 1e+04"]
    r = triangle_of(a, right_side(a))
    r[at] = bad
    spectrum, _ = compiled(P, devices)(jnp.asarray(r))
    assert all(np.all(np.isnan(leaf)) for leaf in jax.tree.leaves(spectrum))


@pytest.mark.parametrize("held", [1, 2, 3])
@pytest.mark.parametrize("devices", DEVICES)
def test_every_block_meets_every_other_once_and_comes_home(devices, held):
    mesh, blocks = make_mesh(devices), 2 * devices * held

    @jax.jit
    @partial(jax.shard_map, mesh=mesh, in_specs=(), out_specs=REPLICATED, check_vma=False)
    def play():
        seat = lax.axis_index(POINTS) * held + jnp.arange(held)
        table = Table(seat, blocks - 1 - seat)

        def meet(table, _):
            faces = jnp.stack(table, axis=1)
            return next_round(table, devices), lax.all_gather(faces, POINTS, tiled=True)

        table, met = lax.scan(meet, table, length=blocks - 1)
        faces = jnp.stack(table, axis=1)
        return met, lax.all_gather(faces, POINTS, tiled=True)

    met, last = (np.asarray(out) for out in play())
    assert sorted(tuple(sorted(pair)) for pair in met.reshape(-1, 2).tolist()) == list(
        combinations(range(blocks), 2)
    )
    assert np.array_equal(last, met[0])
