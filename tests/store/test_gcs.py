"""Run folders on gs://, in a bucket on loopback that tensorstore, gcsfs and Orbax take for real."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from cli_runs import TINY, environment, metrics
from gcs_server import BUCKET, Bucket
from library import solve_in

from distgram.config import schema
from distgram.config.saved import load
from distgram.config.schema import dump
from distgram.errors import FolderTaken
from distgram.linalg.mesh import make_mesh
from distgram.store import folder as folders
from distgram.store import storage
from distgram.store.checkpoint import newest, read_thetas
from distgram.store.storage import bucket as buckets

LONG = TINY + "patience = 1000000\n"


def url(name: str) -> str:
    return f"gs://{BUCKET}/runs/{name}"


def _saved(bucket: Bucket, run: str) -> bool:
    """Whether a step has been saved from which a resume goes on with a past."""
    at = re.escape(run.removeprefix(f"gs://{BUCKET}/"))
    return any(re.fullmatch(rf"{at}/checkpoints/[1-9]\d*/seal.json", n) for n in [*bucket.objects])


@contextmanager
def started(bucket: Bucket, config: Path, run: str) -> Iterator[subprocess.Popen]:
    """A run without end on one device, as a person would start it, once it has saved."""
    solving = [sys.executable, "-m", "distgram_launch.cli", "solve", str(config), "--out", run]
    process = subprocess.Popen(
        [*solving, "--set", "run.steps=1000000", "--devices", "1", "--rows"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            until = time.monotonic() + 300  # some ten on a quiet machine
            while not _saved(bucket, run):
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < until
                time.sleep(0.05)
            yield process
        finally:
            process.kill()


@pytest.mark.slow
def test_killed_and_resumed_equals_uninterrupted(folder, bucket):
    config, run = folder.write("tiny.toml", LONG), url("killed")
    with started(bucket, config, run) as process:
        process.send_signal(signal.SIGKILL)
    at = int(newest(storage.folder(run) / "checkpoints").name)
    rows = storage.folder(run).joinpath("metrics.jsonl").read_text().splitlines()
    assert json.loads(rows[-1])["step"] >= at  # rows come before the checkpoint that follows them

    end = at + 4
    ended = folder.call("resume", run, "--set", f"run.steps={end}")
    assert ended.code == 0 and f"resumed at step {at}" in ended.out, ended
    assert f"`distgram fetch {run}`" in ended.out
    assert folder.solve("--set", f"run.steps={end}", text=LONG, out="whole").code == 0
    whole, copy = folder.path / "whole", folder.path / "copy"
    assert folder.call("fetch", run, "--out", copy).out == f"{copy}\n"
    assert np.array_equal(
        read_thetas(newest(copy / "checkpoints"))[-1],
        read_thetas(newest(whole / "checkpoints"))[-1],
    )
    assert metrics(copy) == metrics(whole)
    names = [{str(p.relative_to(r)) for p in r.iterdir()} for r in (copy, whole)]
    assert names[0] == names[1]
    ended = folder.call("report", copy)
    assert ended.code == 0 and (copy / "report.html").is_file()
    assert "distgram fetch" in folder.call("report", run).sentence


@pytest.mark.slow
def test_an_object_that_asks_to_stop_and_what_a_folder_holds(folder, bucket):
    run = url("stopped")
    with started(bucket, folder.write("tiny.toml", LONG), run) as process:
        bucket.put("runs/stopped/stop", b"", {})
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, (out, err)
    result = json.loads(out.splitlines()[-1].removeprefix("@result "))
    assert (result["reason"], result["run_dir"]) == ("stop requested", run)
    assert f"`distgram resume {run}`" in err
    rows = [line for line in out.splitlines() if line.startswith("@row ")]
    puts = bucket.asked.count(("put", "runs/stopped/metrics.jsonl"))
    kept = bucket.objects["runs/stopped/metrics.jsonl"].data.count(b"\n")
    assert (
        kept == len(rows) and puts <= 2 + result["steps"] // 2 + result["seconds"] / buckets.EVERY_S
    )
    # a run that is there is not written over, but where that is asked for
    config = folder.path / "tiny.toml"
    assert "holds another run" in folder.call("solve", config, "--out", run).sentence
    solve = ("solve", config, "--out", run, "--force", "--devices", 1, "--set", "run.steps=1")
    assert folder.call(*solve).code == 0
    assert [
        json.loads(line)["step"]
        for line in (storage.folder(run) / "metrics.jsonl").read_text().splitlines()
    ] == [0, 1]
    assert "runs/stopped/stop" not in bucket.objects
    assert load(run)([[0.5, 0.5]]).shape == (1, 1)


def test_an_older_job_loses_the_folder_before_its_next_checkpoint(folder, bucket):
    """There is no lock: the newest owns it; nothing of the two is mixed."""
    run = storage.folder(url("two"))
    config = schema.load(folder.write("tiny.toml", TINY))
    with folders.new(run, dump(config)):
        pass
    taken: list[str] = []

    def resumed_elsewhere(row) -> None:
        if row["step"] == 4:
            newer = storage.of(run).lines(run / "metrics.jsonl")
            newer.restart("")
            newer.append('{"step": 3}\n')
            assert newer.sync()
            taken.append(bucket.objects["runs/two/metrics.jsonl"].data.decode())

    with pytest.raises(FolderTaken, match=f"{run}: another job has begun to solve in it"):
        solve_in(config, make_mesh(1), run, watch=resumed_elsewhere)
    assert newest(run / "checkpoints").name == "2"
    assert [bucket.objects["runs/two/metrics.jsonl"].data.decode()] == taken


def test_a_checkpoint_that_was_not_finished_is_passed_over_and_replaced(folder, bucket):
    run = url("torn")
    config = folder.write("tiny.toml", TINY)
    assert folder.call("solve", config, "--out", run, "--devices", 1).code == 0
    at = "runs/torn/checkpoints/6"
    for name in [n for n in bucket.objects if n.startswith(at)]:
        if name.endswith(("seal.json", f"{at}/commit_success.txt")):
            del bucket.objects[name]
    theta = read_thetas(newest(storage.folder(run) / "checkpoints"))[-1]
    ended = folder.call("resume", run)
    assert ended.code == 0 and "resumed at step 4" in ended.out, ended
    assert f"{at}/seal.json" in bucket.objects
    end = newest(storage.folder(run) / "checkpoints")
    assert end.name == "6" and not np.array_equal(read_thetas(end)[-1], theta)
    rows = (storage.folder(run) / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["step"] for row in rows] == [0, 1, 2, 4, 6]


def test_a_bucket_that_is_not_there(folder, bucket):
    config = folder.write("tiny.toml", TINY)
    sentence = folder.call("solve", config, "--out", "gs://nobodys/run", "--devices", 1).sentence
    assert "gs://nobodys/run: the run folder cannot be made" in sentence
    assert (
        "gs://nobodys/run: is no run folder" in folder.call("resume", "gs://nobodys/run").sentence
    )


def test_a_problem_file_on_gs(folder, bucket):
    source = "from distgram.pde.problems.laplace2d import laplace2d as problem\n"
    bucket.put("mine/problem.py", source.encode(), {})
    text = TINY.replace('name = "laplace2d"', f'file = "gs://{BUCKET}/mine/problem.py"')
    assert folder.solve("--set", "run.steps=1", text=text).code == 0
    assert (folder.path / "run" / "problem" / "problem.py").read_text() == source
    bucket.put("mine/problem.py", b"def problem(:\n", {})
    sentence = folder.solve(text=text, out="other").sentence
    assert "mine/problem.py" in sentence and "SyntaxError" in sentence and "line 1" in sentence


def test_a_problem_with_files_beside_it_in_a_run_on_gs(folder, bucket):
    """The copies in the bucket are what runs, and are enough to load it."""
    folder.write("laws.py", "from distgram.pde.problems.laplace2d import laplace2d\n")
    folder.write("name.txt", "mine")
    body = "from laws import laplace2d as problem\n"
    body += "from pathlib import Path\nprint(Path('name.txt').read_text(), __file__)\n"
    mine = folder.write("mine.py", body)
    config = folder.write("tiny.toml", TINY.replace('name = "laplace2d"', 'file = "mine.py"'))
    run = url("beside")
    ended = folder.call("solve", config, "--out", run, "--devices", 1, "--set", "run.steps=2")
    # The file is executed to be checked, its copies before a folder is made, then the run's own.
    places = [line.partition(" ")[2] for line in ended.out.splitlines() if line.startswith("mine ")]
    assert ended.code == 0 and len(places) == len(set(places)) == 3, ended
    assert places[0] == str(mine)
    names = {n.partition("beside/problem/")[2] for n in bucket.objects if "beside/problem/" in n}
    assert names == {"mine.py", "laws.py", "name.txt"}
    for file in (mine, folder.path / "laws.py", folder.path / "name.txt"):
        file.unlink()
    assert folder.call("resume", run, "--set", "run.steps=4").code == 0
    assert load(run)([0.5, 0.5]).shape == (1,)
