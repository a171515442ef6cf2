"""The estimate of the error against iterations whose error is known, and against real runs."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

import distgram as dg
from distgram.run.estimate import APART, FEWEST, KEPT, POINTS, begin, estimate, keep

U = np.random.default_rng(0).standard_normal((POINTS, 2))
WRONG = np.random.default_rng(1).standard_normal((POINTS, 2))


def way_of(errors, constant):
    """The way of an iteration u* + e w, ‖w‖ = 1, whose residual is e / constant."""
    w = WRONG / np.sqrt(np.mean(WRONG**2))
    way = begin(2)
    for e in errors:
        way = keep(way, U + e * w, e / constant)
    return way, U + errors[-1] * w, errors[-1] / constant


@pytest.mark.parametrize("constant", [1e-3, 1.0, 1e4])
def test_an_error_that_falls_with_the_residual_is_found(constant):
    way, u, residual = way_of(10.0 ** -np.arange(0.0, 6.0, 0.25), constant)
    error = np.sqrt(np.mean((u - U) ** 2)) / np.sqrt(np.mean(u**2))
    found = estimate(way, u, residual)
    assert found is not None
    # the nearest moment is APART away: the distance to it is its error within 1/APART of that
    assert 1 - 1 / APART <= found / error <= 1 + 1 / APART


def test_too_little_of_a_way_gives_no_estimate():
    way, u, residual = way_of([1.0], 1.0)
    assert estimate(way, u, residual) is None  # nothing to compare with
    way, u, residual = way_of([1.0, 0.9, 0.8], 1.0)
    assert np.isfinite(way.residual).sum() == 1  # moments that are near each other are one
    assert estimate(way, u, residual) is None
    assert estimate(way_of([1.0, 0.1, 0.01], 1.0)[0], np.zeros_like(U), 1e-3) is None  # u = 0
    assert estimate(way_of([1.0, 0.1, 0.01], 1.0)[0], U, np.nan) is None
    assert FEWEST >= 2


def test_the_last_moments_are_kept_in_order():
    way, *_ = way_of(10.0 ** -np.arange(0.0, 12.0), 1.0)
    assert np.allclose(way.residual, 10.0 ** -np.arange(12.0 - KEPT, 12.0))
    assert keep(way, U, np.nan) is way and keep(way, U, np.inf) is way


@pytest.mark.slow
@pytest.mark.parametrize("k", [1, 2])
def test_tolerance_ends_a_run_near_that_error(k):
    """Poisson on a square: what the run says of its error against the exact solution."""
    square = dg.Box((0, 0), (1, 1))

    def exact(x):
        return jnp.sin(k * jnp.pi * x[0]) * jnp.sin(jnp.pi * x[1])

    interior = dg.Term(dg.laplacian, lambda x: -(k**2 + 1) * jnp.pi**2 * exact(x), square)
    terms = {"interior": interior, "edge": dg.Dirichlet(0.0, square.boundary)}
    u = dg.solve(
        dg.Problem(square, terms, exact=exact),
        tolerance=1e-4,
        rule=dg.AdaptiveRatio(excursion=1.0, acceleration=0.75),
        network=dg.MLP([12, 12]),
        points={"interior": 400, "edge": 160},
        mesh=dg.make_mesh(1),
    )
    assert u.result is not None and u.result.reason == "tolerance" and u.result.success
    assert u.error is not None and u.error_estimate is not None and u.error_estimate <= 1e-4
    assert 0.1 <= u.error_estimate / u.error <= 30
    guesses = [row["error_estimate"] for row in u.history]
    assert guesses[0] is None and guesses[-1] is not None
