"""The randomized factorization: its bound, its widths, its warm start."""

from __future__ import annotations

from functools import cache

import jax
import jax.numpy as jnp
import matrices as M
import numpy as np
import pytest
from matrices import EPS

from distgram.linalg.mesh import make_mesh
from distgram.linalg.randomized import Randomized
from distgram.linalg.tsqr import TSQR
from distgram.rules.anagram import ANaGRAM

SINGULAR = 10 * EPS  # of a dense factorization, as in test_tsqr


def decaying(n, p, decay, seed):
    """Singular values decay^i: those beyond what is wanted are neither zero nor negligible."""
    k = min(n, p)
    rng = np.random.default_rng(seed)
    u, v = (
        np.linalg.qr(rng.standard_normal((n, k)))[0],
        np.linalg.qr(rng.standard_normal((p, k)))[0],
    )
    return (u * decay ** np.arange(k)) @ v.T


@cache
def search(alpha):
    """points, warm state -> (spectrum, warm state), for 120 x 80 matrices, widths 8, 16, 32."""
    residual, points = M.linear_system(np.ones((120, 80)), np.ones(120), make_mesh(2))
    factorization = Randomized(widths=(8, 16, 32), dense=TSQR())
    rule = ANaGRAM(cutoff=alpha)

    def run(points, state):
        theta = jnp.zeros(80)
        needs = lambda spectrum: rule.needs(spectrum, theta, ())  # noqa: E731
        return factorization(residual.rows(theta, points), needs, state)

    return jax.jit(run), factorization.init(residual.rows(jnp.zeros(80), points))


def points_of(a):
    b = np.random.default_rng(9).standard_normal(len(a))
    return M.linear_system(a, b, make_mesh(2))[1]


@pytest.mark.slow
def test_the_bound_on_what_is_left_out_holds():
    """‖A - Q QᵀA‖ >= s_{w+1} always; the bound may fail once in 2e7 draws."""
    run, state = search(1e-3)
    for seed in range(20):
        a = decaying(120, 80, 0.4, seed)
        spectrum, _ = run(
            points_of(a), state._replace(key=jax.random.key_data(jax.random.key(seed)))
        )
        width = int(np.sum(np.asarray(spectrum.s) > 0))
        assert width in (8, 16)
        assert 0.4**width <= float(spectrum.left_out) < 1e-3


def test_the_width_follows_the_rank():
    """0.4^i >= 1e-3 for i < 8, and the ninth must be below: 16 directions. 0.9^i: all 80."""
    run, state = search(1e-3)
    spectrum, warm = run(points_of(decaying(120, 80, 0.4, 0)), state)
    assert int(np.sum(np.asarray(spectrum.s) > 0)) == 16 and int(warm.level) == 1
    spectrum, warm = run(points_of(decaying(120, 80, 0.9, 0)), warm)
    assert float(spectrum.left_out) == 0 and int(warm.level) == 3
    s = np.asarray(spectrum.s)
    assert np.max(np.abs(s - 0.9 ** np.arange(80))) <= SINGULAR
    # Steep again: one level down each step, as long as a quarter of the width is enough.
    levels = []
    for _ in range(4):
        _, warm = run(points_of(decaying(120, 80, 0.1, 0)), warm)
        levels.append(int(warm.level))
    assert levels == [2, 1, 0, 0]


def test_warm_vectors_spare_sweeps():
    run, state = search(1e-3)
    a = decaying(120, 80, 0.4, 0)
    _, cold = run(points_of(a), state)
    nearby = a @ (np.eye(80) + 1e-7 * np.random.default_rng(3).standard_normal((80, 80)))
    _, warm = run(points_of(nearby), cold)
    assert int(warm.sweeps) < int(cold.sweeps)


def test_without_a_dense_one_the_spectrum_says_what_is_missing():
    """Width 8 of 20 singular values 0.5^i: the leading ones are right, the rest is bounded."""
    a = decaying(60, 20, 0.5, 0)
    residual, points = M.linear_system(a, a[:, 0], make_mesh(2))
    for widths, complete in (((4, 8), False), ((4, 20), True)):
        factorization = Randomized(widths=widths)

        def factorize(points, factorization=factorization):
            rows = residual.rows(jnp.zeros(20), points)
            return factorization(rows, M.everything, factorization.init(rows))

        spectrum, _ = jax.jit(factorize)(points)
        assert spectrum.s.shape == (widths[-1],)
        assert np.max(np.abs(np.asarray(spectrum.s)[:4] - 0.5 ** np.arange(4))) < 1e-4
        assert (float(spectrum.left_out) == 0) == complete
        assert complete or float(spectrum.left_out) >= 0.5**8
