"""Nothing is lost: a live run, a folder of somebody else, rows, and what a power cut would take."""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from cli_runs import TINY, metrics
from distgram_launch.web import _since

import distgram as dg
from distgram.errors import RunError, StorageError
from distgram.store import folder as run_folder
from distgram.store import storage
from distgram.store.checkpoint import newest, read_thetas
from distgram.store.record import finite, read_record
from distgram.store.storage import file_system


@pytest.fixture
def run(solved, folder) -> Path:
    """A copy of that run, to be spoilt."""
    return Path(shutil.copytree(solved.path / "run", folder.path / "run"))


def contents(path: Path) -> dict[str, bytes]:
    """Every file below a folder but the locks, which are there while they are held."""
    files = (p for p in path.rglob("*") if p.is_file() and p.suffix != ".lock")
    return {str(p.relative_to(path)): p.read_bytes() for p in files}


def theta(run: Path) -> np.ndarray:
    """The parameters of the newest checkpoint."""
    return read_thetas(newest(run / "checkpoints"))[-1]


@pytest.mark.parametrize("lock", run_folder.LOCKS)
def test_a_live_run_is_not_replaced_but_named(folder, run, lock):
    before = contents(run)
    with storage.of(run).locked(run / lock):
        sentence = folder.solve("--force").sentence
        assert f"process {os.getpid()} on {socket.gethostname()} is solving in it" in sentence
        assert contents(run) == before
    assert not (run / lock).exists()
    assert folder.solve("--force", "--set", "run.steps=2").code == 0
    assert metrics(run)[-1]["step"] == 2 and not list(run.glob("*.lock"))


def test_a_lock_that_was_left_behind_locks_nothing(folder, run):
    for lock in run_folder.LOCKS:
        (run / lock).write_text("process 1 on another-host\n")
    assert folder.call("resume", run, "--set", "run.steps=8").code == 0
    assert not list(run.glob("*.lock"))


def test_a_second_resume_is_refused_by_name(folder, run, monkeypatch):
    monkeypatch.setattr(run_folder.sole_job, "__defaults__", (0.0,))
    before = contents(run)
    (run / "stop").touch()  # asked of the owner, and not to be taken back by who waits
    with run_folder.sole_job(run):
        sentence = folder.call("resume", run, "--set", "run.steps=8").sentence
        assert f"process {os.getpid()} on {socket.gethostname()}" in sentence
        assert contents(run) == before | {"stop": b""}


@pytest.mark.parametrize("name", ["config.toml", "environment.json", "metrics.jsonl"])
def test_a_folder_of_another_program_is_never_replaced(folder, name):
    other = folder.path / "run"
    other.mkdir()
    (other / "config.toml").write_text("[build]\njobs = 2\n")
    (other / name).write_text('{"packages": ["a"]}' if name.endswith("json") else "jobs = 2\n")
    before = contents(other)
    assert "distgram has not made this one" in folder.solve("--force").sentence
    assert contents(other) == before
    with pytest.raises(RunError, match="distgram has not made"):  # noqa: SIM117
        with run_folder.new(other, {}, force=True):
            pass


def test_a_run_that_has_only_begun_may_be_replaced(folder):
    with run_folder.new(folder.path / "run", {"problem": {"name": "heat"}}):
        pass
    (folder.path / "run" / "figures").mkdir()
    assert folder.solve("--set", "run.steps=2").code == 2
    assert folder.solve("--force", "--set", "run.steps=2").code == 0
    assert not (folder.path / "run" / "figures").exists()


def test_from_python_a_live_run_is_not_replaced_either(tmp_path):
    square = dg.Box((0, 0), (1, 1))
    terms = {"interior": dg.Term(lambda u: dg.laplacian(u), -1.0, square)}
    asked = {"points": {"interior": 64}, "network": dg.MLP([4]), "progress": False}

    def solve(**more):
        return dg.solve(dg.Problem(square, terms), steps=2, run_dir=tmp_path / "a", **asked, **more)

    solve()
    with run_folder.sole_job(tmp_path / "a"), pytest.raises(StorageError, match="is solving in it"):
        solve(force=True)
    solve(force=True)


@pytest.mark.parametrize("name", ["a[b", "a[b]c", "a*b", "a?b", "a\\b"])
def test_a_path_that_checkpoints_cannot_be_read_back_from_is_refused(folder, solved, name):
    where = folder.path / "runs" / name
    config = folder.write("config.toml", TINY)
    sentence = folder.call("solve", config, "--out", where, "--devices", 1).sentence
    assert "expected one without" in sentence and not where.parent.exists()
    shutil.copytree(solved.path / "run", where)  # a run that was moved there
    before = contents(where)
    assert "rename this one" in folder.call("resume", where).sentence
    with pytest.raises(StorageError, match="rename this one"):
        dg.load(where)
    assert contents(where) == before


@pytest.mark.parametrize("name", ["a{b,c}", "a b", "a%b", "a'\"b", "ä", "-x", "a;b$c&d"])
def test_another_path_works(folder, solved, name):
    where = folder.path / name
    shutil.copytree(solved.path / "run", where)
    assert folder.call("resume", where, "--set", "run.steps=8").code == 0
    assert np.isfinite(dg.load(where)([0.5, 0.5])).all()


