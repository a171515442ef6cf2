"""The correction of a trial step against its definition on a quadratic residual, and Jᵀr at trials
against the dense Jacobian."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from linear_problem import LEAST_SQUARES, RIGHT, SENSITIVITY, THETA, A, P
from residuals import CASES, CLOSE, build, dense

from distgram.linalg.butterfly import triangle
from distgram.linalg.tsqr import Triangle, spectrum_of_triangle
from distgram.rules.adaptive_ratio import AdaptiveRatio

BEND = np.random.default_rng(8).standard_normal(50)
ALONG = np.random.default_rng(9).standard_normal(P)


class Quadratic:
    """r(θ) = Aθ - b + size (u·θ)² q, whose second derivative along d is 2 size (u·d)² q."""

    def __init__(self, size):
        self.size = size

    def residual(self, theta):
        return A @ theta - RIGHT + self.size * (ALONG @ theta) ** 2 * BEND

    def __call__(self, thetas):
        return jnp.sum(jax.vmap(self.residual)(thetas) ** 2, axis=1)

    def pulled_back(self, thetas):
        """At θ = 0, where the Jacobian is A."""
        return jax.vmap(self.residual)(thetas) @ A

    def triangle(self):
        return triangle(jnp.column_stack([jnp.asarray(A), -RIGHT]))


def expected(lam, size):
    """(d, e) by dense least squares:  e = ½ (AᵀA + λ)⁻¹ Aᵀ r_dd."""
    stacked = np.concatenate([A, np.sqrt(lam) * np.eye(P)])

    def solve(right):
        return np.linalg.lstsq(stacked, np.append(right, np.zeros(P)))[0]

    d = solve(-RIGHT)
    return d, solve(size * (ALONG @ d) ** 2 * BEND)


@pytest.mark.parametrize("model", [Triangle, spectrum_of_triangle])
@pytest.mark.parametrize("bound", [1.0, 1e-6, 0.0])
def test_a_step_is_corrected_within_its_bound(bound, model):
    problem = Quadratic(1e-3)
    rule = AdaptiveRatio(acceleration=bound, trials=3)
    theta, state, info = rule.step(model(problem.triangle()), problem, THETA, rule.init(P))
    d, e = expected(float(state.lam), problem.size)
    assert bool(info.accepted) and 1e-6 < 2 * np.linalg.norm(e) / np.linalg.norm(d) < 1
    step = d + e if bound == 1.0 else d
    assert np.linalg.norm(-np.asarray(theta) - step) <= SENSITIVITY * np.linalg.norm(d)
    assert SENSITIVITY * np.linalg.norm(d) < 1e-2 * np.linalg.norm(e)  # or it would say nothing


def test_a_straight_residual_needs_no_correction():
    problem, rule = Quadratic(0.0), AdaptiveRatio(acceleration=1.0, excursion=1.0)
    theta, state = THETA, rule.init(P)
    theta, state, _ = rule.step(Triangle(problem.triangle()), problem, theta, state)
    d, _ = expected(float(state.lam), 0.0)
    assert np.linalg.norm(np.asarray(theta) + d) <= SENSITIVITY * np.linalg.norm(LEAST_SQUARES)


def test_a_trial_that_blows_up_is_not_corrected():
    problem = Quadratic(1e-3)
    problem.pulled_back = lambda thetas: jnp.full((len(thetas), P), jnp.nan)  # type: ignore
    rule = AdaptiveRatio(acceleration=1.0, trials=3)
    theta, state, info = rule.step(Triangle(problem.triangle()), problem, THETA, rule.init(P))
    d, _ = expected(float(state.lam), 0.0)
    assert bool(info.accepted) and np.isfinite(np.asarray(theta)).all()
    assert np.linalg.norm(np.asarray(theta) + d) <= SENSITIVITY * np.linalg.norm(d)


@pytest.mark.parametrize("devices, blocks", [(1, 1), (8, 2)])
def test_residuals_at_trials_meet_the_rows(devices, blocks):
    residual, points = build("system", devices, blocks)
    theta = residual.model.theta0
    thetas = jnp.stack([theta, 0.5 * theta, 2.0 * theta])
    trials = jax.jit(lambda t, s, p: residual.rows(t, p).trials.pulled_back(s))
    f = jax.jit(lambda t: dense("system", t))
    right = jnp.stack([f(t) for t in thetas]) @ jax.jacrev(f)(theta)
    assert len(CASES["system"][0]) == 3  # several terms: blocks mix their rows
    assert np.allclose(trials(theta, thetas, points), right, **CLOSE)
