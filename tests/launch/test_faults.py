"""Faults that strike a run on two Ray workers: it goes on where it was, or ends by name."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import pytest
from bench import faults
from cli_runs import Folder, metrics
from ray_runs import RayRun, config, same

from distgram.store import folder as run_folder

LAYOUT = ("--workers", 2, "--devices-per-worker", 4, "--heartbeat", 10, "--watchdog", 20)
STEPS = 150  # as in bench/faults.py, whose strikes come after step 20
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


@pytest.mark.cluster
def test_a_second_job_in_the_folder_of_a_running_one_is_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(run_folder.sole_job, "__defaults__", (1.0,))  # seconds it waits
    with solve(tmp_path, steps=10**6) as run:
        run.wait_for_step(STRIKE)
        same_config = config(tmp_path, 10**6)
        for command in (
            ("resume", run.run),
            ("resume", run.run, "--ray", *LAYOUT),
            ("solve", same_config, "--out", run.run, "--force", "--devices", 1),
        ):
            ended = Folder(tmp_path).call(*command)
            assert ended.code == 2 and f"process {run.process.pid} on " in ended.err, ended
        run.wait_for_step(run.step() + 5)  # nothing has happened to it
        (run.run / "stop").touch()
        assert run.end() == 0, run.read("err")
        assert run.rows()[-1]["reason"] == "stop requested"


@pytest.mark.cluster
def test_a_worker_killed_while_it_compiles_comes_back(uninterrupted, tmp_path):
    found = faults.compiling(tmp_path / "compiling", STEPS, uninterrupted)
    assert found["code"] == 0 and found["equal"], found


@pytest.mark.cluster
def test_a_run_stops_though_a_killed_worker_restarts(tmp_path):
    found = faults.stopped_in_restart(tmp_path / "restart")
    assert found["code"] == 0 and found["ended"].startswith("stop requested at step"), found


@pytest.mark.cluster
def test_a_run_folder_that_is_removed_ends_the_run_by_name(tmp_path):
    found = faults.ended(tmp_path / "removed", 10**6, "run folder removed")
    assert found["code"] == 2 and str(tmp_path) in found["ended"], found


@pytest.mark.cluster
def test_a_worker_over_its_memory_comes_back_or_ends_the_run_by_name(tmp_path):
    """Ray's own monitor ends it."""
    harmless = faults.uninterrupted(tmp_path / "harmless", STEPS, True)
    found = faults.over_memory(tmp_path / "once", STEPS, harmless)
    assert found["code"] == 0 and found["equal"], found
    found = faults.ended(tmp_path / "always", STEPS, "worker over its memory")
    assert found["code"] == 2 and "out of memory, ended by Ray" in found["ended"], found
    assert "distgram resume" in found["ended"]


def test_compiling_between_two_steps_is_given_its_own_time(monkeypatch):
    """It is no step: neither held to the limit of one, nor counted among the longest."""
    worker = pytest.importorskip("distgram_launch.ray.worker")
    given: list[float] = []
    now = iter([0.0, 1.0, 3.0, 4.0, 800.0, 801.0])
    monkeypatch.setattr(worker.time, "monotonic", lambda: next(now) + 1e6)
    monkeypatch.setattr(
        worker.faulthandler, "dump_traceback_later", lambda seconds, **rest: given.append(seconds)
    )
    watchdog = worker.Watchdog(None, 30.0)
    for compiling in (False, False, False, True, False, False):
        watchdog.alive(compiling)
    limit = worker.COMPILE_LIMIT_S
    assert given == [limit, 30.0, 30.0, 40.0, limit, 40.0, 40.0]  # 20 times the longest step


def test_a_worker_that_ray_ended_for_its_memory_is_told_of_in_words():
    """Ray's own text ends in an address of its documentation."""
    backend = pytest.importorskip("distgram_launch.ray.backend")
    said = (
        "A worker health check failed.\n4 worker(s) were killed due to the node running low on "
        "memory. Memory on the node (IP: 192.0.2.2, ID: d8) was 11.50GB used / 23.54GB limit "
        "(0.488321)\nRefer to the documentation on how to address the out of memory issue: ..."
    )
    told = backend.first_line(RuntimeError(said))
    assert told == "out of memory, ended by Ray: 11.50GB of 23.54GB of its host in use"
    assert backend.first_line(RuntimeError("a\nb")) == "RuntimeError: b"


def test_a_full_storage_is_not_tried_again_wherever_it_is_met(monkeypatch):
    worker = pytest.importorskip("distgram_launch.ray.worker")
    task = worker.Task({}, "/runs/a", None, 30.0, None)

    def met(number):
        def solved(task):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(worker, "_solved", solved)
        return worker.train({"task": task})

    assert met(errno.ENOSPC) == {
        "error": "/runs/a: No space left on device: make room, then resume."
    }
    with pytest.raises(OSError, match="Input/output"):
        met(errno.EIO)


@pytest.mark.cluster
def test_a_torn_checkpoint_is_passed_over(uninterrupted, tmp_path):
    found = faults.recovered(
        tmp_path / "torn", STEPS, "newest checkpoint torn, worker killed", uninterrupted
    )
    assert found["code"] == 0 and found["equal"], found


@pytest.mark.cluster
def test_a_killed_driver_is_resumed_by_hand(uninterrupted, tmp_path):
    found = faults.driver_killed(tmp_path / "driver", STEPS, uninterrupted)
    assert found["code"] == 0 and found["equal"], found


# The hosts are forked off this process, where other tests may have started jax, and exec at once.
@pytest.mark.filterwarnings(r"ignore:os\.fork\(\) was called:RuntimeWarning")
@pytest.mark.cluster
@pytest.mark.parametrize("spare", [True, False])
def test_a_lost_host_is_replaced_or_done_without(uninterrupted, tmp_path, monkeypatch, spare):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    found = faults.host_lost(tmp_path / "host", STEPS, uninterrupted, spare)
    assert found["code"] == 0 and found["devices"] == (8 if spare else 4), found
    assert found["equal"] or not spare, found


@pytest.mark.cluster
@pytest.mark.skipif(os.geteuid() != 0, reason="a small disk of its own needs root")
def test_storage_that_is_full_ends_the_run_by_name(tmp_path):
    found = faults.ended(tmp_path / "full", 10**6, "storage full")
    assert found["code"] == 2 and str(tmp_path) in found["ended"], found
