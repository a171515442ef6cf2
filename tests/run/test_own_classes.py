"""A rule, a factorization and a placement of a user's own class, where the built-in ones stand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from stages import stage

from distgram.errors import RuleError
from distgram.linalg.factorization import Factorization
from distgram.linalg.spectrum import Spectrum
from distgram.linalg.tsqr import TSQR
from distgram.net.mlp import MLP
from distgram.pde.registry import get
from distgram.points.adaptive.placement import Placed, Placement
from distgram.rules.adaptive_ratio import AdaptiveRatio
from distgram.rules.baselines.baseline import Baseline, first_order_info
from distgram.rules.rule import Rule, StepInfo
from distgram.run.front import solve
from distgram.run.setup import Schedule
from distgram.run.solve import compiled_step
from distgram.run.state import start

SETUP = {
    "network": MLP([6]),
    "points": {"interior": 60, "boundary": 24},
    "schedule": Schedule(log_every=1, held_out=64),
    "steps": 4,
    "progress": False,
}


@dataclass(frozen=True)
class Halving(Rule):
    """The least-squares direction on the singular values above a share of the first, by half."""

    share: float = 0.1

    def init(self, p):
        return jnp.asarray(0)

    def step(self, spectrum, losses_at, theta, state):
        kept = (spectrum.s >= self.share * spectrum.s[0]).astype(theta.dtype)
        theta = theta - 0.5 * spectrum.direction(kept)
        loss, rank = losses_at(theta[None])[0], jnp.sum(kept).astype(int)
        moved, half = jnp.asarray(True), jnp.asarray(0.5)
        return theta, state + 1, StepInfo(loss, rank, jnp.asarray(self.share), half, moved)


class ByEigenvalues(Factorization):
    """The spectrum of the normal equations; its state counts the steps."""

    name = "by_eigenvalues"

    def init(self, rows):
        return jnp.asarray(0)

    def __call__(self, rows, needs, state):
        gram, gradient = rows.normal_equations()
        values, vectors = jnp.linalg.eigh(gram)
        s, vt = jnp.sqrt(jnp.maximum(values[::-1], 0.0)), vectors[:, ::-1].T
        c = jnp.where(s > 0, vt @ gradient / jnp.where(s > 0, s, 1.0), 0.0)
        square = jnp.sum(rows.term_losses()) - jnp.sum(c**2)
        return Spectrum(s, vt, c, jnp.sqrt(jnp.maximum(square, 0.0))), state + 1


@dataclass(frozen=True)
class Mirrored(Placement):
    """The present points, mirrored in the middle of the unit square."""

    def __call__(self, here, size, draw, view, rng):
        return Placed(1.0 - here)


@pytest.mark.slow
def test_a_rule_of_ones_own():
    u = solve(get("laplace2d"), rule=Halving(), **SETUP)
    losses = [row["mean_square_residual"] for row in u.history]
    assert u.result is not None and (u.result.rule, u.result.steps) == ("Halving", 4)
    assert len(losses) == 5 and losses[-1] < 0.5 * losses[0]
    assert u.described["rule"] == {"name": "Halving", "share": 0.1}
    assert [row["step_size"] for row in u.history[1:]] == [0.5] * 4
    assert u.history[-1]["rank"] == np.sum(
        u.spectra[-1].singular_values >= 0.1 * u.spectra[-1].singular_values[0]
    )


@pytest.mark.slow
def test_a_factorization_of_ones_own():
    """The same steps as by TSQR, up to the square root of rounding that the squares leave."""
    rule = AdaptiveRatio(initial=1.0, window=2.0)  # λ > 0.1: no singular value below √eps counts
    mine, tsqr = (
        solve(get("laplace2d"), rule=rule, factorization=f, **(SETUP | {"steps": 2}))
        for f in (ByEigenvalues(), TSQR())
    )
    assert mine.described["factorization"]["name"] == "by_eigenvalues"
    assert np.linalg.norm(mine.theta - tsqr.theta) <= 1e-8 * np.linalg.norm(tsqr.theta)
    assert mine.history[-1]["mean_square_residual"] < mine.history[0]["mean_square_residual"]


@pytest.mark.slow
def test_a_placement_of_ones_own():
    stays, moves = (
        solve(get("laplace2d"), placement=p, **(SETUP | {"steps": 3}))
        for p in (None, Mirrored(every=2))
    )
    for name, x in stays.record.points.items():
        assert np.array_equal(moves.record.points[name], 1.0 - x)
    same = [
        a["mean_square_residual"] == b["mean_square_residual"]
        for a, b in zip(stays.history, moves.history, strict=True)
    ]
    assert same[:3] == [True] * 3 and not same[3]


def moved(theta, state, loss):
    """A step that goes nowhere, with a state and a loss of a test's choice."""
    moved = jnp.asarray(True)
    return theta, state, first_order_info(loss, jnp.asarray(1.0), moved)


