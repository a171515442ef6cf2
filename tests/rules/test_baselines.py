"""The baselines on functions whose minima are known, and against their own definitions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from distgram.rules.baselines.adam import Adam
from distgram.rules.baselines.engd import ENGD
from distgram.rules.baselines.lbfgs import LBFGS
from distgram.rules.baselines.ssbroyden import SSBroyden, updated


class LeastSquares:
    """L(θ) = Σᵢ r(θ)ᵢ², the objective that the loop gives, for residuals in closed form."""

    def __init__(self, residual):
        self.residual = residual
        self.traces = 0

    def __call__(self, theta):
        self.traces += 1
        return jnp.sum(self.residual(theta) ** 2)

    def batch(self, thetas):
        return jax.vmap(self)(thetas)

    def gram(self, theta):
        j = jax.jacobian(self.residual)(theta)
        return j.T @ j, j.T @ self.residual(theta)


def rosenbrock(x):
    """Residuals of Rosenbrock's function: zero at x = (1, ..., 1) only, d = 10 here."""
    return jnp.concatenate([10.0 * (x[1:] - x[:-1] ** 2), 1.0 - x[:-1]])


SPECTRUM = jnp.logspace(-3, 0, 30)


def quadratic(x):
    """L(x) = Σ s²(x - 1)²: condition number 1e6."""
    return SPECTRUM * (x - 1.0)


def exponentials(theta):
    """Fit of e^-t and 2 e^-3t by a₁e^(-b₁t) + a₂e^(-b₂t): zero residual at (1, 2, 1, 3)."""
    t = jnp.linspace(0.0, 2.0, 20)
    a, b = theta[:2], theta[2:]
    return jnp.exp(-t[:, None] * b) @ a - jnp.exp(-t) - 2.0 * jnp.exp(-3.0 * t)


EXPONENTIALS = jnp.asarray([0.8, 1.5, 0.7, 3.5])
ALL = [Adam(), LBFGS(), SSBroyden(), ENGD()]


def compiled(method, objective):
    return jax.jit(lambda theta, state: method.step(objective, theta, state))


def minimize(method, objective, theta, most, target=-1.0):
    """(θ, losses): steps until L < target, `most` of them at most."""
    step = compiled(method, objective)
    state, losses = method.init(objective, theta), []
    while len(losses) < most and not (losses and losses[-1] < target):
        theta, state, info = step(theta, state)
        losses.append(float(info.loss))
    return theta, losses


@pytest.mark.parametrize("method", [SSBroyden(), LBFGS()], ids=lambda m: type(m).__name__)
def test_rosenbrock_is_solved_below_rounding_of_the_loss(method):
    start = jnp.tile(jnp.asarray([-1.2, 1.0]), 5)
    theta, losses = minimize(method, LeastSquares(rosenbrock), start, 200, target=1e-20)
    assert losses[-1] < 1e-20
    # The smallest eigenvalue of half the Hessian at the minimum is above 0.2 for d = 10.
    assert jnp.linalg.norm(theta - 1.0) <= np.sqrt(1e-20 / 0.2)


def test_ssbroyden_needs_no_more_iterations_than_bfgs_when_badly_conditioned():
    objective = LeastSquares(quadratic)
    _, losses = minimize(SSBroyden(), objective, jnp.zeros(30), 400, target=1e-20)
    assert losses[-1] < 1e-20
    w, trail = np.asarray(SPECTRUM) ** 2, []
    bfgs = {"method": "BFGS", "jac": lambda x: 2.0 * w * (x - 1.0), "options": {"gtol": 1e-12}}
    scipy.optimize.minimize(lambda x: w @ (x - 1) ** 2, np.zeros(30), callback=trail.append, **bfgs)
    assert len(losses) <= next(k for k, x in enumerate(trail, 1) if w @ (x - 1.0) ** 2 < 1e-20)


def test_ssbroyden_does_not_depend_on_the_scale_of_a_small_loss():
    """Multiplying L by 2^-40 changes only the first step, which min(1, 1/‖g‖) limits."""
    scaled = LeastSquares(lambda x: 2.0**-20 * rosenbrock(x))
    _, losses = minimize(SSBroyden(), scaled, jnp.zeros(10), 200, target=1e-20 * 2.0**-40)
    assert losses[-1] < 1e-20 * 2.0**-40


