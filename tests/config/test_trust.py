"""A stranger's run folder: no command executes a program of it unasked."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from cli_runs import TINY, Folder, no_figures
from distgram_launch.cli import app
from distgram_launch.ray.commands import RESUME
from distgram_launch.web import Folder as Source
from typer.main import get_command

import distgram
from distgram.config import trust
from distgram.errors import TrustError
from distgram.export.network import read_safetensors

PROGRAM = """
from pathlib import Path
from distgram.pde.registry import get

Path({marker!r}).touch()
problem = get("laplace2d")
"""


@pytest.fixture(scope="module")
def solved(tmp_path_factory) -> Folder:
    """A run of a problem file that leaves a mark where it is executed. Not to be changed."""
    folder = Folder(tmp_path_factory.mktemp("solved"))
    folder.write("mine.py", PROGRAM.format(marker=str(folder.path / "executed")))
    with pytest.MonkeyPatch.context() as patch:
        no_figures(patch)
        text = TINY.replace('name = "laplace2d"', 'file = "mine.py"')
        assert folder.solve("--set", "run.steps=2", text=text).code == 0
    assert (folder.path / "executed").exists()
    return folder


@pytest.fixture
def run(solved, folder) -> Path:
    """A copy of that run, which may lie anywhere."""
    (solved.path / "executed").unlink(missing_ok=True)
    return Path(shutil.copytree(solved.path / "run", folder.path / "elsewhere" / "run"))


@pytest.fixture
def stranger(run, tmp_path, monkeypatch) -> Path:
    """The same, on a machine of somebody else."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(trust, "_OWN", set())
    # a module is executed once a process
    monkeypatch.setattr("distgram.pde.module_file._MODULES", {})
    return run


def commands(run: Path) -> dict[str, tuple[object, ...]]:
    """Every command that can be given a run folder, or what is in one, and does not need a cluster
    for that."""
    points = run.parent / "points.csv"
    points.write_text("x,y\n0.5,0.5\n")
    return {
        "report": ("report", run),
        "compare": ("compare", run, "--out", run.parent / "page"),
        "eval": ("eval", run, "--at", points),
        "export": ("export", run, "--to", "safetensors"),
        "diagnose": ("diagnose", run, "--kernel", "ntk", "--at", "0.5,0.5"),
        "resume": ("resume", run, "--set", "run.steps=3"),
    }


def others(run: Path) -> dict[str, list[tuple[object, ...]]]:
    """What the other commands are given where they meet a run folder. None of them executes it."""
    no_cluster = ("--address", "http://127.0.0.1:1")
    return {
        "list": [("list",)],
        "resume": [("resume", run, "--ray"), ("resume", "dg-run-000000", *no_cluster)],
        "watch": [("watch", run), ("watch", run, "--port", 8080)],
        "logs": [("logs", run, *no_cluster)],
        "stop": [("stop", run, *no_cluster)],
        "ps": [("ps", *no_cluster)],
        "fetch": [("fetch", run, *no_cluster), ("fetch", run, "--out", run)],
        "solve": [("solve", run), ("solve", run, "--force", "--out", run)],
        "check": [("check", run)],
        "submit": [("submit", run, "--storage", run.parent, *no_cluster)],
    }


# They are given a file and not a run folder: the file is the user's program, and is executed.
GIVEN_A_PROGRAM = {"check", "solve", "submit"}


def test_every_command_is_tried_on_a_strangers_folder(tmp_path):
    there = set(get_command(app).commands) - {RESUME}  # type: ignore[attr-defined]
    assert there == set(commands(tmp_path)) | set(others(tmp_path))


@pytest.mark.parametrize("name", list(others(Path("."))))
def test_no_other_command_executes_anything(folder, solved, stranger, name):
    marker, before = solved.path / "executed", sorted(stranger.rglob("*"))
    for command in others(stranger)[name]:
        ended = folder.call(*command)
        assert not marker.exists() and "Traceback" not in ended.err, ended
        assert ended.code == (0 if name == "list" else 2), ended
    assert sorted(stranger.rglob("*")) == before


