"""ANaGRAM and AMStramGRAM on spectra made by hand; what all rules keep to."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from linear_problem import (
    LEAST,
    LEAST_SQUARES,
    SENSITIVITY,
    SOLUTION,
    THETA,
    A,
    P,
    by_hand,
    linear,
)
from matrices import EPS

from distgram.linalg.butterfly import triangle
from distgram.linalg.tsqr import spectrum_of_triangle
from distgram.rules.adaptive_ratio import AdaptiveRatio
from distgram.rules.amstramgram import AMStramGRAM, elbow, precision_rank
from distgram.rules.anagram import ANaGRAM
from distgram.rules.line_search import Backtracking


def test_anagram_solves_a_linear_problem_in_one_step():
    spectrum, losses_at = linear(THETA)
    theta, state, info = ANaGRAM(cutoff=1e-6).step(spectrum, losses_at, THETA, ())
    assert np.linalg.norm(theta - LEAST_SQUARES) <= SENSITIVITY * np.linalg.norm(LEAST_SQUARES)
    assert float(info.loss) == pytest.approx(LEAST, rel=1e-10)
    assert (int(info.rank), float(info.step_size), bool(info.accepted)) == (P, 1.0, True)
    assert state == () and not bool(info.converged)


@pytest.mark.parametrize(
    "rule, rank",
    [
        (ANaGRAM(cutoff=0.1), 3),  # s = 10, 1, 0.1, 0.01: a value at the cutoff is kept
        (ANaGRAM(cutoff=0.11), 2),
        (ANaGRAM(relative_cutoff=0.1), 2),
        (ANaGRAM(relative_cutoff=0.0), 4),
        (ANaGRAM(cutoff=100.0), 0),
    ],
)
def test_anagram_cutoff(rule, rank):
    spectrum = by_hand([10.0, 1.0, 0.1, 0.01], [1.0, 1.0, 1.0, 1.0])

    def losses_at(thetas):
        return jnp.sum((1.0 + spectrum.s * thetas) ** 2, axis=1)

    theta, _, info = rule.step(spectrum, losses_at, jnp.zeros(4), ())
    assert int(info.rank) == rank and float(info.cutoff) <= 100.0
    expected = [-1.0 / s if i < rank else 0.0 for i, s in enumerate([10.0, 1.0, 0.1, 0.01])]
    assert np.allclose(theta, expected, rtol=4 * EPS, atol=0)


@pytest.mark.parametrize(
    "s, rank",
    # c = (12, 4), outside 3: RCE = 13, 5, 3. Kept are the leading n with s_n > RCE_n.
    [((6.0, 2.0), 1), ((6.0, 4.0), 2), ((6.0, 3.0), 1), ((5.0, 4.0), 0), ((4.0, 4.0), 0)],
)
def test_crossing_rank(s, rank):
    assert int(by_hand(s, (12.0, 4.0), 3.0).crossing_rank()) == rank


@pytest.mark.parametrize(
    "epsilon, rank", [(2.0, 3), (3.0, 3), (4.0, 2), (5.0, 2), (13.0, 1), (14.0, 0)]
)
def test_precision_rank(epsilon, rank):
    assert int(precision_rank(by_hand((6.0, 4.0), (12.0, 4.0), 3.0), epsilon)) == rank


def test_elbow_is_farthest_from_the_chord():
    # log10 s over n; distances from the chord of slope -9/5: 0, 1.8, 3.6, 2.4, 1.2, 0.
    s = 10.0 ** jnp.asarray([0.0, 0.0, 0.0, -3.0, -6.0, -9.0])
    assert int(elbow(s, jnp.asarray(0))) == 3
    # From n = 3: -3, -4, -8, -8.5, chord of slope -11/6: 0, 5/6, -4/3, 0.
    s = 10.0 ** jnp.asarray([5.0, 0.0, 0.0, -3.0, -4.0, -8.0, -8.5])
    assert int(elbow(s, jnp.asarray(3))) == 6
    assert int(elbow(s, jnp.asarray(7))) == 7  # nothing beyond: all of them


def test_amstramgram_takes_the_large_rank_then_the_small_one():
    s = 10.0 ** -jnp.arange(P, dtype=float)
    spectrum = by_hand(s, 10.0 ** -jnp.arange(P, dtype=float) * 3, 0.0)  # RCE_n = 0.33 s_n: r∩ = P
    weak = by_hand(s, jnp.ones(P), 10.0)  # RCE_n > 10: r∩ = 0

    def losses_at(thetas):
        return jnp.sum((spectrum.c + spectrum.s * thetas) ** 2, axis=1)

    rule = AMStramGRAM(epsilon=1e-12)
    first = rule.init(P)
    theta, state, info = rule.step(weak, losses_at, jnp.zeros(P), first)
    assert (int(info.r_cap), int(info.r_eps)) == (0, P + 1)
    assert int(state.half) == 1 and int(info.rank) == int(elbow(s, jnp.asarray(1)))
    assert int(state.r_max) == int(info.rank) and not bool(state.met)
    theta, after, info = rule.step(weak, losses_at, theta, state)
    assert int(after.half) == 0 and int(info.rank) == 1  # r_min = max(1, min(r∩, rε))
    assert int(after.r_max) == int(state.r_max)
    # r_min has not moved and is below r_max: one more.
    _, grown, info = rule.step(weak, losses_at, theta, after)
    assert int(info.rank) == int(grown.r_max) == int(after.r_max) + 1
    # r∩ lifts r_max, and r_min meets it; then the +1 is over.
    _, lifted, info = rule.step(spectrum, losses_at, theta, after)
    assert int(info.r_cap) == int(lifted.r_max) == P and bool(lifted.met)
    assert float(info.cutoff) == float(s[P - 1])


@pytest.mark.parametrize("scale, done", [(0.9e-8, True), (1.1e-8, False)])
def test_amstramgram_converges_where_the_rms_residual_is_below_epsilon(scale, done):
    spectrum = by_hand(jnp.ones(3), jnp.asarray([scale, 0.0, 0.0]))
    rule = AMStramGRAM(epsilon=1e-8)
    *_, info = rule.step(spectrum, lambda t: jnp.ones(len(t)), jnp.zeros(3), rule.init(3))
    assert bool(info.converged) == done and (int(info.r_eps) == 0) == done


def test_amstramgram_reaches_epsilon_on_a_linear_problem():
    def losses_at(thetas):
        return jnp.sum((thetas @ A.T - A @ SOLUTION) ** 2, axis=1)

    rule, theta = AMStramGRAM(epsilon=1e-9), THETA
    state = rule.init(P)
    for _ in range(60):
        r = A @ theta - A @ SOLUTION
        spectrum = spectrum_of_triangle(triangle(jnp.column_stack([jnp.asarray(A), r])))
        theta, state, info = rule.step(spectrum, losses_at, theta, state)
        if bool(info.converged):
            break
    assert bool(info.converged) and float(losses_at(theta[None])[0]) < 1e-18


RULES = [
    ANaGRAM(cutoff=1e-6),
    ANaGRAM(relative_cutoff=1e-6, line_search=Backtracking()),
    AMStramGRAM(epsilon=1e-8),
    AdaptiveRatio(excursion=1.0),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda r: type(r).__name__)
def test_a_step_never_raises_the_loss(rule):
    theta, state = jnp.asarray(SOLUTION), rule.init(P)
    loss = np.inf
    for _ in range(6):
        spectrum, losses_at = linear(theta)
        theta, state, info = rule.step(spectrum, losses_at, theta, state)
        assert float(info.loss) <= loss * (1 + 10 * EPS)
        # A batch of one and a batch of many may be summed in another order: some √50 roundings.
        assert float(info.loss) == pytest.approx(float(losses_at(theta[None])[0]), rel=100 * EPS)
        loss = float(info.loss)
