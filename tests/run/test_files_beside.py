"""Modules and files beside a problem file: in the run folder from the start, and what runs."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_runs import TINY, Ended, Folder, metrics

import distgram
from distgram.config.schema import load
from distgram.pde import module_file
from distgram.store.checkpoint import newest, read_thetas

# -(k u')' = 1 with k = 1 + x², of whatever the folder holds.
TABLE = "".join(f"{x},{1 + x * x}\n" for x in np.linspace(0.0, 1.0, 201))
FILE = """
from pathlib import Path
import numpy as np
import jax.numpy as jnp
import distgram as dg
{top}

line = dg.Box(0, 1)
def flux(u):
    {inside}
    return lambda x: k(x) * dg.partial(u, 0)(x)

def problem():
    {before}
    return dg.Problem(line, {{
        "interior": dg.Term(lambda u: dg.partial(flux(u), 0), -1.0, line),
        "boundary": dg.Dirichlet(0.0, line.boundary),
    }})
"""
INTERPOLATED = "table, values = np.loadtxt({}, delimiter=',').T\n"
INTERPOLATED += "k = lambda x: jnp.interp(x, jnp.asarray(table), jnp.asarray(values))"
HERE = "Path(__file__).parent / 'k.csv'"
PARABOLA = "k = lambda x: 1 + x**2"

CASES: dict[str, tuple[dict[str, str], dict[str, str], tuple[str, ...]]] = {
    # parts of the file, what stands beside it, problem.files
    "imported": (
        {
            "top": "from alloys.one import ONE",
            "before": "global k; from laws.steel import k",
            "inside": "from late import k",
        },
        {
            "laws/__init__.py": "",
            "laws/steel.py": "from . import base\nk = base.k",
            "laws/base.py": PARABOLA,
            "alloys/one.py": "ONE = 1",
            "late.py": PARABOLA,
        },
        (),
    ),
    "read": (
        {
            "top": INTERPOLATED.format("'tables/k.csv'"),
            "before": f"global k; {INTERPOLATED.format(HERE)}".replace("\n", "; "),
        },
        {"tables/k.csv": TABLE, "k.csv": TABLE},
        (),
    ),
    "named": (
        {"inside": f"{INTERPOLATED.format(HERE)}".replace("\n", "; ")},
        {"k.csv": TABLE, "d/e/more.txt": "1"},
        ("k.csv", "d"),
    ),
}


def solve(
    folder: Folder, parts: dict[str, str], beside: dict[str, str], files=(), out="run"
) -> Ended:
    """`distgram solve` of such a problem in a folder of its own, from another one."""
    place = folder.path / "mine"
    place.mkdir(exist_ok=True)
    given = {"top": "", "inside": "pass", "before": "pass"}
    (place / "rod.py").write_text(FILE.format(**given | parts))
    for name, text in ({"notes.txt": "private", "unused.py": "1"} | beside).items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
    named = f"files = {json.dumps(files)}\n" if files else ""
    text = TINY.replace('name = "laplace2d"\n', f'file = "mine/rod.py"\n{named}')
    return folder.solve(text=text, out=out)


def below(path: Path) -> set[str]:
    """The names of the files below a folder."""
    return {str(p.relative_to(path)) for p in path.rglob("*") if p.is_file()}


def theta(run: Path) -> np.ndarray:
    """The parameters of the newest checkpoint."""
    return read_thetas(newest(run / "checkpoints"))[-1]


def test_a_library_below_the_folder_is_not_beside_the_file(monkeypatch):
    """As of a problem file in the root of a checkout, or beside a virtual environment."""
    root = Path(distgram.__path__[0]).parent
    monkeypatch.setitem(module_file._BESIDE, root, set())
    assert not any(name.startswith("distgram") for name in module_file._loaded(root))
    monkeypatch.delitem(sys.modules, "distgram")
    assert list(module_file._files_of(("distgram", "pde"), root)) == []
    with pytest.raises(ImportError):
        module_file._finder(str(root / "distgram" / "pde"))


def test_a_program_that_writes_beside_itself_stays_ones_own(folder):
    top = "(Path(__file__).parent / 'cache.txt').write_text('found')"
    assert solve(folder, {"top": top, "before": f"global k; {PARABOLA}"}, {}).code == 0
    assert (folder.path / "run" / "problem" / "cache.txt").is_file()
    assert folder.call("resume", folder.path / "run", "--set", "run.steps=8").code == 0


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_what_stands_beside_is_copied_and_a_moved_run_goes_on(folder, monkeypatch, case):
    parts, beside, files = CASES[case]
    elsewhere = folder.path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    ended = solve(folder, parts, beside, files)
    assert ended.code == 0, ended
    run, whole = folder.path / "run", folder.path / "mine"
    assert below(run / "problem") == {"rod.py", *beside}
    assert below(whole) == {"rod.py", "notes.txt", "unused.py", *beside}  # no byte code
    assert load(run / "config.toml").problem.files == sorted(beside)
    before = distgram.load(run)([0.5])
    shutil.rmtree(whole)
    moved = Path(shutil.move(run, elsewhere / "moved"))
    assert np.array_equal(distgram.load(moved)([0.5]), before)
    ended = folder.call("resume", moved, "--set", "run.steps=9")
    assert ended.code == 0 and [row["step"] for row in metrics(moved)][-1] == 9, ended
    assert below(moved / "problem") == {"rod.py", *beside}  # no byte code
    assert folder.call("export", moved, "--to", "safetensors").code == 0
    assert below(moved / "export" / "problem") == {"rod.py", *beside}
    again = folder.call("solve", moved / "config.toml", "--out", folder.path / "again")
    assert "no such file" in again.sentence


def test_the_copy_is_what_runs(folder):
    """From the first step on, whatever becomes of the user's files."""
    parts = {"top": "from laws import k\nprint('executed', __file__)", "inside": "import late"}
    beside = {"laws.py": PARABOLA, "late.py": "print('late', __file__)"}
    ended, run = solve(folder, parts, beside), folder.path / "run"
    told = [line for line in ended.out.splitlines() if line.startswith(("executed", "late"))]
    copies = run / "problem"
    assert told[-2:] == [f"executed {copies / 'rod.py'}", f"late {copies / 'late.py'}"], told
    # six steps may solve it or not
    assert solve(folder, parts, {"laws.py": "k = lambda x: 1 + x"}, out="other").code in (0, 1)
    assert theta(run).shape == theta(folder.path / "other").shape
    assert not np.array_equal(theta(run), theta(folder.path / "other"))
    sentence = folder.call("resume", run, "--set", "run.steps=9").sentence
    assert "problem.files" in sentence and "laws.py' has changed" in sentence
    (folder.path / "mine" / "laws.py").write_text(PARABOLA)
    assert folder.call("resume", run, "--set", "run.steps=9").code == 0


def test_a_file_that_is_read_while_tracing_has_to_be_named(folder):
    parts, beside, files = CASES["named"]
    sentence = solve(folder, parts, beside).sentence
    assert "k.csv" in sentence and "problem.files" in sentence
    assert not (folder.path / "run").exists()
    shutil.rmtree(folder.path / "mine")
    assert solve(folder, parts, beside, files).code == 0


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["k.csf"], ["'k.csf'", "k.csv"]),
        (["../config.toml"], ["'../config.toml'", "below"]),
        (["/etc/passwd"], ["/etc/passwd", "below"]),
        ([""], ["''", "below"]),
        (["a\0b"], ["below"]),
    ],
)
def test_files_that_cannot_be_copied_are_named(folder, files, words):
    sentence = solve(folder, {"top": PARABOLA}, {"k.csv": TABLE}, files).sentence
    for word in ("problem.files", *words):
        assert word in sentence, sentence
    assert folder.folders() == ["mine"]


def test_a_registered_problem_has_no_folder(folder):
    text = TINY.replace('name = "laplace2d"', 'name = "laplace2d"\nfiles = ["k.csv"]')
    assert "'file' beside 'files'" in folder.solve(text=text).sentence