@pytest.mark.parametrize("name", sorted(GIVEN_A_PROGRAM))
def test_a_config_of_a_strangers_folder_is_no_program_of_ones_own(folder, solved, stranger, name):
    """Where the program is one of the folder, whatever names it."""
    marker, copy = solved.path / "executed", stranger / "problem" / "mine.py"
    rest = ("--storage", folder.path, "--address", "http://127.0.0.1:1")
    rest = rest if name == "submit" else ("--set", "run.steps=1")
    for given in (stranger / "config.toml", copy):
        sets = () if given == copy else ("--set", f'problem.file="{copy}"')
        ended = folder.call(name, given, *sets, *rest)
        assert not marker.exists() and "--trust" in ended.sentence, ended
    config = stranger / "config.toml"
    config.write_text(config.read_text().replace(str(solved.path), "problem"))
    ended = folder.call(name, config, *rest)
    assert not marker.exists() and "--trust" in ended.sentence, ended
    if name == "check":
        assert folder.call(name, config, "--trust").code == 0 and marker.exists()


@pytest.mark.parametrize("name", ["report", "compare", "eval", "export", "diagnose", "resume"])
def test_no_command_executes_a_strangers_program(folder, solved, stranger, name):
    command, marker = commands(stranger)[name], solved.path / "executed"
    ended = folder.call(*command)
    assert not marker.exists() and "Traceback" not in ended.err
    if name == "compare":
        assert ended.code == 0
        return
    if name == "report":
        assert ended.code == 0 and "--trust" in (stranger / "report.html").read_text()
    else:
        assert "give --trust" in ended.sentence
    ended = folder.call(*command, "--trust")
    assert ended.code == 0 and marker.exists()
    assert "is executed, as --trust" in ended.err
    if name == "export":
        marker.unlink()
        with pytest.raises(TrustError, match="trust=True"):
            read_safetensors(stranger / "export")
        assert not marker.exists()
        assert np.isfinite(read_safetensors(stranger / "export", trust=True)([0.5, 0.5])).all()


def test_from_python_and_in_a_browser_neither(solved, stranger):
    with pytest.raises(TrustError, match="trust=True"):
        distgram.load(stranger)
    assert "--trust" in Source(stranger).report()
    assert not (solved.path / "executed").exists()
    assert "--trust" not in Source(stranger, trust=True).report()
    assert (solved.path / "executed").exists()
    assert distgram.load(stranger, trust=True)([0.5, 0.5]).shape == (1,)


def test_ones_own_run_is_loaded_wherever_it_lies(folder, solved, run):
    for args in commands(run).values():
        ended = folder.call(*args)
        assert ended.code == 0 and "trust" not in ended.err, ended
    assert distgram.load(run)([0.5, 0.5]).shape == (1,)  # an export is no program of the run


@pytest.mark.parametrize(
    "name",
    [
        *("helper.py", "helper/__init__.py", "figures/__init__.py", "a/b.so", "mine.pyc"),
        *("problem/helper.py", "problem/__pycache__/helper.cpython-311.pyc", "problem/k.npy"),
    ],
)
def test_a_program_that_was_put_beside_makes_it_a_strangers(run, name):
    (run / name).parent.mkdir(exist_ok=True, parents=True)
    (run / name).write_bytes(b"raise SystemExit")
    with pytest.raises(TrustError):
        distgram.load(run)


def test_a_problem_file_elsewhere_is_not_ones_own(folder, solved, run):
    """The copy is gone, or the config of the run names another file than its solve did."""
    copy = run / "problem" / "mine.py"
    copy.rename(run / "figures.py")
    with pytest.raises(TrustError):
        distgram.load(run)
    (run / "figures.py").rename(copy)
    assert distgram.load(run)([0.5, 0.5]).shape == (1,)
    (run / "export").mkdir()
    shutil.copy(copy, run / "export" / "other.py")
    config = run / "config.toml"
    config.write_text(config.read_text().replace(str(solved.path / "mine.py"), "export/other.py"))
    assert "--trust" in folder.call("resume", run).sentence
    with pytest.raises(TrustError):
        distgram.load(run)


def test_a_problem_file_that_was_moved_is_replaced_by_the_copy(folder, solved, run):
    config = run / "config.toml"
    gone = str(folder.path / "gone" / "mine.py")
    config.write_text(config.read_text().replace(str(solved.path / "mine.py"), gone))
    assert folder.call("resume", run, "--set", "run.steps=4").code == 0
    assert json.loads((run / "result.json").read_text())["steps"] == 4
    assert folder.call("resume", run, "--set", "run.steps=5").code == 0


def test_notes_have_no_place_in_a_home_that_cannot_be_written_to(folder, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/nowhere")
    folder.write("mine.py", PROGRAM.format(marker=str(folder.path / "executed")))
    text = TINY.replace('name = "laplace2d"', 'file = "mine.py"')
    assert folder.solve("--set", "run.steps=2", text=text).code == 0
    assert distgram.load(folder.path / "run")([0.5, 0.5]).shape == (1,)
