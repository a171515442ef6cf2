"""The rules on spectra made by hand, and on linear problems, where their models are exact."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import matrices as M
import numpy as np
import pytest
from matrices import EPS

from distgram.factorization.tsqr import spectrum_of_triangle, triangle
from distgram.line_search import Backtracking, GridSearch
from distgram.rules import RuleError
from distgram.rules.adaptive_ratio import AdaptiveRatio, AdaptiveRatioState
from distgram.rules.amstramgram import AMStramGRAM, crossing_rank, elbow, precision_rank
from distgram.rules.anagram import ANaGRAM
from distgram.spectrum import Spectrum

P = 10
A = M.prescribed(50, M.geometric(P, 1e3))
SOLUTION = np.random.default_rng(2).standard_normal(P)
OUTSIDE = 0.1 * np.random.default_rng(3).standard_normal(50)
RIGHT = A @ SOLUTION + OUTSIDE
LEAST_SQUARES = np.linalg.lstsq(A, RIGHT)[0]
LEAST = float(np.sum((A @ LEAST_SQUARES - RIGHT) ** 2))
THETA = jnp.zeros(P)
# 100 eps of backward error, times the condition squared: b has a part outside the range.
SENSITIVITY = 100 * EPS * 1e6


def linear(theta):
    """(spectrum, losses_at) of the residual Aθ - b at θ."""

    def losses_at(thetas):
        return jnp.sum((thetas @ A.T - RIGHT) ** 2, axis=1)

    r = A @ theta - RIGHT
    return spectrum_of_triangle(triangle(jnp.column_stack([jnp.asarray(A), r]))), losses_at


def by_hand(s, c, outside=0.0) -> Spectrum:
    s, c = jnp.asarray(s, float), jnp.asarray(c, float)
    return Spectrum(s, jnp.eye(len(s)), c, jnp.asarray(outside, float))


# -- ANaGRAM ------------------------------------------------------------------------------------


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
    assert int(info.rank) == rank and float(info.regularization) <= 100.0
    expected = [-1.0 / s if i < rank else 0.0 for i, s in enumerate([10.0, 1.0, 0.1, 0.01])]
    assert np.allclose(theta, expected, rtol=4 * EPS, atol=0)


# -- AMStramGRAM --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "s, rank",
    # c = (12, 4), outside 3: RCE = 13, 5, 3. Kept are the leading n with s_n > RCE_n.
    [((6.0, 2.0), 1), ((6.0, 4.0), 2), ((6.0, 3.0), 1), ((5.0, 4.0), 0), ((4.0, 4.0), 0)],
)
def test_crossing_rank(s, rank):
    assert int(crossing_rank(by_hand(s, (12.0, 4.0), 3.0))) == rank


@pytest.mark.parametrize("epsilon, rank", [(2.0, 3), (3.0, 3), (4.0, 2), (5.0, 2), (13.0, 1), (14.0, 0)])  # fmt: skip
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
    assert float(info.regularization) == float(s[P - 1])


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
    for step in range(60):
        r = A @ theta - A @ SOLUTION
        spectrum = spectrum_of_triangle(triangle(jnp.column_stack([jnp.asarray(A), r])))
        theta, state, info = rule.step(spectrum, losses_at, theta, state)
        if bool(info.converged):
            break
    assert bool(info.converged) and float(losses_at(theta[None])[0]) < 1e-18, step


# -- adaptive ratio -----------------------------------------------------------------------------


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
    state = AdaptiveRatioState(
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
    rule = AdaptiveRatio(trials=4, excursion=excursion)
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


def test_adaptive_ratio_waits_before_an_excursion():
    """Losses that shrink by 10 % a step: the 4th without halving is followed by an excursion."""
    spectrum = by_hand((2.0, 1.0), (0.5, 0.5))
    rule, theta, loss, rises = AdaptiveRatio(patience=4), jnp.zeros(2), 1.0, []
    state = rule.init(2)
    for _ in range(6):
        trials = jnp.asarray([loss] + [0.9 * loss] * rule.trials)
        theta, state, info = rule.step(spectrum, lambda t, v=trials: v, theta, state)
        rises.append(int(state.waited))
        loss = float(info.loss)
    # The first loss is a reference at once; 0.9, 0.81, ... have not halved; then waited starts anew.
    assert rises == [0, 1, 2, 3, 4, 0]
    assert float(state.first) == 1.0


# -- line searches ------------------------------------------------------------------------------


def parabola(thetas):
    """L(θ) = (θ - 1)² along the first coordinate; from θ = 0 along d = -8, η = 1/8 is exact."""
    return (thetas[:, 0] - 1.0) ** 2


@pytest.mark.parametrize("search", [GridSearch(), GridSearch(count=4), Backtracking()])
def test_line_search_finds_the_step(search):
    theta, direction = jnp.zeros(2), jnp.asarray([-8.0, 0.0])
    eta, loss = search(parabola, theta, direction, jnp.asarray(1.0))
    assert (float(eta), float(loss)) == (0.125, 0.0)


def test_backtracking_takes_the_first_decrease_and_grid_the_best():
    """From θ = 0 along d = -3: L = 4 at η = 1, 0.25 at 1/2, 0.0625 at 1/4."""
    args = (parabola, jnp.zeros(1), jnp.asarray([-3.0]), jnp.asarray(1.0))
    assert [float(v) for v in Backtracking()(*args)] == [0.5, 0.25]
    assert [float(v) for v in GridSearch()(*args)] == [0.25, 0.0625]
    # L(η) = (3η - 1)²; at η = 1/2 Armijo asks for 1 - 0.9/2 = 0.55, and 0.25 is enough; from
    # η = 0.6, L = 0.64, it asks for 0.46, so that the next, 0.36, is taken.
    assert float(Backtracking(armijo=0.9)(*args)[0]) == 0.5
    assert float(Backtracking(armijo=0.9, ratio=0.6)(*args)[0]) == pytest.approx(0.36)
    assert float(Backtracking(armijo=0.1, ratio=0.6)(*args)[0]) == pytest.approx(0.6)


@pytest.mark.parametrize("search", [GridSearch(), Backtracking()])
@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_line_search_stays_where_nothing_is_finite(search, bad):
    def up(thetas):
        return jnp.where(thetas[:, 0] != 0, bad, 1.0)

    eta, loss = search(up, jnp.zeros(1), jnp.ones(1), jnp.asarray(1.0))
    assert (float(eta), float(loss)) == (0.0, 1.0)


def test_only_backtracking_stays_where_nothing_decreases():
    """L = 1 + η: the grid takes its least loss, that of its smallest step, as its source does."""

    def up(thetas):
        return 1.0 - thetas[:, 0]

    args = (up, jnp.zeros(1), jnp.ones(1), jnp.asarray(1.0))
    assert [float(v) for v in Backtracking(count=4)(*args)] == [0.0, 1.0]
    assert [float(v) for v in GridSearch(count=4)(*args)] == [0.125, 1.125]


@pytest.mark.parametrize("search", [GridSearch(), Backtracking()])
def test_line_search_passes_over_what_is_not_finite(search):
    def losses_at(thetas):
        return jnp.where(thetas[:, 0] < -0.3, jnp.nan, 1.0 + thetas[:, 0])

    eta, loss = search(losses_at, jnp.zeros(1), jnp.ones(1), jnp.asarray(1.0))
    assert (float(eta), float(loss)) == (0.25, 0.75)


# -- all of them --------------------------------------------------------------------------------

RULES = [
    ANaGRAM(cutoff=1e-6),
    ANaGRAM(relative_cutoff=1e-6, line_search=Backtracking()),
    AMStramGRAM(epsilon=1e-8),
    AdaptiveRatio(excursion=1.0),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda r: type(r).__name__)
def test_state_keeps_its_type(rule):
    """The tree, the shapes and the dtypes of θ, the state and the report, before and after a step."""
    spectrum, losses_at = linear(THETA)
    step = jax.jit(lambda theta, state: rule.step(spectrum, losses_at, theta, state))
    before = (THETA, rule.init(P))
    theta, state, info = step(*before)
    again_theta, again_state, again_info = step(theta, state)

    def kinds(tree):
        leaves, structure = jax.tree.flatten(tree)
        return structure, [(x.shape, x.dtype) for x in leaves]

    assert kinds(before) == kinds((theta, state)) == kinds((again_theta, again_state))
    assert kinds(info) == kinds(again_info)
    assert {x.shape for x in jax.tree.leaves(info)} == {()}
    assert info.loss.dtype == info.regularization.dtype == info.step_size.dtype == jnp.float64


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


@pytest.mark.parametrize(
    "make, name, value",
    [
        (lambda: ANaGRAM(), "cutoff", "None"),
        (lambda: ANaGRAM(cutoff=1e-6, relative_cutoff=1e-6), "relative_cutoff", "1e-06"),
        (lambda: ANaGRAM(cutoff=0.0), "cutoff", "0.0"),
        (lambda: ANaGRAM(cutoff=-1e-3), "cutoff", "-0.001"),
        (lambda: ANaGRAM(cutoff=np.inf), "cutoff", "inf"),
        (lambda: ANaGRAM(cutoff=np.nan), "cutoff", "nan"),
        (lambda: ANaGRAM(relative_cutoff=2.0), "relative_cutoff", "2.0"),
        (lambda: ANaGRAM(relative_cutoff=1.0), "relative_cutoff", "1.0"),
        (lambda: ANaGRAM(relative_cutoff=np.nan), "relative_cutoff", "nan"),
        (lambda: AMStramGRAM(epsilon=0.0), "epsilon", "0.0"),
        (lambda: AMStramGRAM(epsilon=np.nan), "epsilon", "nan"),
        (lambda: AdaptiveRatio(ratio=1.0), "ratio", "1.0"),
        (lambda: AdaptiveRatio(window=1.0), "window", "1.0"),
        (lambda: AdaptiveRatio(initial=0.0), "initial", "0.0"),
        (lambda: AdaptiveRatio(initial=np.nan), "initial", "nan"),
        (lambda: AdaptiveRatio(trials=1), "trials", "1"),
        (lambda: AdaptiveRatio(excursion=1.5), "excursion", "1.5"),
        (lambda: AdaptiveRatio(excursion=np.nan), "excursion", "nan"),
        (lambda: AdaptiveRatio(patience=0), "patience", "0"),
        (lambda: GridSearch(count=0), "count", "0"),
        (lambda: GridSearch(ratio=1.0), "ratio", "1.0"),
        (lambda: Backtracking(ratio=0.0), "ratio", "0.0"),
        (lambda: Backtracking(armijo=1.0), "armijo", "1.0"),
    ],
)
def test_settings_outside_their_range_are_named(make, name, value):
    with pytest.raises(RuleError) as error:
        make()
    message = str(error.value)
    assert name in message and value in message and "expected" in message
