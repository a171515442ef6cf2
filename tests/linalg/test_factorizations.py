"""Every factorization against 80-bit oracles, at every shape, on 1 to 8 devices."""

from __future__ import annotations

from functools import cache

import jax
import jax.numpy as jnp
import matrices as M
import numpy as np
import pytest
from matrices import EPS, Long

from distgram.linalg.butterfly import orthonormal, triangle
from distgram.linalg.dual import Dual
from distgram.linalg.gram import Gram
from distgram.linalg.mesh import make_mesh
from distgram.linalg.randomized import Randomized
from distgram.linalg.spectrum import Determined, hard_cutoff
from distgram.linalg.tsqr import TSQR

# As in test_tsqr: the bound of the theory, and what LAPACK reaches.
BACKWARD, SINGULAR = 100 * EPS, 10 * EPS
TOLERANCE = 1e-9  # asked of Randomized: ‖E‖ over the least singular value in use

DEVICES = [1, 3, 8]
SHAPES = [(600, 12), (120, 12), (12, 12), (12, 120), (12, 600)]  # S/P from 50 to 1/50
# All but the one at which a dense factorization is a large square of mostly zeros.
CASES = [
    (name, *shape)
    for name, worst in (("tsqr", (12, 600)), ("dual", (600, 12)), ("randomized", None))
    for shape in SHAPES
    if shape != worst
]
CONDITIONS = [1.0, 1e4, 1e8, 1e12, 1e16]
CUTOFFS = [1e-3, 1e-6, 1e-9, 1e-12]
K = 12  # min(S, P) in every shape


def make(name, n, p):
    dense = TSQR() if n >= p else Dual()
    return {
        "tsqr": TSQR(),
        "dual": Dual(),
        "gram": Gram(),
        "randomized": Randomized(widths=(6,), dense=dense),
    }[name]


@cache
def matrix(n, p, condition):
    """(A, b, left vectors, s, right vectors) with the SVD of A in long double."""
    s = M.geometric(K, condition)
    a = M.prescribed(n, s) if n >= p else M.prescribed(p, s).T.copy()
    b = np.random.default_rng(1).standard_normal(n)
    if n >= p:
        u, sigma, vt = M.svd(a)
    else:
        v, sigma, ut = M.svd(a.T)
        u, vt = ut.T, v.T
    return a, b, u, sigma, vt


@cache
def compiled(name, devices, n, p, blocks=1):
    """(points, α, warm state) -> (spectrum, rank, direction, state): one compilation a shape."""
    mesh = make_mesh(devices)
    residual, points = M.linear_system(np.ones((n, p)), np.ones(n), mesh, blocks)
    factorization = make(name, n, p)

    def run(points, alpha, state):
        def needs(spectrum):
            rank = jnp.sum(spectrum.s >= alpha)
            enough = (spectrum.beyond(rank) < alpha) | (spectrum.left_out == 0)
            return Determined(enough, rank, TOLERANCE)

        spectrum, state = factorization(residual.rows(jnp.zeros(p), points), needs, state)
        rank = needs(spectrum).rank
        return spectrum, rank, spectrum.direction(hard_cutoff(spectrum, rank)), state

    return jax.jit(run), factorization.init(residual.rows(jnp.zeros(p), points))


def factorize(name, devices, a, b, alpha, blocks=1):
    n, p = a.shape
    run, state = compiled(name, devices, n, p, blocks)
    _, points = M.linear_system(a, b, make_mesh(devices), blocks)
    return jax.tree.map(np.asarray, run(points, alpha, state))


def check_direction(name, a, b, u, sigma, vt, alpha, rank, direction):
    """‖A_r† - Ã_r†‖ <= 3 ‖E‖ / (s_r (s_r - s_{r+1})) for a backward error E (Wedin), times ‖b‖."""
    kept = int(np.sum(sigma >= alpha))
    assert rank == kept
    exact = vt[:kept].T @ ((u[:, :kept].T @ b.astype(Long)) / sigma[:kept])
    if kept < K:
        gap = float(sigma[kept - 1] - sigma[kept])
    else:
        gap = float(sigma[-1])
    error = BACKWARD * float(sigma[0])
    if name == "randomized":
        error = max(error, TOLERANCE * float(sigma[kept - 1]))
    bound = 3 * error / (float(sigma[kept - 1]) * gap) * np.linalg.norm(b)
    distance = float(np.linalg.norm((direction - exact).astype(float)))
    assert distance <= bound
    if name == "randomized" and alpha == 1e-6:
        assert distance <= 1e-8 * float(np.linalg.norm(exact))


