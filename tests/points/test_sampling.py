"""Each placement against its definition; what a View sees against a dense oracle."""

from __future__ import annotations

from dataclasses import dataclass, field

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chisquare
from stages import stage

from distgram.errors import RuleError
from distgram.linalg.spectrum import Spectrum
from distgram.net.mlp import MLP
from distgram.points.adaptive.fresh import Fresh
from distgram.points.adaptive.greedy import Greedy
from distgram.points.adaptive.leverage import Leverage
from distgram.points.adaptive.placement import Growth, Placed, View
from distgram.points.adaptive.proportional import inclusion, systematic
from distgram.points.adaptive.r3 import R3
from distgram.points.adaptive.rad import RAD
from distgram.points.adaptive.rar import RAR
from distgram.points.adaptive.view import Sight, TermView, whitening
from distgram.points.draw import Draw

RNG = np.random.default_rng(7)
HERE = RNG.random((40, 1))


def draw(n: int) -> np.ndarray:
    return np.random.default_rng(3).random((n, 1))


@dataclass
class Known(View):
    """A View with a residual and a leverage in closed form; the greedy choice is the last ones."""

    size: int = 40
    asked: list = field(default_factory=list)

    def residual(self, x):
        return x[:, 0] ** 2

    def leverage(self, x):
        return np.cos(x[:, 0])

    def anew(self):
        return Placed(draw(self.size))

    def greedy(self, x, count, by):
        self.asked.append((len(x), count, by))
        return np.arange(len(x))[-count:]


def place(placement, here=HERE, size=40, seed=0):
    return placement(here, size, draw, Known(size), np.random.default_rng(seed))


# -- sampling proportionally ------------------------------------------------------------------


def test_inclusion_probabilities_are_proportional_capped_and_sum_to_n():
    w = np.array([1.0, 2.0, 3.0, 100.0])
    assert inclusion(w, 2) == pytest.approx([1 / 6, 2 / 6, 3 / 6, 1.0], rel=1e-9)
    for weights in (np.zeros(4), np.array([1.0, np.nan, 1.0, 1.0])):
        assert inclusion(weights, 2) == pytest.approx(0.5)
    assert inclusion(np.array([1.0, 0.0, 0.0]), 2) == pytest.approx([1.0, 0.5, 0.5])


def test_systematic_sampling_has_these_probabilities():
    pi, repeats = inclusion(np.array([1.0, 2.0, 3.0, 4.0, 50.0]), 3), 4000
    rng = np.random.default_rng(11)
    counts = np.zeros(5)
    for _ in range(repeats):
        chosen = systematic(pi, 3, rng)
        assert len(set(chosen)) == 3
        counts[chosen] += 1
    sigma = np.sqrt(pi * (1 - pi) / repeats)
    assert np.all(np.abs(counts / repeats - pi) <= 4 * sigma + 1e-12)  # 4 σ: 6e-5 a value


# -- placements -------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", ["importance", "uniform"])
def test_rad_follows_its_density(weights):
    # |r| = x²: p(x) ∝ 3x² + 1 on [0, 1], at most 4/2 = 2 times uniform: no cap with 4 candidates
    placed = place(RAD(weights=weights, candidates=16), size=4000)
    edges = np.linspace(0, 1, 11)
    share = np.diff(edges**3 + edges) / 2
    counts, _ = np.histogram(placed.x, edges)
    # systematic sampling has less variance than independent draws, so that p is conservative
    assert chisquare(counts, 4000 * share).pvalue > 0.01
    assert chisquare(counts, np.full(10, 400.0)).pvalue < 1e-6  # and a test that can fail
    if weights == "uniform":
        assert placed.density is None
    else:
        assert placed.density == pytest.approx((3 * placed.x[:, 0] ** 2 + 1) / 2, rel=0.02)
        # the weights 1/p restore the uniform measure: ∫ x² = 1/3
        omega = 1 / placed.density
        mean = np.sum(omega * placed.x[:, 0] ** 2) / omega.sum()
        assert mean == pytest.approx(1 / 3, rel=0.02)


def test_r3_retains_exactly_what_is_above_the_mean():
    x = place(R3()).x
    above = HERE[HERE[:, 0] ** 2 > np.mean(HERE**2)]
    assert len(x) == 40 and 0 < len(above) < 40
    assert np.array_equal(x[: len(above)], above)
    assert np.array_equal(x[len(above) :], draw(40 - len(above)))


def test_rar_begins_with_a_share_and_adds_the_largest_up_to_the_budget():
    rar = RAR(start=0.5, add=0.2, by="largest", candidates=2)
    assert rar.begin(40) == 20
    x, candidates = place(rar, HERE[:20]).x, draw(80)
    assert np.array_equal(x[:20], HERE[:20])
    assert np.array_equal(np.sort(x[20:], axis=0), np.sort(candidates, axis=0)[-8:])
    assert len(place(rar, HERE[:35]).x) == 40
    assert np.array_equal(place(rar, HERE).x, HERE)
    by_density = place(RAR(add=0.2, by="density"), HERE[:20]).x
    assert len(by_density) == 28 and by_density[20:].mean() > 0.6


def test_leverage_drops_the_least_and_keeps_the_order():
    x = place(Leverage(drop=0.25)).x
    kept = HERE[HERE[:, 0] <= np.sort(HERE[:, 0])[29]]  # cos falls: the largest x leave
    assert len(x) == 40 and np.array_equal(x[:30], kept)
    assert x[30:].mean() > 0.55  # ∝ x²: its mean is 3/4


