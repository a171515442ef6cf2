"""The spectrum's formulas against dense linear algebra on small matrices."""

from __future__ import annotations

import jax.numpy as jnp
import matrices as M
import numpy as np
import pytest
from matrices import EPS

from distgram.linalg.butterfly import triangle
from distgram.linalg.spectrum import FLOOR_FACTOR, Spectrum, hard_cutoff, tikhonov
from distgram.linalg.tsqr import spectrum_of_triangle

N, P = 60, 12
CONDITION = 1e4
A = M.prescribed(N, M.geometric(P, CONDITION))
B = np.random.default_rng(7).standard_normal(N)
S = np.linalg.svd(A, compute_uv=False)

# Perturbation of a least-squares solution by a backward error of 100 eps: condition² where b has a
# part outside the range (Björck 1996, theorem 1.4.6), here CONDITION² = 1e8 at the worst.
WORST = 100 * EPS * CONDITION**2


def spectrum_of(a, b) -> Spectrum:
    return spectrum_of_triangle(triangle(jnp.asarray(np.column_stack([a, b]))))


SPECTRUM = spectrum_of(A, B)


def test_full_direction_is_least_squares():
    expected = np.linalg.lstsq(A, B)[0]
    d = SPECTRUM.direction(jnp.ones(P))
    assert np.linalg.norm(d - expected) <= WORST * np.linalg.norm(expected)


@pytest.mark.parametrize("rank", [0, 1, 5, P])
def test_hard_cutoff_is_the_truncated_pseudoinverse(rank):
    factors = hard_cutoff(SPECTRUM, jnp.asarray(rank))
    assert np.array_equal(factors, [1.0] * rank + [0.0] * (P - rank))
    u, s, vt = np.linalg.svd(A, full_matrices=False)
    expected = vt[:rank].T @ ((u.T @ B)[:rank] / s[:rank])
    d = np.asarray(SPECTRUM.direction(factors))
    assert np.linalg.norm(d - expected) <= WORST * np.linalg.norm(expected)


@pytest.mark.parametrize("lam", [1e-10, 1e-4, 1.0, 1e3])
def test_tikhonov_minimizes_the_regularized_square(lam):
    """min ‖Ad - b‖² + λ‖d‖²  is the least-squares problem of [A; √λ I]."""
    stacked = np.concatenate([A, np.sqrt(lam) * np.eye(P)])
    expected = np.linalg.lstsq(stacked, np.append(B, np.zeros(P)))[0]
    d = np.asarray(SPECTRUM.direction(tikhonov(SPECTRUM, jnp.asarray(lam))))
    assert np.linalg.norm(d - expected) <= WORST * np.linalg.norm(expected)


def test_several_filters_at_once():
    lams = jnp.asarray([1e-6, 1e-2, 10.0])
    factors = tikhonov(SPECTRUM, lams)
    together = SPECTRUM.direction(factors)
    assert factors.shape == together.shape == (3, P)
    for lam, factor, d in zip(lams, factors, together, strict=True):
        assert np.array_equal(factor, tikhonov(SPECTRUM, lam))
        assert np.allclose(d, SPECTRUM.direction(factor), rtol=100 * EPS, atol=100 * EPS)


def test_rce_of_a_right_angled_residual():
    spectrum = Spectrum(
        s=jnp.asarray([2.0, 1.0]),
        vt=jnp.eye(2),
        c=jnp.asarray([12.0, 4.0]),
        outside=jnp.asarray(3.0),
    )
    assert np.array_equal(spectrum.rce(), [13.0, 5.0, 3.0])


def test_rce_falls_from_the_residual_to_its_part_outside():
    rce = np.asarray(SPECTRUM.rce())
    assert rce.shape == (P + 1,)
    assert np.all(np.diff(rce) <= 0)
    assert rce[0] == pytest.approx(np.linalg.norm(B), rel=100 * EPS)
    left = B - A @ np.linalg.lstsq(A, B)[0]
    assert rce[-1] == pytest.approx(np.linalg.norm(left), rel=100 * EPS * CONDITION)
    assert rce[-1] == SPECTRUM.outside


def test_rce_does_not_cancel():
    """A tail of 1e-12 beside a head of 1: ‖r‖² - Σ cᵢ² would give 0 or 1e-8."""
    c = jnp.asarray([1.0, 1e-12])
    spectrum = Spectrum(jnp.ones(2), jnp.eye(2), c, jnp.asarray(1e-15))
    assert spectrum.rce()[1] == pytest.approx(np.hypot(1e-12, 1e-15), rel=4 * EPS)
    assert spectrum.rce()[2] == 1e-15


def test_a_rank_deficient_spectrum_gives_finite_directions():
    a = np.zeros((N, P))
    a[:, :3] = A[:, :3]
    spectrum = spectrum_of(a, B)
    assert np.sum(spectrum.s == 0) == P - 3
    for factors in (jnp.ones(P), tikhonov(spectrum, jnp.asarray(1e-300))):
        d = np.asarray(spectrum.direction(factors))
        assert np.all(np.isfinite(d))
        assert np.max(np.abs(d[3:])) <= 100 * EPS * np.linalg.norm(d)


def test_zero_residual_gives_zero():
    spectrum = spectrum_of(A, np.zeros(N))
    assert np.array_equal(spectrum.rce(), np.zeros(P + 1))
    assert np.array_equal(spectrum.direction(jnp.ones(P)), np.zeros(P))


def test_parameter_rounding_is_the_residual_of_rounded_parameters():
    """Relative errors uniform in ±eps/2, drawn: the rms of ‖A (θ u)‖, and its closed form."""
    rng = np.random.default_rng(11)
    theta = rng.standard_normal(P)
    expected = EPS / np.sqrt(12) * np.linalg.norm(A * theta)
    found = float(jnp.sqrt(SPECTRUM.floor(jnp.asarray(theta)) / FLOOR_FACTOR))
    assert found == pytest.approx(expected, rel=1e-10)
    draws = A @ (theta[:, None] * rng.uniform(-EPS / 2, EPS / 2, (P, 20_000)))
    rms = np.sqrt(np.mean(np.sum(draws**2, axis=0)))
    assert found == pytest.approx(rms, rel=0.03)  # 1/√20000, times 4
