"""Measurements from CSV files and unknown coefficients, as a config states them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from decay import COUNT, table

import distgram

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


@pytest.fixture
def decay(folder):
    folder.write("decay.py", PDE)
    folder.write("sensors.csv", table(sigma=True))
    return folder


def test_what_a_run_has_found_is_stated_and_loaded(decay):
    ended = decay.solve("--json", text=CONFIG)
    assert ended.code == 0, ended
    found = json.loads(ended.out)["unknown"]
    rate = found["rate"]["value"]
    assert f"rate = {rate:.6g} ±" in ended.err
    assert distgram.load(decay.path / "run").coefficients["rate"] == pytest.approx(rate, rel=1e-12)


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
        ("x,u,sigma\n0.5,1,0.1\n0.6,1,0\n", ["row 2", "'sigma': 0", "> 0"]),
        ("x,u,sigma\n0.5,1,1e300\n0.6,1,1e-300\n", ["row 1", "'sigma': 1e+300", "median"]),
        ("x,u,sigma\n0.5,1,1\n0.6,1,1\n0.7,1,1e-9\n", ["row 3", "'sigma': 1e-09", "median"]),
        ("x,u,sigma\n0.5,1,1e-200\n", ["row 1", "'sigma': 1e-200", "1e-150"]),
        ("x,u\n0.5,1\n1.5,1\n", ["row 2", "x = 1.5 is outside"]),
    ],
)
def test_a_wrong_row_of_data_is_named(decay, text, words):
    decay.write("sensors.csv", text)
    sentence = decay.solve(text=CONFIG).sentence
    for word in ("sensors.csv", *words):
        assert word in sentence, sentence