def test_the_self_scaled_update_is_the_inverse_of_its_dual():
    """B₊ = τ(B - Bs sᵀB/sᵀBs + ϑ sᵀBs w wᵀ) + y yᵀ/yᵀs,  w = y/yᵀs - Bs/sᵀBs,  is H₊⁻¹."""
    rng, signs, p, update = np.random.default_rng(0), set(), 6, jax.jit(updated)
    for k in range(60):
        m, c = rng.normal(size=(2, p, p))
        h, s, first = m @ m.T + np.eye(p), rng.normal(size=p), k % 10 == 0
        b_matrix = np.linalg.inv(h)
        # Curvatures that H knows badly, and that it knows up to a factor.
        y = 10 ** rng.uniform(-2, 1) * (b_matrix + rng.choice([1e-3, 0.03, 1]) * c @ c.T) @ s
        bs = b_matrix @ s
        new = np.asarray(update(h, s, y, s @ bs, first))
        ratio, b = y @ h @ y / (y @ s), s @ bs / (y @ s)
        a = ratio * b - 1
        low = min(1, ratio * (1 - np.sqrt(a / (1 + a))))
        family = max((low - 1) / a, min(1 / low, (1 - b) / b))
        sigma, kappa, high = 1 + a * family, (1 + a * family) ** (1 / (1 - p)), min(1, 1 / b)
        tau = min(high * kappa, sigma) if family <= 0 else high * min(kappa, 1 / family)
        tau, w = ratio / sigma if first else tau, y / (y @ s) - bs / (s @ bs)
        dual = b_matrix - np.outer(bs, bs) / (s @ bs) + family * (s @ bs) * np.outer(w, w)
        dual = tau * dual + np.outer(y, y) / (y @ s)
        # Rounding of the inverse and of the products: eps times the condition number, p² terms.
        bound = p**2 * np.finfo(float).eps * np.linalg.cond(new) * np.linalg.cond(h)
        assert np.linalg.norm(new @ dual - np.eye(p)) <= bound
        assert np.linalg.eigvalsh(new)[0] > 0 and np.linalg.norm(new @ y - s) <= bound
        signs.add(family > 0)
    assert signs == {True, False}


def test_adam_is_its_recurrence_with_a_decaying_rate():
    objective = LeastSquares(exponentials)
    method = Adam(learning_rate=0.1, decay_rate=0.5, decay_steps=2)
    step, gradient = compiled(method, objective), jax.jit(jax.grad(objective))
    theta, state = EXPONENTIALS, method.init(objective, EXPONENTIALS)
    expected, m, v = np.asarray(EXPONENTIALS), 0.0, 0.0
    for k in range(5):
        theta, state, info = step(theta, state)
        g = np.asarray(gradient(expected))
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        rate = 0.1 * 0.5 ** (k / 2)
        m_hat, v_hat = m / (1 - 0.9 ** (k + 1)), v / (1 - 0.999 ** (k + 1))
        expected = expected - rate * m_hat / (np.sqrt(v_hat) + 1e-8)
        # Five steps of a recurrence of about ten operations each, of values near 1.
        assert jnp.max(jnp.abs(theta - expected)) <= 1e-13
        assert float(info.step_size) == pytest.approx(rate, rel=1e-12)
        assert float(info.loss) == pytest.approx(float(objective(theta)), rel=1e-12)


def test_adam_converges_on_a_quadratic():
    method = Adam(learning_rate=0.1, decay_rate=0.1, decay_steps=500)
    objective = LeastSquares(lambda x: jnp.linspace(0.5, 1.0, 5) * (x - 1.0))
    theta, _ = minimize(method, objective, jnp.zeros(5), 2000)
    assert jnp.max(jnp.abs(theta - 1.0)) < 1e-6


def test_engd_solves_linear_least_squares_in_one_step():
    _, (loss,) = minimize(ENGD(), LeastSquares(lambda x: x - jnp.arange(4.0)), jnp.ones(4), 1)
    # The solve of the identity is exact up to a few roundings of numbers up to 3.
    assert loss <= (10 * 3 * np.finfo(float).eps) ** 2


