"""The user's own equation, a Python file: what is wrong in one is named, what is unusual works."""

from __future__ import annotations

import json

import pytest
from cli_runs import TINY

PDE = """
import jax.numpy as jnp
from distgram.pde.operators import laplacian, value
from distgram.pde.problem import Problem, Term
from distgram.geometry.regions import Box, Faces

box = Box((0.0, 0.0), (1.0, 1.0))
zero = lambda x: jnp.zeros(1)
"""


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            "line = Box((0.0,), (1.0,))\n"
            "terms = {'interior': Term(laplacian, zero, line), "
            "'boundary': Term(value, zero, Faces(box))}\n"
            "def problem():\n    return Problem(box, terms, name='mine')",
            ["'mine'", "'interior'", "dimension 1", "expected 2"],
        ),
        (
            "terms = {'interior': Term(lambda u: lambda x: jnp.ones(3), zero, box), "
            "'boundary': Term(value, zero, Faces(box))}\n"
            "problem = Problem(box, terms, name='mine')",
            ["'mine'", "'interior'", "(3,)", "(1,)"],
        ),
        (
            "terms = {'interior': Term(laplacian, lambda x: 1 / x[:1].round(), box), "
            "'boundary': Term(value, zero, Faces(box))}\n"
            "problem = Problem(box, terms, name='mine')",
            ["'mine'", "'interior'", "target is not finite at x = [0."],
        ),
        (
            "terms = {'interior': Term(lambda u: u(3), zero, box), "
            "'boundary': Term(value, zero, Faces(box))}\n"
            "problem = Problem(box, terms, name='mine')",
            ["'mine'", "'interior'", "cannot be traced"],
        ),
        (
            "terms = {'interior': Term(laplacian, zero, box), "
            "'boundary': Term(value, zero, Faces(box))}\n"
            "problem = Problem(box, terms, name='mine', exact=lambda x: x)",
            ["'mine'", "exact solution", "(2,)", "(1,)"],
        ),
        ("import nonesuch", ["mine.py", "does not import", "nonesuch", "line 10"]),
        ("raise SystemExit(3)", ["mine.py", "does not import", "SystemExit", "line 10"]),
        ("def problem(:", ["mine.py", "does not import", "SyntaxError", "line 10"]),
        ("def problem():\n    return 1 / 0", ["mine.py", "ZeroDivisionError"]),
        ("problems = 3", ["mine.py", "expected it to define `problem`", "problems"]),
    ],
    ids=[
        *("region of the wrong dimension", "residual of the wrong shape", "non-finite target"),
        *("operator that fails", "exact of the wrong shape", "import that fails"),
        *("file that exits", "syntax error", "function that fails", "no problem in it"),
    ],
)
def test_a_wrong_problem_file_is_named(folder, body, words):
    folder.write("mine.py", f"{PDE}\n{body}\n")
    sentence = folder.solve(text=TINY.replace('name = "laplace2d"', 'file = "mine.py"')).sentence
    for word in words:
        assert word in sentence, sentence
    assert folder.folders() == []


def test_a_missing_problem_file_is_named(folder):
    sentence = folder.solve(text=TINY.replace('name = "laplace2d"', 'file = "mine.py"')).sentence
    assert "mine.py" in sentence and "no such file" in sentence


@pytest.mark.parametrize(
    "body",
    [
        # u = 0: an absolute error but no relative one
        "problem = Problem(box, terms(box), name='mine', exact=zero)",
        # a boundary whose smallest face has a thousandth of the points
        "box = Box((0.0, 0.0), (1000.0, 1.0))\n"
        "problem = Problem(box, terms(box), name='mine', exact=zero)",
        # dataclasses look up the module they stand in
        "from dataclasses import dataclass\n@dataclass\nclass Wave:\n    k: 'float' = 1.0\n"
        "problem = Problem(box, terms(box), name='mine')",
    ],
    ids=["zero solution", "slender box", "dataclass"],
)
def test_an_unusual_problem_file_is_right(folder, body):
    terms = (
        "def terms(box):\n    return {'interior': Term(laplacian, zero, box), "
        "'boundary': Term(value, zero, Faces(box))}"
    )
    folder.write("mine.py", f"{PDE}\n{terms}\n{body}\n")
    text = TINY.replace('name = "laplace2d"', 'file = "mine.py"').replace(
        "count = 40", "count = 4000"
    )
    text = text.replace("held_out = 64", "held_out = 4000").replace("steps = 6", "steps = 1")
    ended = folder.solve("--json", text=text)
    assert ended.code == 0, ended
    result = json.loads(ended.out)
    assert result["relative_l2_error"] is None
    assert (result["l2_error"] is None) == ("exact" not in body)
