"""Data as a term, unknown coefficients, and their uncertainty: decay at an unknown rate."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from library import stage_of

import distgram
from distgram.config import schema as configs
from distgram.linalg.mesh import make_mesh
from distgram.net.unknown import positions
from distgram.run.inference import DataSpectrum, covariance, estimates, noise_scale

# u' = -k u + q, u(0) = 1 by the lift: u = exp(-k x) for q = 0.
PDE = """
import jax.numpy as jnp
from distgram.pde.operators import partial, value
from distgram.pde.problem import HardConstraint, Problem, Term
from distgram.geometry.regions import Box, Faces

box = Box((0.0,), (1.0,))
def problem(rate=1.0, source=0.0):
    decay = lambda u: lambda x: partial(u, 0)(x) + rate * u(x)
    return Problem(box, {
        'interior': Term(decay, lambda x: source * jnp.ones(1), box),
        'start': Term(value, lambda x: jnp.ones(1), Faces(box, ((0, 0),))),
    }, name='decay', inputs=('x',), constraint=HardConstraint(
        lambda x: jnp.exp(-rate * x), lambda x: x, ('start',)))
"""
CONFIG = """
[problem]
file = "decay.py"
[model]
hidden = [6]
hard_constraint = true
[points]
interior = { count = 64 }
[data.sensors]
file = "sensors.csv"
weight = 0.01
[unknown]
rate = { initial = 1.0, positive = true }
source = { initial = 0.0 }
[rule]
name = "adaptive_ratio"
excursion = 1.0
[run]
steps = 25
checkpoint_every = 5
held_out = 32
"""
RATE, SOURCE, NOISE, COUNT = 2.0, 0.5, 0.01, 60


def table(sigma: bool, seed: int = 0) -> str:
    """Noisy values of the solution; every second one ten times noisier where sigma is stated."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(0.0, 1.0, COUNT)
    s = NOISE * np.where(np.arange(COUNT) % 2 == 1, 10.0 if sigma else 1.0, 1.0)
    clean = SOURCE / RATE + (1 - SOURCE / RATE) * np.exp(-RATE * x)
    u = clean + s * rng.standard_normal(COUNT)
    rows = [f"{a:.17g},{b:.17g}" + f",{c:.3g}" * sigma for a, b, c in zip(x, u, s, strict=True)]
    return "\n".join(["x,u" + ",sigma" * sigma, *rows]) + "\n"


@pytest.fixture
def decay(folder):
    folder.write("decay.py", PDE)
    folder.write("sensors.csv", table(sigma=True))
    return folder


def assembled(folder, devices: int = 2, text: str = CONFIG):
    run = stage_of(configs.load(folder.write("c.toml", text)), make_mesh(devices))
    return run, run.points()


def test_rows_of_data_are_weighted_by_their_noise(decay):
    """√(w/σ²/Σσ⁻²) (u - y): by hand; the same again when held out."""
    run, points = assembled(decay)
    x, y, sigma = np.loadtxt(decay.path / "sensors.csv", delimiter=",", skiprows=1).T
    u = jax.vmap(run.model.field(run.model.theta0))(jnp.asarray(x)[:, None])[:, 0]
    by_hand = 0.01 * np.sum((u - y) ** 2 / sigma**2) / np.sum(sigma**-2.0)
    for block in (points, run.held_out([0])):
        losses = jax.jit(run.residual.rows(run.model.theta0, block).term_losses)()
        assert float(losses[1]) == pytest.approx(float(by_hand), rel=1e-12)
    assert run.size == 64 + COUNT


def test_coefficients_are_columns_of_the_jacobian(decay):
    """∂r/∂ξ: of  u' + k u - q  with k = exp(ξ₁): by central differences of the whole residual, also
    through the lift; and exactly -1 for q at the interior."""
    run, points = assembled(decay, devices=1)
    unknowns, where = positions(run.model)
    assert [u.name for u in unknowns] == ["rate", "source"]
    theta = run.model.theta0 + 0.1

    def rows(theta):
        j, r = jax.jit(run.residual.rows(theta, points).multiply)(jnp.eye(run.model.p))
        return np.asarray(j), np.asarray(r)

    j, _ = rows(theta)
    step = 1e-5
    for column in where:
        e = step * jnp.eye(run.model.p)[column]
        ends = [rows(theta + s * e)[1] for s in (1.0, -1.0)]
        difference = (ends[0] - ends[1]) / (2 * step)
        # h² of truncation times third derivatives of size one, eps/h of rounding
        assert np.allclose(j[:, column], difference, rtol=0, atol=1e-9)
    interior = np.asarray(points[0].sqrt_weight)
    assert np.allclose(j[: len(interior), where[1]], -interior, rtol=0, atol=1e-15)