@pytest.mark.parametrize(
    "line", ["{", "[1]", '{"seconds": 1.0}', '{"step": 2, "seconds": "x"}', "\xff", "[" * 10**5]
)
def test_a_damaged_row_takes_no_other_row_with_it(folder, run, line):
    path = run / "metrics.jsonl"
    whole = path.read_bytes().splitlines()
    damaged = b"\n".join([*whole[:2], line.encode("latin-1"), *whole[3:], b""])
    path.write_bytes(damaged)
    ended = folder.call("resume", run, "--set", "run.steps=8")
    assert ended.code == 0 and "Traceback" not in ended.err
    assert "line(s) 3 cannot be read: it is kept as metrics.jsonl.damaged" in ended.err
    assert "1 of the 5 rows up to step 6 are gone" in ended.err
    assert (run / "metrics.jsonl.damaged").read_bytes() == damaged
    assert [row["step"] for row in metrics(run)] == [0, 1, 4, 6, 8]
    assert [row["step"] for row in read_record(run).rows] == [0, 1, 4, 6, 8]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no", "cut", "other"])
def test_damaged_spectra_are_kept_beside(folder, run, content):
    path = run / "spectra.npz"
    if content == "cut":
        content = path.read_bytes()[:-40]
    if content == "other":
        np.savez(path, a=np.zeros(3))
        content = path.read_bytes()
    path.write_bytes(content)
    ended = folder.call("resume", run, "--set", "run.steps=9")
    assert ended.code == 0 and "Traceback" not in ended.err
    assert "it is kept as spectra.npz.damaged" in ended.err and "3 spectra up to" in ended.err
    assert (run / "spectra.npz.damaged").read_bytes() == content
    assert [one.step for one in read_record(run).spectra] == [9]


def test_rows_that_were_cut_off_are_missed(folder, run):
    path = run / "metrics.jsonl"
    text = path.read_text()
    path.write_text(text[: len(text) // 2])  # in the middle of a line
    ended = folder.call("resume", run, "--set", "run.steps=8")
    assert ended.code == 0 and "rows up to step 6 are gone" in ended.err


def test_a_resume_that_cannot_go_on_changes_nothing(folder, run):
    for file in (run / "checkpoints" / "6" / "state").rglob("*"):
        if file.is_file():
            file.write_bytes(b"x")
    seals = [run / "checkpoints" / str(step) / "seal.json" for step in (2, 4)]
    for seal in seals:
        seal.unlink()
    before = contents(run)
    assert folder.call("resume", run, "--set", "run.steps=8").code == 2
    assert contents(run) == before


def test_a_resume_reads_the_state_after_its_owner_has_ended(folder, run, monkeypatch):
    """The owner goes on from step 6 to step 12 while another resume waits for it."""
    longer = folder.path / "longer"
    shutil.copytree(run, longer)
    assert folder.call("resume", longer, "--set", "run.steps=12").code == 0
    owner, wait = ExitStack(), time.sleep
    owner.enter_context(run_folder.sole_job(run))

    def sleep(seconds):
        monkeypatch.setattr(file_system.time, "sleep", wait)
        shutil.copytree(longer, run, dirs_exist_ok=True)
        owner.close()

    monkeypatch.setattr(file_system.time, "sleep", sleep)
    ended = folder.call("resume", run, "--set", "run.steps=14")
    assert ended.code in (0, 1) and "resumed at step 12" in ended.out  # few steps: not solved
    assert folder.call("resume", longer, "--set", "run.steps=14").code == ended.code
    assert np.array_equal(theta(run), theta(longer)) and metrics(run) == metrics(longer)


def test_what_is_renamed_is_on_the_disk_before_and_after(tmp_path, monkeypatch):
    done = []
    sync, replace = os.fsync, Path.replace

    def synced(descriptor):
        done.append(("sync", os.readlink(f"/proc/self/fd/{descriptor}")))
        sync(descriptor)

    def replaced(path, to):
        done.append(("rename", str(to)))
        return replace(path, to)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    file = tmp_path / "a.json"
    storage.of(file).write(file, b"1")
    assert done == [("sync", f"{file}.tmp"), ("rename", str(file)), ("sync", str(tmp_path))]


def test_a_checkpoint_is_on_the_disk_before_it_is_sealed(folder, monkeypatch):
    done = []
    settle, write = storage.FileSystem.settle, storage.FileSystem.write

    def settled(self, path):
        settle(self, path)
        done.append(("settled", path.name))

    def written(self, path, data):
        done.append((path.name, path.parent.name))
        write(self, path, data)

    monkeypatch.setattr(storage.FileSystem, "settle", settled)
    monkeypatch.setattr(storage.FileSystem, "write", written)
    assert folder.solve("--set", "run.steps=2").code == 0
    seals = [i for i, (name, _) in enumerate(done) if name == "seal.json"]
    assert len(seals) == 2
    assert all(done[i - 1] == ("settled", done[i][1]) for i in seals)


def test_a_clock_that_goes_backwards_changes_nothing(folder, solved, monkeypatch):
    now = iter(range(2_000_000_000, 0, -1000))
    monkeypatch.setattr(time, "time", lambda: float(next(now)))
    assert folder.solve("--set", "run.steps=4").code == 0
    assert folder.call("resume", folder.path / "run", "--set", "run.steps=6").code == 0
    here, there = folder.path / "run", solved.path / "run"
    assert metrics(here) == metrics(there) and np.array_equal(theta(here), theta(there))
    os.utime(here / "metrics.jsonl", (4e9, 4e9))
    assert _since(here / "metrics.jsonl") == 0.0


def test_no_number_of_a_result_is_one_that_json_does_not_have():
    odd = {"a": [float("nan"), {"b": (float("inf"), 1.0)}], "c": np.float64("nan")}
    assert json.loads(json.dumps(finite(odd), allow_nan=False)) == {
        "a": [None, {"b": [None, 1.0]}],
        "c": None,
    }
