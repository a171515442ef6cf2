"""Faults that strike a run on two Ray workers: it goes on where it was, or ends by name."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from cli_runs import metrics
from ray_runs import RayRun, config, same

pytest.importorskip("ray")

LAYOUT = ("--workers", 2, "--devices-per-worker", 4, "--heartbeat", 10, "--watchdog", 20)
STEPS = 40
STRIKE = 12  # past the checkpoint of step 10


def solve(folder: Path, harmed: bool = False, steps: int = STEPS) -> RayRun:
    """A run in a folder of its own."""
    run = folder / "run"
    return RayRun(run, "solve", config(folder, steps, harmed), "--out", run, *LAYOUT)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Path:
    with solve(tmp_path_factory.mktemp("uninterrupted")) as run:
        assert run.end() == 0, run.read("err")
    return run.run


@pytest.mark.cluster
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_worker_comes_back_bitwise(uninterrupted, tmp_path, rank):
    """Rank 0 holds the coordinator and writes the metrics; rank 1 does neither."""
    with solve(tmp_path) as run:
        run.wait_for_step(STRIKE)
        os.kill(run.pid(rank), signal.SIGKILL)
        assert run.end() == 0, run.read("err")
        said = run.read("err")
        printed = [row["step"] for row in run.rows()[:-1]]
    assert "workers failed" in said and "resumed at step" in said
    assert printed == list(range(STEPS + 1))  # none lost, none twice
    assert same(run.run, uninterrupted)


@pytest.mark.cluster
def test_a_frozen_worker_is_replaced(uninterrupted, tmp_path):
    with solve(tmp_path) as run:
        run.wait_for_step(STRIKE)
        os.kill(run.pid(1), signal.SIGSTOP)
        assert run.end() == 0, run.read("err")
        assert "resumed at step" in run.read("err")
    assert same(run.run, uninterrupted)


@pytest.mark.cluster
def test_a_preempted_worker_saves_at_once(uninterrupted, tmp_path):
    with solve(tmp_path) as run:
        run.wait_for_step(STRIKE)
        os.kill(run.pid(1), signal.SIGTERM)
        assert run.end() == 0, run.read("err")
        assert "preempted (1 of at most" in run.read("err")
        assert "workers failed" not in run.read("err")
    assert same(run.run, uninterrupted)


@pytest.mark.cluster
def test_a_stuck_worker_is_replaced_and_tells_where_it_was(tmp_path):
    with solve(tmp_path, harmed=True) as run:
        run.wait_for_step(STRIKE)
        (tmp_path / "stuck").touch()
        assert run.end() == 0, run.read("err")
        assert "resumed at step" in run.read("err")
    logs = [p.read_text(errors="replace") for p in (run.run / "logs").glob("rank-*.log")]
    # the watchdog of the stuck rank, or of the one that waits for it, tells of every thread
    assert any("Timeout (" in log and "Thread 0x" in log for log in logs)
    assert [row["step"] for row in metrics(run.run)] == list(range(STEPS + 1))


@pytest.mark.cluster
def test_a_nan_on_one_rank_ends_the_run_on_all(tmp_path):
    with solve(tmp_path, harmed=True, steps=10**6) as run:
        run.wait_for_step(STRIKE)
        (tmp_path / "nan").touch()
        assert run.end() == 1, run.read("err")
        result = run.rows()[-1]
        assert result["reason"] == "non-finite" and "workers failed" not in run.read("err")
    saved = {int(p.name) for p in (run.run / "checkpoints").iterdir() if p.name.isdigit()}
    assert result["steps"] not in saved  # a non-finite state is never saved


@pytest.mark.cluster
def test_storage_that_is_gone_ends_the_run_by_name(tmp_path):
    with solve(tmp_path, steps=10**6) as run:
        run.wait_for_step(STRIKE)
        run.run.rename(tmp_path / "gone")
        assert run.end() == 2, run.read("err")
        said = run.read("err").splitlines()[-1]
    assert str(run.run) in said and "Traceback" not in run.read("err")
