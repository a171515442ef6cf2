"""The adaptive ratio on spectra made by hand, and on a linear problem, where its model is exact."""

from __future__ import annotations

import jax
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


def trials_of(spectrum, lams, values, begin=None):
    """(losses_at, tried): the loss of the trial of each λ, and the places in `lams` in the order in
    which they were tried."""
    directions = jnp.stack([spectrum.regularized(jnp.asarray(x)).direction for x in lams])
    begin, tried = jnp.zeros(directions.shape[1]) if begin is None else begin, []

    def losses_at(thetas):
        (theta,) = thetas
        place = jnp.argmin(jnp.linalg.norm(begin - theta - directions, axis=1))
        jax.debug.callback(lambda place: tried.append(int(place)), place, ordered=True)
        return jnp.asarray(values)[place][None]

    return losses_at, tried


def window(rule, lam):
    return lam * rule.window ** np.linspace(1, -1, rule.trials)


def losses_with_ratios(spectrum, lams, ratios):
    """Trial losses for which actual over predicted decrease are the given ratios."""
    s, c = np.asarray(spectrum.s), np.asarray(spectrum.c)
    predicted = np.array([np.sum((s * c) ** 2 * (s**2 + 2 * x) / (s**2 + x) ** 2) for x in lams])
    return float(np.sum(c**2)) - np.asarray(ratios) * predicted


@pytest.mark.parametrize(
    "ratios, order",
    [
        ((1.0, 0.9, 0.5, 0.3, 0.2), (4,)),
        ((1.0, 0.9, 0.5, 0.3, 0.2), (2, 3, 4)),  # as long as ρ allows
        ((1.0, 0.9, 0.2, -1.0, -5.0), (2, 3)),
        ((1.0, 0.9, 0.2, -1.0, -5.0), (4, 3, 2)),  # or until it does, and not back
        ((1.0, 0.05, 0.9, 0.9, 0.9), (0, 1)),
        ((1.0, 0.05, 0.9, 0.9, 0.9), (1, 0)),
        ((1.0, 0.9, np.nan, 0.9, 0.9), (1, 2)),
        ((1.0, 0.9, 0.5, -np.inf, 0.9), (3, 2)),
    ],
)
def test_adaptive_ratio_takes_the_smallest_trusted_near_the_last(ratios, order):
    spectrum = by_hand((2.0, 1.0, 0.1), (1.0, 0.5, 0.25))
    rule = AdaptiveRatio(ratio=0.075, trials=5)
    lams = window(rule, 1.0)
    losses = losses_with_ratios(spectrum, lams, ratios)
    losses_at, tried = trials_of(spectrum, lams, losses)
    state = rule.init(3)._replace(begin=jnp.asarray(order[0]))
    theta, state, info = rule.step(spectrum, losses_at, jnp.zeros(3), state)
    jax.effects_barrier()
    assert tuple(tried) == order
    chosen = max(i for i in order if ratios[i] >= rule.ratio)
    assert float(state.lam) == pytest.approx(lams[chosen], rel=1e-14)
    assert float(info.loss) == losses[chosen] and bool(info.accepted)
    assert int(state.begin) == chosen
    s, c = np.asarray(spectrum.s), np.asarray(spectrum.c)
    assert np.allclose(theta, -s * c / (s**2 + lams[chosen]), rtol=10 * EPS)


def test_adaptive_ratio_stays_where_nothing_is_trusted():
    spectrum = by_hand((2.0, 1.0, 0.1), (1.0, 0.5, 0.25))
    rule = AdaptiveRatio(trials=5, window=20.0)
    state = rule.init(3)._replace(lam=jnp.asarray(3.0), begin=jnp.asarray(2))
    lams = window(rule, 3.0)
    losses = losses_with_ratios(spectrum, lams, (0.01, 0.01, 0.01, 1.0, 1.0))
    losses_at, tried = trials_of(spectrum, lams, losses, jnp.ones(3))
    theta, state, info = rule.step(spectrum, losses_at, jnp.ones(3), state)
    jax.effects_barrier()
    # The next window begins where this one ended: its smallest λ is 60, which failed.
    assert np.array_equal(theta, np.ones(3)) and float(state.lam) == 1200.0
    assert tried == [2, 1, 0] and int(state.begin) == 3
    assert not bool(info.accepted) and float(info.step_size) == 0.0
    assert float(info.loss) == pytest.approx(1.3125, rel=1e-14)


