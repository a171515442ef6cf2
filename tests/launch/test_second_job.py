"""A job beside a live one loses nothing; what needs no cluster is refused before there is one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from cli_runs import TINY, Folder, environment, metrics

from distgram.store import folder as run_folder
from distgram.store import storage

SCRIPT = Path(__file__).parents[2] / "cluster" / "solve-or-resume.sh"
RAY = ("--ray", "--workers", 2)
LONG = TINY.replace("steps = 6", "steps = 1000000\npatience = 1000000\nmin_decrease = 0.0")


@pytest.fixture
def no_cluster(monkeypatch) -> None:
    """Whoever starts or joins a cluster fails."""
    ray = pytest.importorskip("ray")

    def started(*_, **__):
        raise AssertionError("a cluster was started")

    monkeypatch.setattr(ray, "init", started)


@pytest.mark.parametrize("lock", run_folder.LOCKS)
def test_a_live_run_is_named_before_there_is_a_cluster(folder, no_cluster, monkeypatch, lock):
    monkeypatch.setattr(run_folder.sole_job, "__defaults__", (0.0,))
    run = folder.path / "run"
    with run_folder.new(run, {"problem": {"name": "laplace2d"}}):
        pass
    config = folder.write("tiny.toml", TINY)
    with storage.of(run).locked(run / lock):
        owner = f"process {os.getpid()} on {socket.gethostname()} is solving in it"
        assert owner in folder.call("solve", config, "--out", run, "--force", *RAY).sentence
        if lock == run_folder.JOB_LOCK:
            assert owner in folder.call("resume", run, *RAY).sentence
    assert (run / "config.toml").is_file()


# A problem whose operator reads a file, which is seen by no one while the program is executed.
LATE = """
from pathlib import Path
import distgram as dg

square = dg.Box((0, 0), (1, 1))


def scaled(u):
    k = float((Path(__file__).parent / "late.txt").read_text())
    return lambda x: k * dg.laplacian(u)(x)


terms = {"interior": dg.Term(scaled, 1.0, square), "boundary": dg.Dirichlet(0.0, square.boundary)}
problem = dg.Problem(square, terms)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--out", "there"), ["there", "--force"]),
        (("--out", "there", "--force"), ["distgram has not made this one"]),
        (("--out", "a[b"), ["'['"]),
        (("--set", "problem.name=laplace3d"), ["laplace2d"]),
        (("--set", "problem={file='mine.py'}"), ["mine.py", "ZeroDivisionError", "line 2"]),
        (("--set", "problem={file='ends.py'}"), ["ends.py", "ended at once"]),
        (("--set", "model.hidden=[1000000000]"), ["model.hidden"]),
        (("--set", "problem={file='mine2.py',files=['k.csv']}"), ["'k.csv'", "problem.files"]),
        (("--set", "problem={file='late.py'}"), ["late.txt", "its own copy", "problem.files"]),
        (("--tpu", "v6e", "--topology", "4x4", "--workers", 3), ["TPU v6e"]),
    ],
)
def test_another_mistake_is_named_before_there_is_a_cluster(folder, no_cluster, options, words):
    (folder.path / "there").mkdir()
    folder.write("there/thesis.txt", "all of it")
    folder.write("mine.py", "\n1 / 0\n")
    folder.write("ends.py", "import os\nos._exit(0)\n")
    folder.write("mine2.py", "from distgram.pde.problems.laplace2d import laplace2d as problem\n")
    folder.write("late.py", LATE)
    folder.write("late.txt", "2.0")
    config = folder.write("tiny.toml", TINY)
    given = [folder.path / o if o in ("there", "a[b") else o for o in options]
    out = () if "--out" in options else ("--out", folder.path / "run")
    layout = ("--ray",) if "--tpu" in options else RAY
    sentence = folder.call("solve", config, *out, *layout, *given).sentence
    for word in words:
        assert word in sentence, sentence
    assert folder.folders() == ["there"]


def test_a_run_that_has_saved_is_not_replaced_by_a_job_that_began_before(folder):
    assert folder.solve("--set", "run.steps=2", "--force-unsaved").code == 0
    sentence = folder.solve("--force-unsaved").sentence
    assert "holds a run that has saved its state" in sentence and "distgram resume" in sentence
    for seal in (folder.path / "run" / "checkpoints").glob("*/seal.json"):
        seal.unlink()
    assert folder.solve("--set", "run.steps=2", "--force-unsaved").code == 0


class Scheduled(subprocess.Popen):
    """`solve-or-resume.sh RUN CONFIG` as a scheduler starts it."""

    def __init__(self, folder: Folder):
        (folder.path / "bin").mkdir(exist_ok=True)
        program = folder.path / "bin" / "distgram"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m distgram_launch.cli "$@"\n')
        program.chmod(0o755)
        path = os.pathsep.join(map(str, (program.parent, Path(sys.executable).parent)))
        super().__init__(
            [SCRIPT, folder.path / "run", folder.path / "long.toml", "--devices", "1"],
            env=environment(PATH=f"{path}{os.pathsep}{os.environ['PATH']}"),
            cwd=folder.path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture
def scheduled(folder) -> Iterator[ExitStack]:
    """Ends what a test has started."""
    folder.write("long.toml", LONG)
    with ExitStack() as ending:
        yield ending


def started(folder: Folder, ending: ExitStack) -> Scheduled:
    job = Scheduled(folder)
    ending.callback(job.communicate)
    ending.callback(job.kill)
    return job


def wait_for(sought, *jobs: Scheduled) -> None:
    """Until this is so."""
    until = time.monotonic() + 300
    while not sought():
        assert time.monotonic() < until and any(job.poll() is None for job in jobs), [
            job.communicate() for job in jobs if job.poll() is not None
        ]
        time.sleep(0.1)


def goes_on_to_its_end(folder: Folder, job: Scheduled) -> None:
    """A job makes steps, and ends as it is asked to, with every row."""
    run = folder.path / "run"
    rows = len(metrics(run))
    wait_for(lambda: len(metrics(run)) > rows + 5, job)
    (run / "stop").touch()
    out, err = job.communicate(timeout=300)
    assert job.returncode == 0 and "stop requested" in out, (out, err)
    steps = [row["step"] for row in metrics(run)]
    assert steps[:5] == [0, 1, 2, 4, 6] and steps == sorted(set(steps))
    assert max(b - a for a, b in zip(steps, steps[1:], strict=False)) <= 2


@pytest.mark.slow
def test_a_job_that_is_submitted_twice_loses_nothing(folder, scheduled):
    run = folder.path / "run"
    first = started(folder, scheduled)
    for sought in ("job.lock", "checkpoints/*/seal.json"):  # before the first save, and after
        wait_for(lambda sought=sought: any(run.glob(sought)), first)
        second = started(folder, scheduled)
        _, err = second.communicate(timeout=300)
        assert second.returncode == 2, err
        assert f"process {first.pid} on {socket.gethostname()} is solving in it" in err
        assert "Traceback" not in err
    goes_on_to_its_end(folder, first)


@pytest.mark.slow
def test_two_that_begin_at_once_do_not_replace_each_other(folder, scheduled):
    jobs = [started(folder, scheduled) for _ in range(2)]
    wait_for(lambda: any(job.poll() is not None for job in jobs), *jobs)
    lost, kept = sorted(jobs, key=lambda job: job.poll() is None)
    _, err = lost.communicate()
    assert lost.returncode == 2 and f"process {kept.pid} on" in err, err
    wait_for(lambda: any((folder.path / "run" / "checkpoints").glob("*/seal.json")), kept)
    goes_on_to_its_end(folder, kept)
