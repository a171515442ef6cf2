"""The adaptive ratio on spectra made by hand, and on a linear problem, where its model is exact."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from linear_problem import (
    LEAST,
    LEAST_SQUARES,
    RIGHT,
    SENSITIVITY,
    THETA,
    A,
    P,
    by_hand,
    linear,
)
from matrices import EPS

from distgram.rules.adaptive_ratio import CLIMB, AdaptiveRatio


def test_adaptive_ratio_is_exact_on_a_linear_problem():
    """Actual equals predicted decrease for every λ: the ratio is 1, and the smallest λ is taken."""
    spectrum, losses_at = linear(THETA)
    rule = AdaptiveRatio(ratio=1 - 1e-9, window=20.0, trials=7, initial=0.5)
    theta, state, info = rule.step(spectrum, losses_at, THETA, rule.init(P))
    lam = 0.5 / 20.0
    assert float(state.lam) == pytest.approx(lam, rel=1e-14) == float(info.regularization)
    stacked = np.concatenate([A, np.sqrt(lam) * np.eye(P)])
    expected = np.linalg.lstsq(stacked, np.append(RIGHT, np.zeros(P)))[0]
    assert np.linalg.norm(theta - expected) <= SENSITIVITY * np.linalg.norm(expected)
    assert float(info.loss) == pytest.approx(float(losses_at(theta[None])[0]), rel=1e-14)
    assert bool(info.accepted) and float(info.step_size) == 1.0
    assert int(info.rank) == np.sum(np.asarray(spectrum.s) ** 2 > lam)


def test_adaptive_ratio_comes_to_least_squares():
    rule, theta = AdaptiveRatio(excursion=1.0), THETA
    state = rule.init(P)
    for _ in range(8):
        spectrum, losses_at = linear(theta)
        theta, state, info = rule.step(spectrum, losses_at, theta, state)
    assert np.linalg.norm(theta - LEAST_SQUARES) <= SENSITIVITY * np.linalg.norm(LEAST_SQUARES)
    assert float(info.loss) == pytest.approx(LEAST, rel=1e-12)


def losses_with_ratios(spectrum, state, rule, ratios):
    """Trial losses for which actual over predicted decrease are the given ratios, λ descending."""
    lams = float(state.lam) * rule.window ** np.linspace(1, -1, rule.trials)
    s, c = np.asarray(spectrum.s), np.asarray(spectrum.c)
    predicted = np.array([np.sum((s * c) ** 2 * (s**2 + 2 * x) / (s**2 + x) ** 2) for x in lams])
    loss = float(np.sum(c**2))
    return lams, jnp.asarray(np.append(loss, loss - np.asarray(ratios) * predicted))


@pytest.mark.parametrize(
    "ratios, chosen",
    [
        ((1.0, 0.9, 0.5, 0.3, 0.2), 4),
        ((1.0, 0.9, 0.2, -1.0, -5.0), 2),
        ((1.0, 0.05, 0.9, 0.9, 0.9), 0),  # a running minimum: no λ beyond the first failure
        ((1.0, 0.9, np.nan, 0.9, 0.9), 1),
        ((1.0, 0.9, 0.5, -np.inf, 0.9), 2),
    ],
)
def test_adaptive_ratio_takes_the_smallest_trusted(ratios, chosen):
    spectrum = by_hand((2.0, 1.0, 0.1), (1.0, 0.5, 0.25))
    rule = AdaptiveRatio(ratio=0.075, trials=5)
    lams, losses = losses_with_ratios(spectrum, rule.init(3), rule, ratios)
    theta, state, info = rule.step(spectrum, lambda t: losses, jnp.zeros(3), rule.init(3))
    assert float(state.lam) == pytest.approx(lams[chosen], rel=1e-14)
    assert float(info.loss) == float(losses[1 + chosen]) and bool(info.accepted)
    s, c = np.asarray(spectrum.s), np.asarray(spectrum.c)
    assert np.allclose(theta, -s * c / (s**2 + lams[chosen]), rtol=10 * EPS)


def test_adaptive_ratio_stays_where_nothing_is_trusted():
    spectrum = by_hand((2.0, 1.0, 0.1), (1.0, 0.5, 0.25))
    rule = AdaptiveRatio(trials=5, window=20.0)
    state = rule.init(3)._replace(lam=jnp.asarray(3.0))
    _, losses = losses_with_ratios(spectrum, state, rule, (0.01, 1.0, 1.0, 1.0, 1.0))
    theta, state, info = rule.step(spectrum, lambda t: losses, jnp.ones(3), state)
    # The next window begins where this one ended: its smallest λ is 60, its middle one 1200.
    assert np.array_equal(theta, np.ones(3)) and float(state.lam) == 1200.0
    assert not bool(info.accepted) and float(info.step_size) == 0.0
    assert float(info.loss) == float(losses[0])


def plateau(rule, trials):
    """A state at a loss of 1e-4 that began at 1 and did not halve for `patience` steps, and the
    losses of the trials there."""
    state = rule.init(3)._replace(
        lam=jnp.asarray(1e-2),
        first=jnp.asarray(1.0),
        reference=jnp.asarray(1.1e-4),
        waited=jnp.asarray(rule.patience),
    )
    return state, lambda thetas: jnp.asarray([1e-4, *trials])


@pytest.mark.parametrize(
    "excursion, trials, chosen",
    [
        # height L₀^(1-x) L^x = 1e-2 for x = 1/2: the highest trial that is not above it.
        (0.5, (1e-4, 1e-3, 0.9e-2, 1.1e-2), 2),
        (0.5, (1e-4, 0.9e-2, 1e-3, 1e-3), 1),
        (0.5, (np.nan, 1e-3, np.inf, 1e-5), 1),
        (0.0, (0.5, 0.99, 1.01, 1e-3), 1),
        (0.5, (np.nan, 1.0, np.inf, 1.0), None),
    ],
)
def test_adaptive_ratio_leaves_a_plateau_uphill(excursion, trials, chosen):
    spectrum = by_hand((2.0, 1.0, 0.1), (6e-3, 6e-3, 5.3e-3))
    rule = AdaptiveRatio(trials=4, excursion=excursion, patience=4, depth=1e-3)
    state, losses_at = plateau(rule, trials)
    theta, after, info = rule.step(spectrum, losses_at, jnp.zeros(3), state)
    assert bool(info.accepted) == (chosen is not None) and int(after.waited) == 0
    if chosen is None:
        assert not theta.any() and float(after.lam) == 1e-2 and float(info.loss) == 1e-4
        return
    lam = 1e-2 * 10.0 ** -(chosen + 1)
    s, c = np.asarray(spectrum.s), np.asarray(spectrum.c)
    assert np.allclose(theta, -s * c / (s**2 + lam), rtol=10 * EPS)
    assert float(after.lam) == pytest.approx(lam, rel=1e-14)
    assert float(info.loss) == float(after.reference) == trials[chosen]


@pytest.mark.parametrize("gained", [True, False])
def test_an_excursion_that_has_not_gained_is_followed_by_a_higher_one(gained):
    """After an excursion from twice, or ten times, the present loss: exponents 0.5 and 0.5 - CLIMB,
    of which only the second allows the trial at 2e-2 (heights 1e-2 and 4e-2)."""
    spectrum = by_hand((2.0, 1.0, 0.1), (6e-3, 6e-3, 5.3e-3))
    rule = AdaptiveRatio(trials=4, excursion=0.3, first_excursion=0.5, patience=4, depth=1e-3)
    state, losses_at = plateau(rule, (1e-4, 0.9e-2, 2e-2, 1.0))
    state = state._replace(left=jnp.asarray(1e-3 if gained else 1.9e-4))
    _, after, info = rule.step(spectrum, losses_at, jnp.zeros(3), state)
    assert float(info.loss) == (0.9e-2 if gained else 2e-2)
    assert float(after.exponent) == (0.5 if gained else 0.5 - CLIMB)
    assert float(after.left) == 1e-4
    lower = rule.step(spectrum, losses_at, jnp.zeros(3), after._replace(exponent=jnp.asarray(0.3)))
    assert float(lower[1].exponent) == 0.3  # not below that of the highest


@pytest.mark.parametrize("change", [{"depth": 1e-4}, {"excursion": 1.0}, {"patience": 5}])
def test_adaptive_ratio_stays_on_the_plateau(change):
    """Not deep enough below the start; never uphill; not waited long enough: an ordinary step."""
    spectrum = by_hand((2.0, 1.0, 0.1), (6e-3, 6e-3, 5.3e-3))
    rule = AdaptiveRatio(**{"trials": 4, "excursion": 0.5, "patience": 4, "depth": 1e-3} | change)
    state, losses_at = plateau(AdaptiveRatio(patience=4), (1e-3,) * 4)
    theta, after, info = rule.step(spectrum, losses_at, jnp.zeros(3), state)
    assert not bool(info.accepted) and int(after.waited) == 4 and not theta.any()


def test_adaptive_ratio_waits_before_an_excursion():
    """Losses that shrink by 10 % a step: the 4th without halving is followed by an excursion."""
    spectrum = by_hand((2.0, 1.0), (0.5, 0.5))
    rule, theta, loss, rises = AdaptiveRatio(patience=4, depth=1.0), jnp.zeros(2), 1.0, []
    state = rule.init(2)
    for _ in range(6):
        trials = jnp.asarray([loss] + [0.9 * loss] * rule.trials)
        theta, state, info = rule.step(spectrum, lambda t, v=trials: v, theta, state)
        rises.append(int(state.waited))
        loss = float(info.loss)
    # The first loss is a reference at once; four more have not halved it; then it starts anew.
    assert rises == [0, 1, 2, 3, 4, 0]
    assert float(state.first) == 1.0