@dataclass(frozen=True)
class OwnRule(Rule):
    before: Callable[[], Any]
    after: Callable[[Any, Any], Any]
    said: Callable[[Any], Any] = lambda loss: loss

    def init(self, p):
        return self.before()

    def step(self, spectrum, losses_at, theta, state):
        loss = spectrum.rce()[0] ** 2
        return moved(theta, self.after(state, loss), self.said(loss))


@dataclass(frozen=True)
class OwnBaseline(Baseline):
    before: Callable[[], Any]
    after: Callable[[Any, Any], Any]
    said: Callable[[Any], Any] = lambda loss: loss

    def init(self, objective, theta):
        return self.before()

    def step(self, objective, theta, state):
        loss = objective(theta)
        return moved(theta, self.after(state, loss), self.said(loss))


def halved(state, loss):
    return {"damping": 0.5 * state["damping"]}


def by_if(state, loss):
    return state if loss < 1 else halved(state, loss)


BAD = {
    "an int that becomes a float": (
        lambda: {"damping": 1},
        halved,
        {"state['damping']", "int64", "float64", "jnp.asarray(x, jnp.float64)"},
    ),
    "a float32": (
        lambda: {"damping": jnp.asarray(1.0, jnp.float32)},
        lambda state, loss: {"damping": state["damping"] * loss},
        {"state['damping']", "float32", "float64", "jnp.asarray(x, jnp.float64)"},
    ),
    "another shape": (
        lambda: {"damping": jnp.zeros(2)},
        lambda state, loss: {"damping": jnp.zeros(3)},
        {"state['damping']", "(2,)", "(3,)"},
    ),
    "another structure": (lambda: (), lambda state, loss: (loss,), {"structure"}),
    "a Python if": (lambda: {"damping": jnp.asarray(1.0)}, by_if, {"jnp.where", __file__}),
    "a random key": (lambda: [jax.random.key(0)], lambda s, loss: s, {"state[0]", "key_data"}),
}


@pytest.mark.parametrize("own", [OwnRule, OwnBaseline])
@pytest.mark.parametrize(("before", "after", "words"), BAD.values(), ids=BAD)
def test_a_state_that_a_step_changes_is_named_before_compiling(own, before, after, words):
    run = stage(rule=own(before, after), network=MLP([5]), points=SETUP["points"])
    with pytest.raises(RuleError) as caught:
        compiled_step(run, start(run))
    text = str(caught.value)
    assert all(word in text for word in {repr(own.__name__), *words}), text


@pytest.mark.parametrize("own", [OwnRule, OwnBaseline])
def test_a_loss_that_is_no_scalar_is_named(own):
    rule = own(lambda: (), lambda state, loss: state, lambda loss: loss[None])
    run = stage(rule=rule, network=MLP([5]), points=SETUP["points"])
    with pytest.raises(RuleError, match=r"StepInfo\.loss.*\(1,\)"):
        compiled_step(run, start(run))
