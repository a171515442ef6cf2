"""The user's own equation, a Python file: what is wrong in one is named, what is unusual works."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from sysconfig import get_path

import pytest
from cli_runs import TINY

from distgram.errors import ProblemError
from distgram.pde.module_file import beside
from distgram.pde.registry import file_builder, load_file

PDE = """
import jax.numpy as jnp
from distgram.geometry import Box
from distgram.pde import Dirichlet, Problem, Term, laplacian

box = Box((0, 0), (1, 1))


def terms(interior=laplacian, target=0.0, inside=None, box=box):
    return {
        "interior": Term(interior, target, inside or box),
        "boundary": Dirichlet(0.0, box.boundary),
    }

"""
LAST = PDE.count("\n") + 1  # the line of the file that comes after it


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("problem = Problem(box, terms(inside=Box(0, 1)))", ["'interior'", "1", "2"]),
        (
            "problem = Problem(box, terms(lambda u: lambda x: jnp.ones(3), lambda x: jnp.ones(1)))",
            ["'interior'", "(3,)", "(1,)"],
        ),
        (
            "problem = Problem(box, terms(target=lambda x: 1 / x[0].round()))",
            ["'interior'", "finite", "x = [0."],
        ),
        ("problem = Problem(box, terms(lambda u: u(3)))", ["'interior'", "cannot be traced"]),
        ("problem = Problem(box, terms(), exact=lambda x: x)", ["exact", "(2,)", "(1,)"]),
        ("problem = Problem(box, tuple(terms().values()))", ["''", "mapping"]),
        ("import nonesuch", ["mine.py", "nonesuch", f"line {LAST}"]),
        ("raise SystemExit(3)", ["mine.py", "SystemExit", f"line {LAST}"]),
        ("class Stop(BaseException): pass\nraise Stop", ["mine.py", "Stop", f"line {LAST + 1}"]),
        ("import json\njson.loads('{')", ["mine.py", "JSONDecodeError", f"line {LAST + 1}"]),
        ("def problem(:", ["mine.py", "SyntaxError", f"line {LAST}"]),
        ("def problem():\n    return 1 / 0", ["mine.py", "ZeroDivisionError"]),
        ("problems = 3", ["mine.py", "`problem`", "problems"]),
    ],
    ids=[
        *("region of the wrong dimension", "residual of the wrong shape", "non-finite target"),
        *("operator that fails", "exact of the wrong shape", "terms without names"),
        *("import that fails", "file that exits", "no Exception", "error with a line of its own"),
        *("syntax error", "function that fails", "no problem in it"),
    ],
)
def test_a_wrong_problem_file_is_named(folder, body, words):
    folder.write("mine.py", f"{PDE}{body}\n")
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
        "problem = Problem(box, terms(), exact=0.0)",
        # a boundary whose smallest face has a thousandth of the points
        "long = Box((0, 0), (1000, 1))\nproblem = Problem(long, terms(box=long), exact=0.0)",
        # dataclasses look up the module they stand in
        "from dataclasses import dataclass\n@dataclass\nclass Wave:\n    k: 'float' = 1.0\n"
        "problem = Problem(box, terms())",
        # a script: what it does itself is not done here
        "import distgram as dg\nproblem = Problem(box, terms())\n"
        "if __name__ == '__main__':\n    raise SystemExit('solved')",
    ],
    ids=["zero solution", "slender box", "dataclass", "script"],
)
def test_an_unusual_problem_file_is_right(folder, body):
    folder.write("mine.py", f"{PDE}{body}\n")
    text = TINY.replace('name = "laplace2d"', 'file = "mine.py"').replace(
        "count = 40", "count = 4000"
    )
    text = text.replace("held_out = 64", "held_out = 4000").replace("steps = 6", "steps = 1")
    ended = folder.solve("--json", text=text)
    assert ended.code == 0, ended
    result = json.loads(ended.out)
    assert result["relative_l2_error"] is None
    assert (result["l2_error"] is None) == ("exact" not in body)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder of problem files, which leaves sys.path and sys.modules as they were."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)  # the dictionary itself is the interpreter's
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(folder: Path, **files: str) -> Path:
    """Write modules of these names; the path of mine.py among them."""
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    return folder / "mine.py"


def test_a_file_is_executed_once_until_it_changes(place):
    count = f"{PDE}with open({str(place / 'count')!r}, 'a') as file: file.write('x')\n"
    mine = write(place, mine=count + "def problem(k=1.0): return Problem(box, terms(target=k))")
    builders = [file_builder(str(mine)), file_builder(mine)]
    assert [b({"k": 2.0}).terms[0].target.value for b in builders] == [2.0, 2.0]
    assert (place / "count").read_text() == "x"
    write(place, mine=count + "problem = Problem(box, terms(), name='other')")
    assert load_file(mine).name == "other" and (place / "count").read_text() == "xx"
    with pytest.raises(ProblemError, match="'k'"):
        load_file(mine, {"k": 2.0})


NEIGHBOURLY = f"{PDE}from coeffs import RATE\ndef problem():\n    import late\n    "
NEIGHBOURLY += "return Problem(box, terms(target=RATE), name=late.NAME)"


def test_modules_beside_a_file_can_be_imported(place):
    one = write(place / "one", mine=NEIGHBOURLY, coeffs="RATE = 1.0", late="NAME = 'one'")
    two = write(place / "two", mine=NEIGHBOURLY, coeffs="RATE = 2.0")
    path = list(sys.path)
    build = file_builder(one)
    at = sys.path.index(str(one.parent))  # behind the libraries
    assert sys.path[:at] + sys.path[at + 1 :] == path and at >= path.index(get_path("stdlib"))
    first = build({})  # which imports within a function
    assert (first.terms[0].target.value, first.name) == (1.0, "one")
    both = ("coeffs.py", "late.py")  # the second is imported within a function only
    assert beside(one) == {name: one.parent / name for name in both}
    # another folder has modules of the same names
    assert load_file(two).terms[0].target.value == 2.0
    assert beside(two) == {"coeffs.py": two.parent / "coeffs.py"}


def test_a_file_hides_no_module_and_none_hides_it(place):
    """A file called as a module of the library's, and two called the same."""
    for name in ("one", "two"):
        body = f"{PDE}problem = Problem(box, terms(), name={name!r})"
        mine = write(place / name, mine=body, queue="raise RuntimeError")
        assert load_file(mine).name == name
    assert "mine" not in sys.modules
    import queue

    assert queue.Queue


def test_an_interrupt_is_none_of_the_file(place):
    with pytest.raises(KeyboardInterrupt):
        file_builder(write(place, mine="raise KeyboardInterrupt"))


def test_a_file_of_another_store_is_read_like_one_of_this(place):
    from etils import epath

    mine = write(place, mine=f"{PDE}problem = Problem(box, terms(), name='far')")
    assert load_file(epath.Path(mine)).name == "far"