def test_engd_converges_quadratically_where_the_residual_vanishes():
    theta, losses = minimize(ENGD(), LeastSquares(exponentials), EXPONENTIALS, 20, target=1e-26)
    assert losses[-1] < 1e-26
    # Quadratic in θ is L₊ <= C L²: the last steps more than halve the exponent's distance.
    assert any(b < a**1.6 for a, b in zip(losses, losses[1:], strict=False) if 1e-12 < a < 1e-3)
    order = jnp.argsort(theta[2:])
    assert jnp.allclose(theta[2:][order], jnp.asarray([1.0, 3.0]), atol=1e-9)


def test_engd_takes_the_best_of_its_grid_along_the_least_squares_direction():
    objective = LeastSquares(rosenbrock)
    start = jnp.tile(jnp.asarray([-1.2, 1.0]), 5)
    theta, _, info = compiled(ENGD(), objective)(start, ())
    j, r = np.asarray(jax.jacobian(rosenbrock)(start)), np.asarray(rosenbrock(start))
    direction = np.linalg.lstsq(j, r)[0]
    trials = [start - 0.5**k * direction for k in range(31)]
    best = min(trials, key=objective)
    # The Gram matrix squares the condition number of J, 74 here; ‖direction‖ is below 5.
    assert jnp.max(jnp.abs(theta - best)) <= 5 * 74**2 * 10 * np.finfo(float).eps
    assert int(info.rank) == 10 and bool(info.accepted)


def test_engd_reports_the_rank_of_a_deficient_gram_matrix():
    objective = LeastSquares(lambda x: jnp.asarray([x[0] + x[1] - 1.0, x[2], 0.0]))
    theta, _, info = compiled(ENGD(), objective)(jnp.asarray([0.0, 0.0, 1.0]), ())
    assert int(info.rank) == 2
    # σ_max(J) = √2, so the cutoff on the singular values of J is √(3 eps · 2).
    assert float(info.cutoff) == pytest.approx(np.sqrt(6 * np.finfo(float).eps), rel=1e-12)
    # The least-norm direction shares the correction between x₀ and x₁.
    assert jnp.max(jnp.abs(theta - jnp.asarray([0.5, 0.5, 0.0]))) <= 1e-14


@pytest.mark.parametrize("method", ALL, ids=lambda m: type(m).__name__)
def test_a_step_compiles_once_and_reports_the_loss(method):
    objective, reported = LeastSquares(exponentials), jax.jit(LeastSquares(exponentials))
    step, theta = compiled(method, objective), EXPONENTIALS
    state = method.init(objective, theta)
    for k in range(3):
        traces = objective.traces
        theta, state, info = step(theta, state)
        assert k == 0 or objective.traces == traces
        # The same sum of 20 squares, compiled in another way.
        assert float(info.loss) == pytest.approx(float(reported(theta)), rel=1e-12)
        assert bool(info.accepted) and info.rank.dtype.kind == "i"
        if not isinstance(method, ENGD):
            assert int(info.rank) == -1 and np.isnan(float(info.regularization))


@pytest.mark.parametrize("method", ALL[1:], ids=lambda m: type(m).__name__)
def test_at_its_floor_a_method_stays_finite_and_does_not_climb(method):
    """The residual cannot fall below 1: after convergence the loss stays within rounding of it."""
    objective = LeastSquares(lambda x: jnp.append(x - 1.0, 1.0))
    theta, losses = minimize(method, objective, jnp.zeros(4), 60)
    assert np.all(np.isfinite(losses)) and jnp.all(jnp.isfinite(theta))
    assert max(losses[20:]) <= 1.0 + 10 * np.finfo(float).eps


@pytest.mark.parametrize("method", ALL[1:], ids=lambda m: type(m).__name__)
def test_parameters_stay_where_no_trial_is_finite(method):
    """The residual is finite at the start only."""
    start = jnp.asarray([1.0, 2.0])
    objective = LeastSquares(lambda x: jnp.where(jnp.all(x == start), x, jnp.nan))
    theta, _, info = compiled(method, objective)(start, method.init(objective, start))
    assert not bool(info.accepted) and float(info.step_size) == 0.0
    assert jnp.array_equal(theta, start) and float(info.loss) == 5.0
