"""Operators against nested automatic differentiation of random networks, and closed forms."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distgram.errors import OperatorError
from distgram.pde.operators import (
    along_curve,
    divergence,
    gradient,
    jet2,
    laplacian,
    partial,
    time_derivative,
    value,
    value_gradient_laplacian,
)

# Different orders of summation over 16 to 24 terms of size ~ 1: some tens of eps.
CLOSE = dict(rtol=1e-12, atol=1e-12)
SHAPES = [(1, 1), (2, 3), (3, 3), (5, 2)]
ACTIVATIONS = {"tanh": jnp.tanh, "sin": jnp.sin, "gelu": jax.nn.gelu, "softplus": jax.nn.softplus}


def network(d: int, m: int, activation: str = "tanh"):
    sizes = (d, 24, 16, m)
    rng = np.random.default_rng(10 * d + m)
    theta = [
        rng.standard_normal((a + 1, b)) / np.sqrt(a)
        for a, b in zip(sizes[:-1], sizes[1:], strict=True)
    ]

    def apply(theta, x):
        for layer in theta[:-1]:
            x = ACTIVATIONS[activation](x @ layer[:-1] + layer[-1])
        return x @ theta[-1][:-1] + theta[-1][-1]

    return theta, apply


def field(d: int, m: int, activation: str = "tanh"):
    theta, apply = network(d, m, activation)
    return (lambda x: apply(theta, x)), jnp.asarray(np.random.default_rng(99).standard_normal(d))


def slow(u, x):
    """u, its Jacobian and its Hessian, by nested automatic differentiation."""
    return jax.tree.map(
        np.asarray, jax.jit(lambda x: (u(x), jax.jacrev(u)(x), jax.hessian(u)(x)))(x)
    )


CASES = [(d, m, "tanh") for d, m in SHAPES] + [(2, 3, a) for a in ACTIVATIONS if a != "tanh"]


@pytest.mark.parametrize(("d", "m", "activation"), CASES)
def test_second_order_operators_equal_the_hessian(d, m, activation):
    u, x = field(d, m, activation)
    u0, jacobian, hessian = slow(u, x)
    trace = np.trace(hessian, axis1=1, axis2=2)

    @jax.jit
    def fast(x):
        lines = [(*jet2(u, axis)(x), partial(u, axis, 2)(x)) for axis in (0, d - 1)]
        return laplacian(u)(x), value_gradient_laplacian(u)(x), lines

    delta, together, lines = fast(x)
    np.testing.assert_allclose(delta, trace, **CLOSE)
    for got, expected in zip(together, (u0, jacobian, trace), strict=True):
        np.testing.assert_allclose(got, expected, **CLOSE)
    for axis, line in zip((0, d - 1), lines, strict=True):
        second = hessian[:, axis, axis]
        for got, expected in zip(line, (u0, jacobian[:, axis], second, second), strict=True):
            np.testing.assert_allclose(got, expected, **CLOSE)


@pytest.mark.parametrize(("d", "m"), SHAPES)
def test_first_order_operators_equal_the_jacobian(d, m):
    u, x = field(d, m)
    u0, jacobian, _ = slow(u, x)
    operators = (value, gradient, time_derivative, lambda u: partial(u, d - 1))
    expected = (u0, jacobian.reshape(m * d), jacobian[:, 0], jacobian[:, d - 1])
    if d == m:
        operators += (divergence,)
        expected += (np.trace(jacobian)[None],)
    fast = jax.jit(lambda x: [operator(u)(x) for operator in operators])
    for a, b in zip(fast(x), expected, strict=True):
        np.testing.assert_allclose(a, b, **CLOSE)


def test_the_divergence_of_the_gradient_is_the_laplacian():
    u, x = field(2, 1)
    both = jax.jit(lambda x: (divergence(gradient(u))(x), laplacian(u)(x)))
    np.testing.assert_allclose(*both(x), **CLOSE)


@pytest.mark.parametrize("axes", [(0,), (1, 2), (4, 0), (0, 1, 2, 3, 4)])
def test_laplacian_over_some_axes(axes):
    u, x = field(5, 2)
    _, jacobian, hessian = slow(u, x)
    expected = sum(hessian[:, k, k] for k in axes)
    fast = jax.jit(lambda x: (laplacian(u, axes)(x), value_gradient_laplacian(u, axes)(x)))
    delta, (_, first, second) = fast(x)
    np.testing.assert_allclose(delta, expected, **CLOSE)
    np.testing.assert_allclose(first, jacobian[:, list(axes)], **CLOSE)
    np.testing.assert_allclose(second, expected, **CLOSE)


def test_along_a_curve():
    u, x = field(3, 2)
    v, a = np.array([0.3, -1.2, 0.0]), np.array([-1.0, 0.5, 2.0])
    value_at_x, jacobian, hessian = slow(u, x)
    u0, first, second = jax.jit(along_curve(u, v, a))(x)
    np.testing.assert_allclose(u0, value_at_x, **CLOSE)
    np.testing.assert_allclose(first, jacobian @ v, **CLOSE)
    np.testing.assert_allclose(
        second, np.einsum("mij,i,j->m", hessian, v, v) + jacobian @ a, **CLOSE
    )


def test_high_orders_of_a_monomial():
    """d^k/dx^k of x^4 y is 4!/(4 - k)! x^(4 - k) y, and d^5 is 0."""
    x = jnp.array([0.7, -1.3])
    factors = [1, 4, 12, 24, 24, 0]
    for k, factor in enumerate(factors):
        got = jax.jit(partial(lambda x: x[:1] ** 4 * x[1:], 0, k))(x)
        expected = factor * 0.7 ** max(4 - k, 0) * -1.3
        np.testing.assert_allclose(got, [expected], rtol=1e-14, atol=1e-14)


def test_fields_that_do_not_depend_on_the_point():
    x = jnp.array([0.2, 0.4])
    u0, first, second = value_gradient_laplacian(lambda x: jnp.array([1.0, 2.0, 3.0]))(x)
    np.testing.assert_array_equal(u0, [1.0, 2.0, 3.0])
    np.testing.assert_array_equal(first, np.zeros((3, 2)))
    np.testing.assert_array_equal(second, np.zeros(3))
    np.testing.assert_array_equal(laplacian(lambda x: 3 * x + 1)(x), np.zeros(2))


def test_the_derivative_by_parameters_goes_through():
    """Reverse over the forward pass equals reverse over the Hessian, at several points at once."""
    theta, apply = network(2, 1)
    x = np.random.default_rng(1).standard_normal((6, 2))

    def rows(operator):
        def residual(theta, x):
            return operator(lambda x: apply(theta, x))(x)[0]

        return jax.jit(jax.vmap(jax.grad(residual), (None, 0)))(theta, x)

    def brute_laplacian(u):
        return lambda x: jnp.trace(jax.hessian(u)(x), axis1=1, axis2=2)

    def brute_heat(u):
        return lambda x: 0.25 * jax.hessian(u)(x)[:, 1, 1] - jax.jacrev(u)(x)[:, 0]

    def heat(u):
        return lambda x: along_curve(u, (0.0, 0.5), (-1.0, 0.0))(x)[2]

    for fast, brute in ((laplacian, brute_laplacian), (heat, brute_heat)):
        for a, b in zip(jax.tree.leaves(rows(fast)), jax.tree.leaves(rows(brute)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11)  # sums of 24^2 such terms


def test_errors_name_the_value_and_the_expected():
    u, x = field(2, 1)
    with pytest.raises(OperatorError, match="order=-1: expected order >= 0"):
        partial(u, 0, -1)
    with pytest.raises(OperatorError, match="axis=2: expected 0 <= axis < 2"):
        partial(u, 2)(x)
    with pytest.raises(OperatorError, match="axis=-1: expected 0 <= axis < 2"):
        laplacian(u, (0, -1))(x)
    with pytest.raises(OperatorError, match="1 components at a point of 2 coordinates"):
        divergence(u)(x)
    with pytest.raises(OperatorError, match=r"velocity of shape \(1,\)"):
        along_curve(u, (1.0,), (0.0, 0.0))(x)
