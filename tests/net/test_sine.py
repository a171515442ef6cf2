"""The sine and cosine of the networks against 80-bit ones, and their derivatives."""

from __future__ import annotations

import folx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matrices import EPS, Long

from distgram.net.sine import cosine, sine

FUNCTIONS = [(sine, np.sin), (cosine, np.cos)]


@pytest.mark.parametrize("ours, exact", FUNCTIONS)
def test_the_absolute_error_is_below_4e_16(ours, exact):
    rng = np.random.default_rng(0)
    quarters = np.arange(-2000, 2001) * (np.pi / 4)  # where the reduction changes its k
    near = (quarters[:, None] * (1 + EPS * np.arange(-2, 3))).ravel()
    wide = rng.choice([-1, 1], 20_000) * 10 ** rng.uniform(-10, 5, 20_000)
    for x in (near, wide, rng.uniform(-10, 10, 20_000), np.array([0.0, -0.0, 1e5, -1e5])):
        error = np.abs(np.asarray(ours(x)).astype(Long) - exact(x.astype(Long)))
        assert np.max(error) < 4e-16


@pytest.mark.parametrize("ours, exact", FUNCTIONS)
def test_beyond_the_error_is_that_of_rounding_x(ours, exact):
    x = np.logspace(5, 16, 10_000)
    values = np.asarray(ours(x))
    assert np.all(np.abs(values - exact(x.astype(Long))) <= 4e-16 + EPS * x)
    assert np.all(np.abs(ours(np.logspace(16, 308, 1000))) <= 1)
    assert np.all(np.isnan(ours(np.array([np.inf, -np.inf, np.nan]))))


def test_the_derivatives_are_those_of_sine_and_cosine():
    x = np.linspace(-7.0, 7.0, 29)
    expected = [np.sin(x), np.cos(x), -np.sin(x), -np.cos(x)] * 2
    f, g = sine, cosine
    for order in range(4):
        assert np.max(np.abs(jax.vmap(f)(x) - expected[order])) < 5e-16  # NumPy's own: 1e-16
        assert np.max(np.abs(jax.vmap(g)(x) - expected[order + 1])) < 5e-16
        f, g = jax.grad(f), jax.grad(g)


def test_the_forward_laplacian_is_the_trace_of_the_hessian():
    weights = jnp.asarray(np.random.default_rng(1).standard_normal((5, 3)))

    def u(x):
        return jnp.sum(sine(weights @ x) * cosine(x[0]))

    x = jnp.asarray([0.3, -1.2, 2.0])
    forward = folx.forward_laplacian(u)(x)
    # Some hundred roundings of products of size ten.
    assert float(forward.laplacian) == pytest.approx(float(jnp.trace(jax.hessian(u)(x))), abs=1e-12)
    assert np.allclose(forward.jacobian.dense_array, jax.grad(u)(x), rtol=0, atol=1e-13)


def test_no_slower_function_hides_in_it():
    """Nothing of XLA's own: a condition would always compute it once it is mapped over points."""
    for ours in (sine, cosine):
        text = str(jax.make_jaxpr(jax.vmap(jax.grad(ours)))(jnp.ones(3)))
        assert "= sin " not in text and "= cos " not in text and "cond" not in text
