"""TSQR against prescribed spectra and 80-bit oracles, on 1, 2, 3 and 8 devices."""

from __future__ import annotations

from functools import cache

import jax
import jax.numpy as jnp
import matrices as M
import numpy as np
import pytest
from matrices import EPS, Long
from stages import stage

from distgram.linalg.butterfly import triangle
from distgram.linalg.mesh import make_mesh
from distgram.linalg.tsqr import TSQR, spectrum_of_triangle
from distgram.net.mlp import MLP
from distgram.run.setup import Memory

P = 16
LAYOUTS = [(1, 1), (1, 5), (2, 3), (3, 1), (8, 1), (8, 4)]  # devices, row blocks per device

# The source's promise is 100 eps; singular values are Lipschitz in it with constant 1, and the
# QR and SVD of LAPACK reach far below their bounds: 10 eps.
BACKWARD, SINGULAR = 100 * EPS, 10 * EPS

CONDITIONS = [1.0, 1e4, 1e8, 1e12, 1e16]
MATRICES = {
    **{f"condition {c:.0e}": M.prescribed(400, M.geometric(P, c)) for c in CONDITIONS},
    "rank 5": M.rank_deficient(400, P, 5),
    "rank 1": M.rank_deficient(400, P, 1),
    "zero": np.zeros((400, P)),
    "graded columns": M.graded_columns(400, P, 1e14),
    "graded rows": M.graded_rows(400, P, 1e14),
    "tiny": 1e-60 * M.prescribed(400, M.geometric(P, 1e8)),
    "huge": 1e60 * M.prescribed(400, M.geometric(P, 1e8)),
    "lauchli 1e-5": M.lauchli(P, 1e-5),
    "lauchli 1e-12": M.lauchli(P, 1e-12),
    "kahan": M.kahan(P, 0.5),
    "one row": M.prescribed(1, np.ones(P)),
    "S = 5 < P": M.prescribed(5, M.geometric(P, 1e8)),
    "S = P": M.prescribed(P, M.geometric(P, 1e8)),
    "S = 403, padded everywhere": M.prescribed(403, M.geometric(P, 1e8)),
}  # fmt: skip


@cache
def compiled(devices: int, blocks: int, equations: int = 1):
    """points -> (R, spectrum) by the real TSQR; compiled once for each number of points."""
    mesh, ones = make_mesh(devices), np.ones((equations, P))
    residual, _ = M.linear_system(ones, np.ones(equations), mesh, blocks, equations)
    tsqr = TSQR()

    def both(points):
        rows = residual.rows(jnp.zeros(P), points)
        spectrum, _ = tsqr(rows, M.everything, ())
        return tsqr.reduce(rows), spectrum

    return jax.jit(both)


def factorize(a, b, devices, blocks, equations=1):
    _, points = M.linear_system(a, b, make_mesh(devices), blocks, equations)
    r, spectrum = compiled(devices, blocks, equations)(points)
    return np.asarray(r), jax.tree.map(np.asarray, spectrum)


def right_side(a, seed=1):
    """b with parts along every left singular vector, and outside the range."""
    b = np.random.default_rng(seed).standard_normal(len(a))
    return b * max(np.abs(a).max(), 1e-300)


def distance_to_orthogonal(a, s, vt) -> float:
    """‖A - V Δ Uᵀ‖_F for an orthonormal V: that of the QR of AU, whose R is Δ without error.

    A V for which the difference is small is exhibited, so this bounds the backward error.
    """
    k = min(a.shape)
    _, r = M.householder(a.astype(Long) @ np.asarray(vt, Long).T)
    return float(np.linalg.norm((r - np.diag(np.asarray(s, Long))[:k]).astype(np.float64)))


def padded(a):
    """At least as many rows as columns, by rows of zeros."""
    return np.concatenate([a, np.zeros((max(0, a.shape[1] - len(a)), *a.shape[1:]))])


