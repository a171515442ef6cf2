"""Runs of several workers, and jobs, whose folders are on gs://."""

from __future__ import annotations

import json
import os
import re
import signal
import time

import numpy as np
import pytest
from bench.cluster import local_cluster
from cli_runs import TINY, metrics
from distgram_launch.ray.jobs import ID
from gcs_server import BUCKET
from ray_runs import RayRun, config, same, theta

from distgram.store import storage

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.filterwarnings("ignore:ssl=None is deprecated:DeprecationWarning"),
]
TWO_BY_TWO = ("--workers", 2, "--devices-per-worker", 2)
STEPS = 40
PATIENCE = 600


class BucketRun(RayRun):
    """A run whose folder is on gs://; what it prints stays beside `run`."""

    def __init__(self, run, url, *arguments):
        self.there = storage.folder(url)
        super().__init__(run, *arguments)

    def step(self) -> int:
        path = self.there / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return json.loads(lines[-1])["step"] if lines else -1

    def pid(self, rank: int) -> int:
        said = self.read("err")
        return int(re.findall(rf"rank {rank} of \d+ on \S+, pid (\d+)", said)[-1])


def test_a_killed_worker_and_a_resume_end_bitwise_equal(tmp_path, bucket, folder):
    plain = config(tmp_path, STEPS)
    with RayRun(
        tmp_path / "whole", "solve", plain, "--out", tmp_path / "whole", *TWO_BY_TWO
    ) as run:
        assert run.end() == 0, run.read("err")
    url = f"gs://{BUCKET}/ray/killed"
    steps = ("--set", f"run.steps={STEPS - 10}")
    with BucketRun(tmp_path / "a", url, "solve", plain, "--out", url, *TWO_BY_TWO, *steps) as run:
        run.wait_for_step(11)
        os.kill(run.pid(1), signal.SIGKILL)
        assert run.end() == 0, run.read("err")
        assert "workers failed" in run.read("err") and "resumed at step" in run.read("err")
        seen = [row["step"] for row in run.rows()[:-1]]
        assert seen == list(range(STEPS - 10 + 1))  # each once
    steps = ("--set", f"run.steps={STEPS}")
    with BucketRun(tmp_path / "b", url, "resume", url, *TWO_BY_TWO, *steps) as run:
        assert run.end() == 0, run.read("err")
        assert [row["step"] for row in run.rows()[:-1]] == list(range(STEPS - 9, STEPS + 1))
    copy = tmp_path / "copy"
    assert folder.call("fetch", url, "--out", copy).code == 0
    assert same(copy, tmp_path / "whole")
    # the workers of every start are named; one compilation cache serves all of them
    said = (tmp_path / "a.err").read_text() + (tmp_path / "b.err").read_text()
    for rank in (0, 1):
        assert len(set(re.findall(rf"rank {rank} of 2 on \S+, pid (\d+)", said))) >= 3
    assert any(name.startswith("ray/.xla-cache/") for name in bucket.objects)
    assert not any(".probe-" in name for name in bucket.objects)


def test_a_job_is_watched_stopped_resumed_and_fetched(folder, bucket, monkeypatch):
    text = TINY.replace("steps = 6", "steps = 1000000\npatience = 1000000")
    path = folder.write("tiny.toml", text)
    with local_cluster(cpus=4) as url:
        monkeypatch.setenv("RAY_API_SERVER_ADDRESS", url)
        stored = ("--storage", f"gs://{BUCKET}/jobs", "--tensorboard")
        ended = folder.call("submit", path, *stored, *TWO_BY_TWO)
        assert ended.code == 0, ended
        matched = ID.fullmatch(ended.out.strip())
        assert matched
        run = f"jobs/{matched[1]}"
        until = time.monotonic() + PATIENCE
        while run + "/checkpoints/4/seal.json" not in bucket.objects:
            assert time.monotonic() < until
            time.sleep(0.01)
        stopped = folder.call("stop", matched[1], "--timeout", PATIENCE)
        assert stopped.code == 0 and "stop requested at step" in stopped.out, stopped
        at = int(re.findall(r"at step (\d+)", stopped.out)[0])
        assert "rank 1 of 2" in folder.call("logs", matched[1]).out
        assert "dashboard" in folder.call("logs", matched[1], "--worker", 1).sentence
        ended = folder.call("resume", matched[1], "--set", f"run.steps={at + 4}")
        assert ended.code == 0, ended
        watched = folder.call("watch", matched[1])
        assert watched.code == 0 and "step budget" in watched.out, watched
        for name in ("far", "near"):
            given = matched[1] if name == "far" else f"gs://{BUCKET}/{run}"
            assert folder.call("fetch", given, "--out", folder.path / name).code == 0
    far, near = folder.path / "far", folder.path / "near"
    assert metrics(far) == metrics(near) and metrics(far)[-1]["step"] == at + 4
    assert np.array_equal(theta(far), theta(near))
    assert len(list((far / "tensorboard").iterdir())) == 2
