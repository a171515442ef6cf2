"""The line searches on functions of one step size."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from distgram.rules.line_search import Backtracking, GridSearch


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