@pytest.mark.parametrize("devices, blocks", LAYOUTS)
@pytest.mark.parametrize("name", MATRICES)
def test_backward_error_and_singular_values(name, devices, blocks):
    a = MATRICES[name]
    b = right_side(a)
    r, spectrum = factorize(a, b, devices, blocks)
    u, s, _ = M.svd(padded(a))
    norm = float(s[0])

    rows = np.column_stack([a, b])
    z, rs, _ = M.svd(r.T)  # of the transpose: its left vectors are orthonormal whatever the rank
    assert distance_to_orthogonal(rows, rs, z.T) <= BACKWARD * np.linalg.norm(rows)

    vt = np.asarray(spectrum.vt)
    assert np.linalg.norm(vt @ vt.T - np.eye(P)) <= BACKWARD
    assert distance_to_orthogonal(a, spectrum.s, vt) <= BACKWARD * norm
    assert np.all(np.diff(spectrum.s) <= 0)
    assert np.max(np.abs(np.asarray(spectrum.s) - s.astype(np.float64))) <= SINGULAR * norm

    # Aᵀb = Û Δ̂ c, and the parts of b add up: c and outside belong to the same factorization.
    gradient = vt.T @ (np.asarray(spectrum.s) * np.asarray(spectrum.c))
    assert np.linalg.norm(gradient - a.T @ b) <= BACKWARD * norm * np.linalg.norm(b)
    assert np.hypot(np.linalg.norm(spectrum.c), float(spectrum.outside)) == pytest.approx(
        np.linalg.norm(b), rel=BACKWARD
    )


@pytest.mark.parametrize("condition", [1.0, 1e4, 1e8, 1e12])
@pytest.mark.parametrize("devices", [1, 8])
def test_prescribed_singular_values_are_found(condition, devices):
    prescribed = M.geometric(P, condition)
    a = M.prescribed(400, prescribed)
    _, spectrum = factorize(a, right_side(a), devices, 1)
    assert np.max(np.abs(np.asarray(spectrum.s) - prescribed)) <= SINGULAR


def rce_by_definition(a, b) -> np.ndarray:
    """RCE_n = ‖b - Σ_{i<=n} uᵢ uᵢᵀ b‖, n = 0..P, from the SVD of A in long double."""
    u, s, _ = M.svd(padded(a))
    left = np.concatenate([b, np.zeros(len(u) - len(b))]).astype(Long)
    out = [np.sqrt(left @ left)]
    for i in range(a.shape[1]):
        if s[i] > 0:
            left = left - u[:, i] * (u[:, i] @ left)
        out.append(np.sqrt(left @ left))
    return np.asarray(out, np.float64), s.astype(np.float64)


@pytest.mark.parametrize("devices, blocks", [(1, 1), (2, 3), (8, 4)])
@pytest.mark.parametrize("name", [n for n in MATRICES if n != "zero"])
def test_rce_is_its_definition(name, devices, blocks):
    """A backward error E turns the space of the n leading left vectors by at most
    ‖E‖/(s_n - s_{n+1}) (Wedin), and RCE_n moves by that times ‖b‖; without a gap RCE_n is not
    determined."""
    a = MATRICES[name]
    b = right_side(a)
    _, spectrum = factorize(a, b, devices, blocks)
    rce, (expected, s) = np.asarray(spectrum.rce()), rce_by_definition(a, b)
    gap = s - np.append(s[1:], 0.0)
    bound = np.append(BACKWARD, np.minimum(BACKWARD * s[0] / np.maximum(gap, 1e-300), 1.0))
    assert np.all(np.abs(rce - expected) <= bound * np.linalg.norm(b))
    assert np.all(np.diff(rce) <= 0)
    assert bound[1] < 1e-6 or "lauchli" not in name, "the bound must say something"


@pytest.mark.parametrize("devices", [1, 8])
def test_a_small_rce_is_resolved(devices):
    """b = A y + 1e-13 w, w outside the range; ‖b‖² - Σ cᵢ² would be good to 1e-16, or RCE 1e-8."""
    s = np.linspace(2.0, 1.0, P)
    basis = M.orthonormal(400, P + 1, np.random.default_rng(3))
    a = ((basis[:, :P] * s) @ M.orthonormal(P, P, np.random.default_rng(4)).T).astype(np.float64)
    c = 10.0 ** -np.linspace(0, 12, P)
    b = (basis @ np.append(c, 1e-13)).astype(np.float64)
    _, spectrum = factorize(a, b, devices, 1)
    rce, (expected, _) = np.asarray(spectrum.rce()), rce_by_definition(a, b)
    assert expected[-1] < 2e-13
    # In every entry: 10 eps over the least gap, which is 1/15.
    assert np.max(np.abs(rce - expected)) < 150 * EPS


