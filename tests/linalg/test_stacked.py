"""A triangle above another one, and Tikhonov's step from a triangle, against 80-bit products."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import matrices as M
import numpy as np
import pytest
from matrices import EPS

from distgram.linalg.butterfly import triangle
from distgram.linalg.spectrum import FLOOR_FACTOR
from distgram.linalg.stacked import PANELS, stacked
from distgram.linalg.tsqr import Triangle, completed, spectrum_of_triangle

P, N = 30, 90
LONG = np.longdouble


def gram(*parts):
    return sum(np.asarray(a, LONG).T @ np.asarray(a, LONG) for a in parts)


@pytest.mark.parametrize("p", [1, PANELS - 1, PANELS, PANELS + 1, P])
@pytest.mark.parametrize("more", [0, 1, 3])
def test_two_triangles_become_one(p, more):
    rng = np.random.default_rng(p)
    top, bottom = (
        np.triu(rng.standard_normal((p, p + more)) * 10.0 ** -rng.uniform(0, 12, p)[:, None])
        for _ in range(2)
    )
    r = np.asarray(jax.jit(stacked)(top, bottom))
    assert r.shape == (p, p + more) and not np.tril(r[:, :p], -1).any()
    own, exact = gram(r), gram(top, bottom)
    size = np.sqrt(np.diag(exact))
    # The columns that are only multiplied lose what is orthogonal to the others.
    error = np.abs(own - exact)[:p] / np.outer(size[:p], size)
    assert np.max(error, initial=0) <= 20 * EPS * np.sqrt(p)


def system(condition):
    a = M.prescribed(N, M.geometric(P, condition))
    rng = np.random.default_rng(5)
    r = a @ rng.standard_normal(P) + 1e-3 * rng.standard_normal(N)
    return a, r, triangle(jnp.asarray(np.column_stack([a, r])))


@pytest.mark.parametrize("root", [1.0, 1e-4, 1e-8, 1e-14])
@pytest.mark.parametrize("condition", [1e3, 1e16])
def test_a_step_from_the_triangle_is_the_minimiser(condition, root):
    """The gradient  φ̂ᵀ(r - φ̂d) - λd  vanishes to a backward error of 100 eps of [φ̂; √λ]."""
    a, r, triangular = system(condition)
    lam = root**2
    found = jax.jit(lambda t, x: Triangle(t).regularized(x)[:2])(triangular, lam)
    d, predicted = (np.asarray(x, LONG) for x in found)
    left = np.asarray(r, LONG) - np.asarray(a, LONG) @ d
    gradient = np.asarray(a, LONG).T @ left - LONG(lam) * d
    size, length = np.hypot(np.linalg.norm(a, 2), root), float(np.linalg.norm(d))
    bound = 100 * EPS * size * (float(np.linalg.norm(left)) + root * length + size * length)
    assert float(np.linalg.norm(gradient)) <= bound
    decrease = float(np.sum(np.asarray(r, LONG) ** 2) - np.sum(left**2))
    assert float(predicted) == pytest.approx(decrease, rel=1e-6 if root < 1e-6 else 1e-11)


def test_its_inverse_loss_and_floor_are_those_of_the_spectrum():
    a, r, triangular = system(1e3)
    model, spectrum, lam = Triangle(triangular), spectrum_of_triangle(triangular), jnp.asarray(1e-3)
    g, theta = np.random.default_rng(1).standard_normal((2, P))
    inverse = np.linalg.solve(a.T @ a + 1e-3 * np.eye(P), g)
    for each in (model, spectrum):
        found = np.asarray(each.regularized(lam).inverse(jnp.asarray(g)))
        assert np.linalg.norm(found - inverse) <= 1e4 * EPS * np.linalg.norm(inverse)
        assert float(each.loss()) == pytest.approx(np.sum(r**2), rel=1e-13)
        rounding = np.sqrt(float(each.floor(jnp.asarray(theta))) / FLOOR_FACTOR)
        assert rounding == pytest.approx(EPS / np.sqrt(12) * np.linalg.norm(a * theta), rel=1e-11)


def test_a_summary_is_completed_by_the_spectrum():
    _, _, triangular = system(1e8)
    theta = jnp.ones(P)
    seen, whole = Triangle(triangular).summary(theta), spectrum_of_triangle(triangular)
    assert seen.singular_values.size == 0 and seen.triangle is not None
    for own, other in zip(completed(seen.triangle), whole.summary(theta)[:2], strict=True):
        assert np.array_equal(own, other)