def test_greedy_drops_as_leverage_does_and_inserts_the_choice():
    view = Known()
    x = Greedy(drop=0.25, candidates=3, by="P")(HERE, 40, draw, view, np.random.default_rng(0)).x
    assert view.asked == [(30, 10, "P")]
    assert np.array_equal(x[30:], draw(30)[-10:])


def test_every_placement_fills_a_larger_size():
    for placement in (Fresh(), RAD(), R3(), Leverage(), Greedy()):
        assert len(place(placement, size=64).x) == 64
    assert len(place(RAR(), size=64).x) == 43


def test_the_same_generator_gives_the_same_points():
    for placement in (Fresh(), RAD(), RAR(), R3(), Leverage()):
        assert np.array_equal(place(placement, HERE[:30]).x, place(placement, HERE[:30]).x)


NAN = float("nan")
OUTSIDE = [
    (Growth, "budget", (0,)),
    (Growth, "factor", (1.0, float("inf"), NAN)),
    (Growth, "every", (0,)),
    (Fresh, "every", (0,)),
    (RAD, "exponent", (0.0, NAN)),
    (RAD, "floor", (-1.0, NAN)),
    (RAD, "candidates", (1,)),
    (RAD, "weights", ("equal",)),
    (RAR, "start", (0.0, 1.0, NAN)),
    (RAR, "add", (0.0, 1.0, NAN)),
    (RAR, "by", ("size",)),
    (Leverage, "drop", (0.0, 1.0, NAN)),
    (Leverage, "exponent", (0.0, NAN)),
    (Greedy, "drop", (0.0, 1.0, NAN)),
    (Greedy, "by", ("p",)),
    (Greedy, "candidates", (1,)),
]


@pytest.mark.parametrize("cls, name, values", OUTSIDE)
def test_a_setting_outside_its_range_is_named(cls, name, values):
    for value in values:
        with pytest.raises(RuleError) as error:
            cls(**({"budget": 100} if cls is Growth else {}) | {name: value})
        assert str(error.value).startswith(f"{cls.__name__}.{name} = {value!r}: ")


# -- what is seen, against a dense oracle -----------------------------------------------------

POINTS = {"interior": Draw(60, weight=2.0), "boundary": 24}


def seen(devices: int):
    """(the view of the interior, its points, dense [J | r] of the interior rows, the spectrum)."""
    run = stage(devices=devices, network=MLP([5]), points=POINTS)
    points, theta = run.points(), run.model.theta0
    rows = np.asarray(run.residual.block(theta, points))
    j, r = rows[:, :-1], rows[:, -1]
    u, s, vt = np.linalg.svd(j, full_matrices=False)
    spectrum = Spectrum(jnp.asarray(s), jnp.asarray(vt), jnp.asarray(u.T @ r), jnp.asarray(0.0))
    white = whitening(spectrum, jnp.asarray(12))
    sight = Sight(run.mesh, run.terms[0], 7)
    view = TermView(sight, run.residual.only(0), theta, lambda: white, lambda: Placed(x))
    x = np.asarray(points[0].x)[:60]
    interior = np.asarray(points[0].sqrt_weight) > 0
    return view, x, np.flatnonzero(interior), u[:, :12], r, s


@pytest.mark.parametrize("devices", [1, 2])
def test_leverage_is_the_row_norm_of_q(devices):
    view, x, at, q, r, s = seen(devices)
    omega = 1 / 60  # K(x, x) is for weight 1
    h = omega * view.leverage(x)
    assert h == pytest.approx(np.sum(q[at] ** 2, axis=1), rel=1e-15 * s[0] / s[11] * 1e3)
    assert 0 < h.sum() < 12 and h.max() <= 1 + 1e-9
    size = np.sqrt(60 / 2.0)  # √(w/n) is the weight of a row
    assert view.residual(x) == pytest.approx(size * np.abs(r[at]), rel=1e-12)


def dense_greedy(w, e, count, by):
    """The definition: interpolation in the kernel w wᵀ by solving with the chosen points."""
    chosen: list[int] = []
    for _ in range(count):
        if chosen:
            k = w @ w[chosen].T
            power = np.sum(w**2, 1) - np.sum(k * np.linalg.solve(k[chosen], k.T).T, 1)
            rest = e - k @ np.linalg.solve(k[chosen], e[chosen])
        else:
            power, rest = np.sum(w**2, 1), e
        score = {"f": rest**2, "P": power, "fP": rest**2 * power}[by].copy()
        score[chosen] = -np.inf
        chosen.append(int(np.argmax(score)))
    return chosen


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("by", ["f", "P", "fP"])
def test_greedy_is_interpolation_in_the_tangent_space(by, devices):
    view, x, at, q, r, _ = seen(devices)
    w = q[at] * np.sqrt(60)
    e = np.sqrt(60) * (r - q @ (q.T @ r))[at]
    chosen = view.greedy(x, 8, by).tolist()
    first = {"f": np.abs(e), "P": np.sum(w**2, 1), "fP": np.abs(e) * np.linalg.norm(w, axis=1)}
    assert chosen[0] == np.argmax(first[by])
    assert chosen == dense_greedy(w, e, 8, by)


def test_greedy_begins_a_second_layer_once_the_tangent_space_is_spanned():
    view, x, _, q, _, _ = seen(1)
    chosen = view.greedy(x, 30, "P").tolist()
    assert len(set(chosen)) == 30  # more than the rank, 12, and none twice
    assert chosen[:12] == dense_greedy(q[:60] * np.sqrt(60), np.ones(60), 12, "P")