def test_the_covariance_is_that_of_the_normal_equations():
    a = np.random.default_rng(0).standard_normal((30, 7))
    s, vt = np.linalg.svd(a)[1:]
    assert np.allclose(covariance(s, vt[:, [2, 5]], 7), np.linalg.inv(a.T @ a)[2:6:3, 2:6:3])
    unseen = covariance(s[:3], vt[:3, [2]], 7)[0, 0]  # all but three directions left out
    assert unseen == pytest.approx((1 - np.sum(vt[:3, 2] ** 2)) / (1e-10 * s[0]) ** 2, rel=1e-6)


@pytest.mark.parametrize("sigma", [True, False])
def test_coefficients_are_recovered_within_their_uncertainty(decay, sigma):
    """By a run; what it states is what an ordinary fit of exp to the same table states."""
    decay.write("sensors.csv", table(sigma))
    ended = decay.solve("--json", text=CONFIG)
    assert ended.code == 0, ended
    found = json.loads(ended.out)["unknown"]
    x, y, *s = np.loadtxt(decay.path / "sensors.csv", delimiter=",", skiprows=1).T
    weight = 1 / (s[0] if sigma else NOISE)

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
    assert f"rate = {k:.6g} ±" in ended.err
    u = distgram.load(decay.path / "run")
    assert float(u.model.field(u.theta).coefficients["rate"]) == pytest.approx(k, rel=1e-12)


def test_the_same_on_other_devices(decay):
    """One and eight devices: the estimate of the same θ, to rounding over the condition."""
    found = []
    for devices in (1, 8):
        run, points = assembled(decay, devices)
        found.append(estimates(run, run.model.theta0, points)["rate"])
    assert found[0].sd == pytest.approx(found[1].sd, rel=1e-6)


def test_without_data_no_noise_is_known():
    seen = DataSpectrum(*map(np.asarray, ([1.0], [[1.0]], 0.0, 0.0)))
    assert np.isnan(noise_scale((), 1, seen))


def test_a_run_with_data_goes_on_and_sees_a_change(decay):
    assert decay.solve("--set", "run.steps=5", text=CONFIG).code == 0
    run = decay.path / "run"
    assert (run / "data-sensors.csv").read_text() == (decay.path / "sensors.csv").read_text()
    with np.load(run / "solution.npz") as file:
        assert file["points_sensors"].shape == (COUNT, 1)
    assert decay.call("resume", run, "--set", "run.steps=7").code == 0
    decay.write("sensors.csv", table(sigma=True, seed=1))
    sentence = decay.call("resume", run, "--set", "run.steps=9").sentence
    assert "data.sensors.file" in sentence and "has changed" in sentence


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("rate = {", "rte = {", ["'rte'", "did you mean 'rate'?"]),
        ("initial = 1.0,", "initial = -1.0,", ["unknown.rate.initial", "-1.0"]),
        ("[data", "parameters = { rate = 2.0 }\n[data", ["unknown key"]),
        ('.py"', '.py"\nparameters = { rate = 2.0 }', ["unknown.rate", "problem.parameters"]),
        ("data.sensors", "data.interior", ["data.interior", "has that name"]),
        ('"sensors.csv"', '"none.csv"', ["none.csv", "no such file"]),
        ('.py"', '.py"\nwithout = ["strat"]', ["problem.without", "'strat'", "'start'?"]),
        ('.py"', '.py"\nwithout = ["start"]', ["problem.without", "'start'", "hard_constraint"]),
    ],
)
def test_what_cannot_be_posed_is_named(decay, old, new, words):
    sentence = decay.solve(text=CONFIG.replace(old, new, 1)).sentence
    for word in words:
        assert word in sentence, sentence
    assert decay.folders() == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x\n0.5\n", ["expected what was measured", "u"]),
        ("x,u,sigma\n0.5,1,0.1\n0.6,1,0\n", ["row 2", "sigma = 0", "> 0"]),
        ("x,u\n0.5,1\n1.5,1\n", ["row 2", "x = 1.5 is outside"]),
    ],
)
def test_a_wrong_row_of_data_is_named(decay, text, words):
    decay.write("sensors.csv", text)
    sentence = decay.solve(text=CONFIG).sentence
    for word in ("sensors.csv", *words):
        assert word in sentence, sentence
