"""A user's functions: float64 and real, or one sentence that names them and the line."""

from __future__ import annotations

import logging
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cli_runs import TINY, environment

import distgram as dg
from distgram.errors import OperatorError, ProblemError
from distgram.pde.measurements import measured

FILE = """
import math
import jax, jax.numpy as jnp, numpy as np
import distgram as dg

class Stop(BaseException):
    pass

def fails(error):
    raise error

def once(u):
    jax.config.update("jax_enable_x64", False)
    return dg.laplacian(u)

square = dg.Box((0, 0), (1, 1))
def problem():
    {before}
    terms = {{
        "interior": dg.Term({operator}, {target}, square),
        "boundary": dg.Dirichlet(0.0, square.boundary),
    }}
    return dg.Problem(square, terms, exact={exact})
"""
LINE = 1 + FILE[: FILE.index("{operator}")].count("\n")


def asked(folder, **parts: str):
    """`distgram solve` of the file with these parts."""
    given = {"before": "pass", "operator": "dg.laplacian", "target": "-1.0", "exact": "None"}
    folder.write("mine.py", FILE.format(**given | parts))
    text = TINY.replace('name = "laplace2d"', 'file = "mine.py"')
    try:
        return folder.solve("--set", "run.steps=1", text=text)
    finally:
        assert jax.config.jax_enable_x64


@pytest.mark.parametrize(
    ("part", "code", "words"),
    [
        (
            "exact",
            'jax.config.update("jax_enable_x64", False)',
            ["it turns jax_enable_x64 off", "float64"],
        ),
        ("operator", "lambda u: lambda x: jnp.float32(u(x))", ["operator", "float32", "float64"]),
        (
            "operator",
            "lambda u: lambda x: jax.jit(lambda v: u(v.astype(jnp.float32)).astype(float))(x)",
            ["operator", "float32"],
        ),
        ("operator", "lambda u: lambda x: u(x).astype(jnp.bfloat16)", ["operator", "bfloat16"]),
        ("target", "lambda x: jnp.float32(x[0])", ["target", "float32"]),
        ("target", "jnp.float32(0.1)", ["target", "float32"]),
        ("target", "np.float32(0.1)", ["target", "float32"]),
        ("target", "np.ones(1, np.float16)", ["target", "float16"]),
        ("exact", "lambda x: jnp.float32(x[0])", ["exact", "float32"]),
        ("operator", "lambda u: lambda x: 1j * u(x)", ["operator", "complex", "two real outputs"]),
        ("target", "lambda x: jnp.exp(1j * x[0])", ["target", "complex", "two real outputs"]),
        ("target", "np.ones(1) * 1j", ["target", "complex"]),
        ("exact", "lambda x: 1j * x[0]", ["exact", "complex"]),
        ("exact", "lambda x: jnp.nan * x[0]", ["exact", "finite", "x = [0.0, 0.0]"]),
        ("exact", "lambda x: 1 / 0", ["exact", "ZeroDivisionError", "mine.py"]),
        ("operator", "lambda u: lambda x: (u(x), u(x))", ["operator", "(2, 1)", "(m,)"]),
        ("operator", "lambda u: lambda x: None", ["operator", "None"]),
        ("operator", "lambda u: None", ["operator", "None", "function of x"]),
        ("operator", "lambda u: dg.laplacian(u, 1)", ["laplacian", "axes = 1", "(0, 1)"]),
        ("operator", "lambda u: fails(Stop('here'))", ["operator", "Stop: here", "line 10"]),
        ("operator", "lambda u: fails(SystemExit(3))", ["operator", "SystemExit: 3", "line 10"]),
        ("before", "raise SystemExit(3)", ["SystemExit: 3", f"line {LINE - 2}"]),
        ("before", "fails(Stop('here'))", ["Stop: here", "line 10"]),
        ("target", "lambda x: np.sin(x[0])", ["target", f"line {LINE}", "jnp.sin"]),
        ("target", "lambda x: math.sin(x[0])", ["target", f"line {LINE}", "jnp.sin"]),
        ("target", "lambda x: 1.0 if x[0] > 0 else 0.0", ["target", f"line {LINE}", "jnp.where"]),
        ("target", "None", ["target = None"]),
    ],
)
def test_a_function_that_cannot_be_used_is_named(folder, part, code, words):
    sentence = asked(folder, **{part: code}).sentence
    for word in words:
        assert word in sentence, sentence
    assert folder.folders() == []


@pytest.mark.parametrize("name", ["first", "at-once"])
def test_a_file_that_turns_float64_off_is_named_from_the_first_time_on(folder, name):
    """The first name of distgram that a process takes sets it."""
    off = "import jax\nimport distgram as dg\nsquare = dg.Box((0, 0), (1, 1))\ndef problem():\n"
    off += "    jax.config.update('jax_enable_x64', False)\n"
    off += "    edge = dg.Dirichlet(0.0, square.boundary)\n"
    off += "    return dg.Problem(square, {'edge': edge})\n"
    if name == "at-once":
        off = "import jax\njax.config.update('jax_enable_x64', False)\n"
        off += "from distgram.pde.problems.laplace2d import laplace2d as problem\n"
    folder.write("off.py", off)
    command = [sys.executable, "-m", "distgram_launch.cli", "check", str(folder.path / "off.py")]
    ended = subprocess.run(command, env=environment(), capture_output=True, text=True)
    assert ended.returncode == 2 and "turns jax_enable_x64 off" in ended.stderr, ended


@pytest.mark.filterwarnings("ignore:Explicitly requested dtype float64")
def test_an_operator_that_turns_float64_off_is_named(folder):
    ended = asked(folder, operator="once")
    assert ended.code == 2 and "operator has turned jax_enable_x64 off" in ended.err
    assert folder.folders() == []


@pytest.mark.parametrize(
    ("part", "code"),
    [
        ("operator", "lambda u: lambda x: jnp.where(x[0] > 0.5, 1, 2) * dg.laplacian(u)(x)"),
        ("target", "lambda x: 1"),
        ("target", "np.int32(3)"),
        ("exact", "lambda x: jnp.abs(jnp.exp(1j * x[0]))"),
    ],
)
def test_integers_and_what_is_complex_inside_are_right(folder, part, code):
    assert asked(folder, **{part: code}).code in (0, 1)


def test_measured_values_of_few_digits_are_said(caplog):
    x = np.linspace(0.0, 1.0, 5)[:, None]
    with caplog.at_level(logging.WARNING, "distgram"):
        measured(x, np.ones(5), 0.1)
        measured(x, np.ones(5, int))
        assert caplog.text == ""
        term = measured(x, jnp.ones(5, jnp.float32))
    assert "values is of float32" in caplog.text
    assert term.region.sample(5, [0]).dtype == np.float64


def test_an_axis_that_is_no_sequence_is_named():
    with pytest.raises(OperatorError, match=r"axes = 1: expected"):
        dg.laplacian(lambda x: x, 1)(jnp.zeros(2))
    with pytest.raises(ProblemError, match="float32"):
        dg.Term(dg.laplacian, np.float32(1.0), dg.Box(0, 1))
