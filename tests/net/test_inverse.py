"""Data as a term, unknown coefficients, and their uncertainty: decay at an unknown rate."""

from __future__ import annotations

from functools import partial as bound

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from decay import NOISE, RATE, SOURCE, measurements
from stages import stage

from distgram.errors import ProblemError
from distgram.geometry.regions import Box, Faces
from distgram.net.mlp import MLP
from distgram.net.unknown import Unknown, positions
from distgram.pde.measurements import measured
from distgram.pde.operators import partial, value
from distgram.pde.problem import HardConstraint, Problem, Term
from distgram.rules.adaptive_ratio import AdaptiveRatio
from distgram.run.front import solve
from distgram.run.inference import DataSpectrum, covariance, estimates, noise_scale
from distgram.run.setup import Schedule

BOX, WEIGHT = Box((0.0,), (1.0,)), 0.01


def posed(data, rate, source) -> Problem:
    """u' = -k u + q, u(0) = 1 by the lift, which is the solution for q = 0; and measurements."""

    def decay(u):
        return lambda x: partial(u, 0)(x) + rate * u(x)

    terms = {
        "interior": Term(decay, lambda x: source * jnp.ones(1), BOX),
        "start": Term(value, 1.0, Faces(BOX, ((0, 0),))),
        "sensors": measured(*data, weight=WEIGHT),
    }
    lift = HardConstraint(lambda x: jnp.exp(-rate * x), lambda x: x, ("start",))
    return Problem(BOX, terms, name="decay", constraint=lift)


def setup(sigma: bool = True) -> dict:
    return {
        "problem": bound(posed, measurements(sigma)),
        "network": MLP([6]),
        "hard_constraint": True,
        "points": {"interior": 64},
        "unknown": {"rate": Unknown(1.0, positive=True), "source": Unknown(0.0)},
        "rule": AdaptiveRatio(excursion=1.0),
        "schedule": Schedule(held_out=32),
    }


def test_rows_of_data_are_weighted_by_their_noise():
    """√(w/σ²/Σσ⁻²) (u - y): by hand; the same again when held out."""
    run = stage(devices=2, **setup())
    x, y, sigma = measurements(sigma=True)
    u = jax.vmap(run.model.field(run.model.theta0))(jnp.asarray(x))[:, 0]
    by_hand = WEIGHT * np.sum((u - y) ** 2 / sigma**2) / np.sum(sigma**-2.0)
    losses = jax.jit(lambda theta, points: run.residual.rows(theta, points).term_losses())
    for points in (run.points(), run.held_out([0])):
        assert float(losses(run.model.theta0, points)[1]) == pytest.approx(
            float(by_hand), rel=1e-12
        )
    assert run.size == 64 + len(x)


def test_coefficients_are_columns_of_the_jacobian():
    """∂r/∂ξ: of  u' + k u - q  with k = exp(ξ₁): by central differences of the whole residual, also
    through the lift; and exactly -1 for q at the interior."""
    run = stage(**setup())
    points, (unknowns, where) = run.points(), positions(run.model)
    assert [u.name for u in unknowns] == ["rate", "source"]
    theta, block = run.model.theta0 + 0.1, jax.jit(run.residual.block)
    rows, step = np.asarray(block(theta, points)), 1e-5
    for column in where:
        e = step * jnp.eye(run.model.p)[column]
        ends = [block(theta + s * e, points)[:, -1] for s in (1.0, -1.0)]
        difference = np.asarray(ends[0] - ends[1]) / (2 * step)
        # h² of truncation times third derivatives of size one, eps/h of rounding
        assert np.allclose(rows[:, column], difference, rtol=0, atol=1e-9)
    interior = np.asarray(points[0].sqrt_weight)
    assert np.allclose(rows[: len(interior), where[1]], -interior, rtol=0, atol=1e-15)


def test_the_covariance_is_that_of_the_normal_equations():
    a = np.random.default_rng(0).standard_normal((30, 7))
    s, vt = np.linalg.svd(a)[1:]
    assert np.allclose(covariance(s, vt[:, [2, 5]], 7), np.linalg.inv(a.T @ a)[2:6:3, 2:6:3])
    unseen = covariance(s[:3], vt[:3, [2]], 7)[0, 0]  # all but three directions left out
    assert unseen == pytest.approx((1 - np.sum(vt[:3, 2] ** 2)) / (1e-10 * s[0]) ** 2, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("sigma", [True, False])
def test_coefficients_are_recovered_within_their_uncertainty(sigma):
    """By a run; what it states is what an ordinary fit of exp to the same table states."""
    u = solve(**setup(sigma), steps=25, progress=False)
    assert u.result is not None
    found, (x, _, s) = u.result.unknown, measurements(sigma)
    x, weight = x[:, 0], 1 / (s if sigma else NOISE)

    def model(k, q):
        return q / k + (1 - q / k) * np.exp(-k * x)

    k, q = (found[name]["value"] for name in ("rate", "source"))
    h = 1e-6
    j = np.stack(
        [(model(k + h, q) - model(k - h, q)) / h, (model(k, q + h) - model(k, q - h)) / h], 1
    )
    j *= 0.5 * np.broadcast_to(weight, x.shape)[:, None]
    fit = np.sqrt(np.diag(np.linalg.inv(j.T @ j)))
    for (name, truth), sd in zip((("rate", RATE), ("source", SOURCE)), fit, strict=True):
        stated = found[name]
        assert abs(stated["value"] - truth) < 3 * stated["sd"]
        assert stated["low"] < stated["value"] < stated["high"]
        # the equation is a prior of finite strength; s from 60 residuals is known to 10 %
        assert stated["sd"] == pytest.approx(sd, rel=0.05 if sigma else 0.3)
    assert u.coefficients["rate"] == pytest.approx(k, rel=1e-12)


def test_the_same_on_other_devices():
    """One and eight devices: the estimate of the same θ, to rounding over the condition."""
    found = []
    for devices in (1, 8):
        run = stage(devices=devices, **setup())
        found.append(estimates(run, run.model.theta0, run.points())["rate"])
    assert found[0].sd == pytest.approx(found[1].sd, rel=1e-6)


def test_without_data_no_noise_is_known():
    seen = DataSpectrum(*map(np.asarray, ([1.0], [[1.0]], 0.0, 0.0)))
    assert np.isnan(noise_scale((), 1, seen))


@pytest.mark.parametrize(
    "name, given",
    [
        ("initial", {"initial": -1.0, "positive": True}),
        ("initial", {"initial": 0.0, "positive": True}),
        ("scale", {"initial": 1.0, "scale": 0.0}),
        ("scale", {"initial": 1.0, "scale": 2.0, "positive": True}),
    ],
)
def test_a_setting_outside_its_range_is_named(name, given):
    with pytest.raises(ProblemError, match=rf"^Unknown\.{name} = "):
        Unknown(**given)