@pytest.mark.slow
@pytest.mark.parametrize("devices", DEVICES)
@pytest.mark.parametrize("name, n, p", CASES)
def test_accuracy(name, n, p, devices):
    for condition in CONDITIONS:
        a, b, u, sigma, vt = matrix(n, p, condition)
        for i, alpha in enumerate(CUTOFFS):
            # Not on a singular value: between two, as a rule's cutoff is with probability one.
            alpha *= 1.0 if np.min(np.abs(sigma / alpha - 1)) > 1e-3 else 1.2
            if name == "randomized" or i == 0:  # the others do not look at it
                spectrum, *_ = factorize(name, devices, a, b, alpha)
            rank = int(np.sum(spectrum.s >= alpha))
            direction = np.asarray(spectrum.direction(hard_cutoff(spectrum, rank)))
            check_direction(name, a, b, u, sigma, vt, alpha, rank, direction)
            kept = rank if name == "randomized" else K
            found, v = spectrum.s[:kept], spectrum.vt[:kept]
            least = TOLERANCE * found[-1] if name == "randomized" else 0.0
            # A singular value is within the backward error, and within its square over a gap.
            bound = max(SINGULAR * sigma[0], least)
            assert np.max(np.abs(found - sigma[:kept])) <= bound
            assert np.linalg.norm(v @ v.T - np.eye(kept)) <= BACKWARD
            if name != "randomized":
                assert backward_error(a, found, v) <= BACKWARD * sigma[0]
                total = np.hypot(np.linalg.norm(spectrum.c), spectrum.outside)
                assert total == pytest.approx(np.linalg.norm(b), rel=BACKWARD)
            # RCE_0 is the norm of the residual, whatever is left out.
            assert spectrum.rce()[0] == pytest.approx(np.linalg.norm(b), rel=BACKWARD)


def backward_error(a, s, vt) -> float:
    """‖A - V̂ Δ̂ Ûᵀ‖ for the best orthonormal V̂, and what of A lies outside the right vectors."""
    along = a.astype(Long) @ vt.astype(Long).T
    _, r = M.householder(along)
    outside = a - along @ vt
    return float(np.linalg.norm((r - np.diag(s)).astype(float)) + np.linalg.norm(outside))


@pytest.mark.parametrize("devices", [2, 3, 5, 8])
@pytest.mark.parametrize("name, n, p", [("tsqr", 120, 12), ("dual", 12, 120), ("gram", 120, 12)])
def test_every_device_holds_the_same_bits(name, n, p, devices):
    a, b, *_ = matrix(n, p, 1e16)
    run, state = compiled(name, devices, n, p)
    _, points = M.linear_system(a, b, make_mesh(devices))
    spectrum, _, direction, _ = run(points, 1e-6, state)
    for leaf in (spectrum.s, spectrum.c, spectrum.outside, direction):
        shards = [np.asarray(s.data) for s in leaf.addressable_shards]
        whole = [s for s in shards if s.shape == leaf.shape]
        assert all(s.tobytes() == whole[0].tobytes() for s in whole)
    assert len(spectrum.s.addressable_shards) == devices


@pytest.mark.slow
@pytest.mark.parametrize("name, n, p", [("tsqr", 120, 12), ("dual", 12, 120)])
def test_row_blocks_change_rounding_only(name, n, p):
    a, b, u, sigma, vt = matrix(n, p, 1e8)
    spectrum, rank, direction, _ = factorize(name, 3, a, b, 1e-6, blocks=4)
    check_direction(name, a, b, u, sigma, vt, 1e-6, rank, direction)
    assert np.max(np.abs(spectrum.s[:K] - sigma)) <= SINGULAR


@pytest.mark.parametrize("devices", [1, 2, 3, 5, 6, 7, 8])
@pytest.mark.parametrize("rows", [2, 9])
def test_orthonormal_columns_over_devices(devices, rows):
    """A = Q R and QᵀQ = I, with fewer and with more rows per device than columns."""
    a = np.random.default_rng(0).standard_normal((devices * rows, 4))
    residual, points = M.linear_system(a, a[:, 0], make_mesh(devices))
    on_matrix = residual.rows(jnp.zeros(4), points).on_matrix
    q, r = jax.jit(on_matrix(orthonormal))(jnp.asarray(a))
    assert np.linalg.norm(q @ r - a) <= BACKWARD * np.linalg.norm(a)
    assert np.array_equal(r, np.triu(r))
    if devices * rows >= 4:
        assert np.linalg.norm(q.T @ q - np.eye(4)) <= BACKWARD


def test_rows_that_run_out_before_the_columns_underflow_to_zeros():
    """The triangles of 6 rows each, of 600 columns: a column is rounding of rounding to 1e-308."""
    a = matrix(12, 600, 1e4)[0]
    both = jnp.concatenate([triangle(jnp.asarray(half)) for half in (a[:6], a[6:])])
    assert both.shape == (1200, 600)
    r = np.asarray(triangle(both))
    assert np.all(np.isfinite(r))
    assert np.linalg.norm(r.T @ r - a.T @ a) <= BACKWARD * np.linalg.norm(a) ** 2


@pytest.mark.parametrize("name, n, p", [("dual", 12, 120), ("randomized", 120, 12)])
def test_non_finite_rows_are_not_hidden(name, n, p):
    a, b, *_ = matrix(n, p, 1e4)
    run, state = compiled(name, 2, n, p)
    _, (points,) = M.linear_system(a, b, make_mesh(2))
    x = np.array(points.x)
    x[3, 2] = np.nan
    spectrum, *_ = run((points._replace(x=jnp.asarray(x)),), 1e-6, state)
    assert not np.all(np.isfinite(spectrum.s))


def test_gram_loses_half_the_digits_and_keeps_the_others():
    """An eigenvalue of AᵀA is known to eps s₁²: s to eps s₁²/s, which is s itself at √eps."""
    a, b, _, sigma, _ = matrix(120, 12, 1e16)
    sigma = sigma.astype(float)
    spectrum, *_ = factorize("gram", 2, a, b, 1e-6)
    error = np.abs(spectrum.s - sigma)
    large = sigma > 10 * np.sqrt(EPS)
    assert np.all(error[large] <= BACKWARD / sigma[large])
    assert np.max(error) > 1e-10, "QR has all of them within 10 eps"