def plateau(rule, spectrum, trials):
    """A state at a loss of 1e-4 that began at 1 and did not halve for `patience` steps, and the
    losses of the trials there: of an excursion, and of an ordinary step none that is less."""
    state = rule.init(3)._replace(
        lam=jnp.asarray(1e-2),
        first=jnp.asarray(1.0),
        reference=jnp.asarray(1.1e-4),
        waited=jnp.asarray(rule.patience),
        begin=jnp.asarray(rule.trials - 1),
    )
    lams = [*(1e-2 * 10.0 ** -np.arange(1, rule.trials + 1)), *window(rule, 1e-2)]
    return state, trials_of(spectrum, lams, [*trials, *(1.0,) * rule.trials])[0]


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
    state, losses_at = plateau(rule, spectrum, trials)
    theta, after, info = rule.step(spectrum, losses_at, jnp.zeros(3), state)
    assert bool(info.accepted) == (chosen is not None) and int(after.waited) == 0
    if chosen is None:
        assert not theta.any() and float(after.lam) == 1e-2
        assert float(info.loss) == float(spectrum.loss())
        return
    lam = 1e-2 * 10.0 ** -(chosen + 1)
    s, c = np.asarray(spectrum.s), np.asarray(spectrum.c)
    assert np.allclose(theta, -s * c / (s**2 + lam), rtol=10 * EPS)
    assert float(after.lam) == pytest.approx(lam, rel=1e-14)
    assert float(info.loss) == float(after.reference) == trials[chosen]


@pytest.mark.parametrize("gained", [True, False])
def test_an_excursion_that_has_not_gained_is_followed_by_a_higher_one(gained):
    """After excursions from 11 and 9 times the present loss: exponents 0.5 and 0.5 - CLIMB,
    of which only the second allows the trial at 2e-2 (heights 1e-2 and 4e-2)."""
    spectrum = by_hand((2.0, 1.0, 0.1), (6e-3, 6e-3, 5.3e-3))
    rule = AdaptiveRatio(trials=4, excursion=0.3, first_excursion=0.5, patience=4, depth=1e-3)
    state, losses_at = plateau(rule, spectrum, (1e-4, 0.9e-2, 2e-2, 1.0))
    state = state._replace(left=jnp.asarray(1.1e-3 if gained else 9e-4))
    _, after, info = rule.step(spectrum, losses_at, jnp.zeros(3), state)
    assert float(info.loss) == (0.9e-2 if gained else 2e-2)
    assert float(after.exponent) == (0.5 if gained else 0.5 - CLIMB)
    assert float(after.left) == float(spectrum.loss())
    highest = state._replace(exponent=jnp.asarray(0.3), left=jnp.asarray(9e-4))
    _, after, _ = rule.step(spectrum, losses_at, jnp.zeros(3), highest)
    assert float(after.exponent) == 0.3  # no lower than the exponent of the highest


@pytest.mark.parametrize("change", [{"depth": 1e-4}, {"excursion": 1.0}, {"patience": 5}])
def test_adaptive_ratio_stays_on_the_plateau(change):
    """Not deep enough below the start; never uphill; not waited long enough: an ordinary step."""
    spectrum = by_hand((2.0, 1.0, 0.1), (6e-3, 6e-3, 5.3e-3))
    rule = AdaptiveRatio(**{"trials": 4, "excursion": 0.5, "patience": 4, "depth": 1e-3} | change)
    state, losses_at = plateau(AdaptiveRatio(trials=4, patience=4), spectrum, (1e-3,) * 4)
    theta, after, info = rule.step(spectrum, losses_at, jnp.zeros(3), state)
    assert not bool(info.accepted) and int(after.waited) == 4 and not theta.any()


def test_adaptive_ratio_waits_before_an_excursion():
    """Losses that shrink by 10 % a step: the 4th without halving is followed by an excursion."""
    rule, theta, loss, rises = AdaptiveRatio(patience=4, depth=1.0), jnp.zeros(2), 1.0, []
    state = rule.init(2)
    for _ in range(6):
        spectrum = by_hand((2.0, 1.0), (np.sqrt(loss / 2), np.sqrt(loss / 2)))
        trial = jnp.asarray([0.9 * loss])
        theta, state, info = rule.step(spectrum, lambda t, v=trial: v, theta, state)
        rises.append(int(state.waited))
        loss = float(info.loss)
    # The first loss is a reference at once; four more have not halved it; then it starts anew.
    assert rises == [0, 1, 2, 3, 4, 0]
    assert float(state.first) == pytest.approx(1.0, rel=1e-14)