@pytest.mark.parametrize("devices, blocks", LAYOUTS)
def test_result_does_not_depend_on_the_layout(devices, blocks):
    """Condition 1e4 without outside part: s, RCE and the least-squares direction of one device."""
    a = M.prescribed(403, M.geometric(P, 1e4))
    y = np.random.default_rng(5).standard_normal(P)
    _, one = factorize(a, a @ y, 1, 1)
    _, spectrum = factorize(a, a @ y, devices, blocks)
    assert np.max(np.abs(spectrum.s - one.s)) <= SINGULAR
    direction = spectrum.direction(jnp.ones(P))
    # b = A y, so the sensitivity is the condition number itself: eps / rcond.
    assert np.linalg.norm(direction - y) <= BACKWARD * 1e4 * np.linalg.norm(y)


def test_every_device_holds_the_same_bits():
    a = MATRICES["condition 1e+16"]
    _, points = M.linear_system(a, right_side(a), make_mesh(8), 4)
    out = compiled(8, 4)(points)
    for leaf in jax.tree.leaves(out):
        shards = [np.asarray(s.data) for s in leaf.addressable_shards]
        assert len(shards) == 8
        assert all(s.tobytes() == shards[0].tobytes() for s in shards)


@pytest.mark.parametrize("equations", [2, 4])
def test_several_equations_a_point(equations):
    a = MATRICES["condition 1e+08"]
    b = right_side(a)
    _, together = factorize(a, b, 3, 2, equations)
    _, alone = factorize(a, b, 1, 1)
    assert np.max(np.abs(together.s - alone.s)) <= SINGULAR


def test_gram_loses_what_qr_keeps():
    """Läuchli: for μ² < eps the Gram matrix is that of rank 1; QR has μ to all its digits."""
    mu = 1e-9
    a = M.lauchli(P, mu)
    residual, points = M.linear_system(a, np.zeros(P + 1), make_mesh(1))
    gram, _ = residual.rows(jnp.zeros(P), points).normal_equations()
    _, spectrum = factorize(a, np.zeros(P + 1), 1, 1)
    by_gram = np.sqrt(np.abs(np.linalg.eigvalsh(gram)))[-2::-1]
    assert np.max(np.abs(spectrum.s[1:] / mu - 1)) < 1e-6  # eps √P / μ
    assert np.max(np.abs(by_gram / mu - 1)) > 0.1


@pytest.mark.parametrize("rows", [1, 3, 7, 40])
def test_triangle_is_upper_and_square(rows):
    a = np.random.default_rng(0).standard_normal((rows, 7))
    r = np.asarray(triangle(jnp.asarray(a)))
    assert r.shape == (7, 7) and np.array_equal(r, np.triu(r))
    assert np.linalg.norm(r.T @ r - a.T @ a) <= BACKWARD * np.linalg.norm(a) ** 2


def test_non_finite_rows_are_not_hidden():
    a = M.prescribed(40, np.ones(P))
    a[7, 3] = np.nan
    spectrum = spectrum_of_triangle(triangle(jnp.asarray(np.column_stack([a, a[:, 0]]))))
    assert not np.all(np.isfinite(spectrum.s))


@pytest.mark.slow
def test_memory_is_one_row_block_whatever_s():
    """Ten times the points in ten times the row blocks: temporaries grow by less than these."""

    def temporaries(count):
        memory = Memory(row_block=256, chunk=64)
        points = {"interior": count, "boundary": count}
        run = stage(network=MLP([16]), points=points, memory=memory)

        def reduce(theta, points):
            return TSQR().reduce(run.residual.rows(theta, points))

        compiled = jax.jit(reduce).lower(run.model.theta0, run.points()).compile()
        return run, compiled.memory_analysis().temp_size_in_bytes

    run, small = temporaries(512)
    more, large = temporaries(5120)
    assert more.residual.blocks == 10 * run.residual.blocks
    whole = 8 * more.size * (more.model.p + 1)
    points = 8 * more.size * 3
    assert large - small <= 2 * points < whole / 10
