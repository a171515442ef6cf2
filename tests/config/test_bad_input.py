"""A user's errors: exit code 2, one clear sentence, no traceback, and nothing written."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from cli_runs import TINY, Folder, metrics

from distgram.store.checkpoint import Checkpoints, newest, read_thetas


@pytest.fixture
def copied(solved: Folder, folder: Folder) -> Folder:
    """A copy of that folder, to be spoilt."""
    shutil.copytree(solved.path, folder.path, dirs_exist_ok=True)
    return folder


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("run.stpes=10", ["'run.stpes'", "did you mean 'steps'?"]),
        ("modle.gain=2", ["'modle'", "did you mean 'model'?"]),
        ("rule.ration=0.1", ["'rule.ration'", "did you mean 'ratio'?"]),
        ("points.interior.cuont=9", ["'points.interior.cuont'", "did you mean 'count'?"]),
        ('problem.name="laplace3d"', ["problem.name", "'laplace3d'", "did you mean 'laplace"]),
        ("problem.parameters.k=1", ["'k'", "it takes none"]),
        ('rule.name="anagramm"', ["rule.name", "'anagramm'", "did you mean 'anagram'?"]),
        ("rule.name=3", ["rule.name", "adaptive_ratio"]),
        ('rule={name="engd", line_search={cuont=3}}', ["'rule.line_search.cuont'", "'count'?"]),
        ("rule.line_search={}", ["unknown key 'rule.line_search'", "trials"]),
        (
            'rule={name="anagram", line_search={count=3}}',
            ["rule.line_search.name is missing", "backtracking, grid"],
        ),
        ('model.activation="tahn"', ["model.activation", "'tahn'", "did you mean 'tanh'?"]),
        ('model.initialization="glorto"', ["'glorto'", "did you mean 'glorot'?"]),
        ('model.features="fuorier"', ["'fuorier'", "did you mean 'fourier'?"]),
        ('model.features="periodic"', ["model.features", "no period"]),
        (
            'points.interior.sampler="sobel"',
            ["points.interior", "'sobel'", "did you mean 'sobol'?"],
        ),
        ('run.steps="many"', ["run.steps", "'many'", "integer"]),
        ("run.steps=true", ["run.steps", "True", "integer"]),
        ('run.steps="10"', ["run.steps", "'10'", "integer"]),
        ("run.seed=-1", ["run.seed", "-1", "greater than or equal to 0"]),
        ("run.seed=9223372036854775808", ["run.seed", "9223372036854775808", "less than"]),
        ("model=3", ["model = 3: expected a table."]),
        ("points.interior=7", ["points.interior = 7: expected a table."]),
        ('rule="adam"', ["rule = 'adam': expected a table with the key rule.name."]),
        ("run.steps=-1", ["run.steps", "-1"]),
        ("model.hidden=8", ["model.hidden", "8", "list"]),
        ("model.gain=nan", ["model.gain", "nan", "finite"]),
        ("points.interior.count=0", ["points.interior.count", "0"]),
        ("points.side.count=9", ["points.side", "boundary, interior"]),
        ("points.interior={}", ["points.interior.count", "missing"]),
        ("rule={name='anagram',cutoff=0.0}", ["rule.cutoff", "0.0"]),
        ("rule={name='anagram',relative_cutoff=2.0}", ["rule.relative_cutoff", "2.0"]),
        ("rule={name='anagram'}", ["rule.cutoff", "None", "relative_cutoff"]),
        ("rule={name='amstramgram',epsilon=-1e-9}", ["rule.epsilon", "-1e-09"]),
        ("rule.ratio=1.5", ["rule.ratio", "1.5"]),
        ("rule={name='adam',learning_rate=-1.0}", ["rule.learning_rate", "-1.0"]),
        ('points.interior={count=99,sampler="grid"}', ["points.interior", "n=99", "81 and 100"]),
        ("run.held_out=1", ["run.held_out", "'boundary'", "n=1", "at least 4"]),
        ("steps", ["'steps'", "key.sub=value"]),
    ],
)
def test_a_wrong_setting_is_named(folder, setting, words):
    sentence = folder.solve("--set", setting).sentence
    for word in words:
        assert word in sentence, sentence
    assert folder.folders() == []


def test_a_term_without_points_is_named(folder):
    sentence = folder.solve(text=TINY.replace("boundary = {count = 40}\n", "")).sentence
    assert "points.boundary is missing" in sentence
    assert folder.folders() == []


def test_a_missing_or_broken_config_is_named(folder):
    assert "nowhere.toml" in folder.call("solve", folder.path / "nowhere.toml").sentence
    assert "not valid TOML" in folder.solve(text="[problem\n").sentence
    assert "problem = 3" in folder.solve(text="problem = 3\n").sentence
    assert folder.folders() == []


def test_more_devices_than_there_are(folder):
    sentence = folder.solve("--devices", 99).sentence
    assert "devices=99: expected 1 to 8" in sentence and "device_count=N makes N" in sentence
    assert folder.folders() == []


def test_a_folder_that_cannot_be_made_is_named(folder):
    folder.write("file", "")
    sentence = folder.solve(out="file/run").sentence
    assert "file/run: the run folder cannot be made" in sentence and "choose another" in sentence


def test_a_config_that_is_a_folder_is_named(folder):
    assert "s a directory" in folder.call("solve", folder.path).sentence


def test_an_older_run_is_replaced_only_when_forced(copied):
    before = (copied.path / "run" / "metrics.jsonl").read_text()
    sentence = copied.solve("--seed", 1).sentence
    assert "holds another run" in sentence and "--force" in sentence
    assert (copied.path / "run" / "metrics.jsonl").read_text() == before
    # a wrong setting does not cost the older run, even with --force
    assert "run.steps" in copied.solve("--force", "--set", "run.steps=-1").sentence
    assert (copied.path / "run" / "metrics.jsonl").read_text() == before
    assert copied.solve("--force", "--seed", 1).code == 0
    assert len(metrics(copied.path / "run")) == before.count("\n")
    assert (copied.path / "run" / "metrics.jsonl").read_text() != before


def test_a_folder_of_other_files_is_never_replaced(folder):
    (folder.path / "run").mkdir()
    folder.write("run/thesis.txt", "all of it")
    assert "force replaces a run folder only" in folder.solve("--force").sentence
    assert (folder.path / "run" / "thesis.txt").read_text() == "all of it"


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("ratio = 0.075", "ratio = 0.5", "rule.ratio"),
        ("seed = 0", "seed = 1", "run.seed"),
        ("count = 100", "count = 101", "points.interior.count"),
        ("steps = 6", "steps = 9", "run.steps"),
    ],
)
def test_a_resume_with_a_changed_config_is_refused(copied, old, new, key):
    path = copied.path / "run" / "config.toml"
    assert path.read_text().count(old) == 1
    path.write_text(path.read_text().replace(old, new))
    sentence = copied.call("resume", copied.path / "run").sentence
    assert f"{key} is {new.split()[-1]}, but {old.split()[-1]} in" in sentence


def test_a_resume_may_set_budgets_only(copied):
    sentence = copied.call("resume", copied.path / "run", "--set", "rule.ratio=0.5").sentence
    assert "rule.ratio" in sentence and "run.steps" in sentence


def test_a_resume_of_what_is_no_run_is_refused(folder):
    assert "no run folder" in folder.call("resume", folder.path / "nowhere").sentence
    folder.write("config.toml", TINY)
    assert "no whole checkpoint" in folder.call("resume", folder.path).sentence
    assert folder.folders() == []


@pytest.mark.parametrize("spoil", ["truncate", "delete", "flip a bit"])
def test_a_torn_checkpoint_is_passed_over(copied, solved, spoil):
    run = copied.path / "run"
    files = [p for p in (run / "checkpoints" / "6").rglob("*") if p.is_file()]
    largest = max(files, key=lambda p: p.stat().st_size)
    if spoil == "truncate":
        os.truncate(largest, largest.stat().st_size // 2)
    elif spoil == "delete":
        largest.unlink()
    else:
        content = bytearray(largest.read_bytes())
        content[len(content) // 2] ^= 1
        largest.write_bytes(content)
    ended = copied.call("resume", run)
    assert ended.code == 0, ended
    assert "step 6 cannot be read and is passed over" in ended.err and "Traceback" not in ended.err
    assert "resumed at step 4" in ended.out
    assert metrics(run) == metrics(solved.path / "run")
    same = [read_thetas(newest(f.path / "run" / "checkpoints"))[-1] for f in (copied, solved)]
    assert newest(run / "checkpoints").name == "6"
    assert np.array_equal(*same)


def test_no_whole_checkpoint_at_all(copied):
    for file in (copied.path / "run" / "checkpoints").rglob("*"):
        if file.is_file():
            os.truncate(file, file.stat().st_size // 2)
    sentence = copied.call("resume", copied.path / "run").sentence
    assert "no whole checkpoint" in sentence and "[2, 4, 6]" in sentence


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 330 kB; where none can be mounted, one that says it is full after 3 checkpoints."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=330k", "none", str(disk)]
    try:
        mounted = subprocess.run(mount, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    with pytest.MonkeyPatch.context() as patch:
        if not mounted:
            save = Checkpoints.save

            def refuse(*_):
                raise OSError(28, "No space left on device")

            def full(self, step, state, meta):
                if len(self.steps()) == 3:
                    patch.setattr(self._manager, "save", lambda *_, **__: refuse())
                save(self, step, state, meta)

            patch.setattr(Checkpoints, "save", full)
        yield disk
    if mounted:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_keeps_the_earlier_checkpoints(folder, solved, small_disk):
    config = folder.write("config.toml", TINY)
    ended = folder.call("solve", config, "--out", small_disk / "run", "--devices", 1)
    assert ended.code == 2 and ended.err.count("\n") == 1 and "Traceback" not in ended.err, ended
    assert "no space left on device" in ended.err.lower() and "make room" in ended.err
    step = newest(small_disk / "run" / "checkpoints").name
    assert step in ("2", "4") and f"goes on from step {step}" in ended.err
    # with room again, the run comes to the result of the one that never stopped
    shutil.copytree(small_disk / "run", folder.path / "moved")
    assert folder.call("resume", folder.path / "moved").code == 0
    assert metrics(folder.path / "moved") == metrics(solved.path / "run")
    ends = [
        read_thetas(newest(p / "checkpoints"))[-1]
        for p in (folder.path / "moved", solved.path / "run")
    ]
    assert np.array_equal(*ends)
