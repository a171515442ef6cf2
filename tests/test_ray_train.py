"""Runs on two Ray workers of four devices through JaxTrainer, each on a cluster of its own."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import numpy as np
import pytest
from cli_runs import metrics
from ray_runs import RayRun, config, theta

from launch.errors import ClusterError

request = pytest.importorskip("launch.ray_cluster").request

TWO_BY_FOUR = ("--workers", 2, "--devices-per-worker", 4)
STEPS = 40


@pytest.fixture(scope="module")
def solved(tmp_path_factory) -> Path:
    """A run on two workers of four devices that nothing disturbed."""
    folder = tmp_path_factory.mktemp("solved")
    with RayRun(
        folder / "run", "solve", config(folder, STEPS), "--out", folder / "run", *TWO_BY_FOUR
    ) as run:
        assert run.end() == 0, run.read("err")
        rows = run.rows()
        assert [row["step"] for row in rows[:-1]] == list(range(STEPS + 1))
        assert rows[-1]["reason"] == "step budget" and rows[-1]["devices"] == 8
    return run.run


@pytest.mark.cluster
def test_the_run_says_what_it_got(solved):
    said = solved.with_name("run.err").read_text()
    assert re.search(r"rank 0 of 2 on \S+, pid \d+: 4 of 8 device\(s\)", said)
    assert "8 device(s) in 2 processes" in said and "float64" in said
    environment = json.loads((solved / "environment.json").read_text())
    assert environment["processes"] == 2 and len(environment["devices"]) == 8
    for rank in (0, 1):
        log = (solved / "logs" / f"rank-{rank}.log").read_text(errors="replace")
        assert f"rank {rank} of 2" in log and "float64" in log


@pytest.mark.cluster
def test_two_runs_are_bitwise_equal(solved, tmp_path):
    run = tmp_path / "run"
    with RayRun(run, "solve", config(tmp_path, STEPS), "--out", run, *TWO_BY_FOUR) as again:
        assert again.end() == 0, again.read("err")
    assert np.array_equal(theta(run), theta(solved)) and metrics(run) == metrics(solved)


@pytest.mark.cluster
def test_the_same_error_as_one_process(solved, folder):
    """Whole trajectories part; both come down to the same order of the error."""
    ended = folder.call(
        *("solve", config(folder.path, STEPS), "--out", folder.path / "one", "--devices", 8)
    )
    assert ended.code == 0
    one, two = (
        json.loads((run / "result.json").read_text())["l2_error"]
        for run in (folder.path / "one", solved)
    )
    first = metrics(solved)[0]["l2_error"]
    # Both are plateaus of one network and rule, six orders below the start or on the way there.
    assert two < 1e-2 * first and one / 30 < two < 30 * one


@pytest.mark.cluster
def test_resumed_on_other_workers_the_points_are_the_same(solved, tmp_path):
    """Eight devices to three: another mesh, other padding, the same points and parameters."""
    before, run = theta(solved), tmp_path / "run"
    run.symlink_to(solved)
    with RayRun(
        *(run, "resume", solved, "--set", f"run.steps={STEPS}"),
        *("--workers", "1:3", "--devices-per-worker", 1),
    ) as again:
        assert again.end() == 0, again.read("err")
        assert again.rows()[-1]["devices"] == 3
        assert "not the 8 device(s) in 2 processes that saved it" in again.read("err")
    assert np.array_equal(theta(solved), before)


@pytest.mark.cluster
def test_stop_and_signal_save_and_the_run_goes_on(tmp_path):
    run = tmp_path / "run"
    path = config(tmp_path, 10**6)
    with RayRun(run, "solve", path, "--out", run, *TWO_BY_FOUR) as first:
        first.wait_for_step(3)
        (run / "stop").touch()
        assert first.end() == 0, first.read("err")
        stopped = first.rows()[-1]
    assert stopped["reason"] == "stop requested" and metrics(run)[-1]["step"] == stopped["steps"]
    with RayRun(run, "resume", run, *TWO_BY_FOUR) as second:
        second.wait_for_step(stopped["steps"] + 3)
        second.process.send_signal(signal.SIGTERM)
        assert second.end() == 128 + signal.SIGTERM, second.read("err")
        assert f"resumed at step {stopped['steps']}" in second.read("err")
        last = second.rows()[-1]["steps"]
    assert last > stopped["steps"]
    assert [row["step"] for row in metrics(run)] == list(range(last + 1))


@pytest.mark.cluster
def test_a_request_that_cannot_be_met_names_both_sides(tmp_path):
    run = tmp_path / "run"
    layout = ("--workers", 2, "--gpus-per-worker", 7)
    with RayRun(run, "solve", config(tmp_path, STEPS), "--out", run, *layout) as refused:
        assert refused.end() == 2
        said = refused.read("err").splitlines()[-1]
    assert "asked for 2 workers x (CPU: 1, GPU: 7); the cluster has 1 host(s): (CPU: " in said
    assert not run.exists()


@pytest.mark.parametrize(
    "values, said",
    [
        ({"workers": "two"}, "--workers two: expected N or MIN:MAX"),
        ({"workers": "3:2"}, "--workers 3:2: expected N or MIN:MAX"),
        ({"workers": "0"}, "--workers 0: expected N or MIN:MAX"),
        ({"tpu": "v6e"}, "--tpu and --topology: expected both"),
        ({"tpu": "v6e", "topology": "4x4", "gpus_per_worker": 1}, "expected one"),
        ({"gpus_per_worker": 1, "devices_per_worker": 2}, "leave it out beside GPUs"),
    ],
)
def test_requests_that_make_no_sense(values, said):
    with pytest.raises(ClusterError, match=said):
        request(**values)


def test_a_request_in_words():
    assert request("2:4").words() == "2 to 4 workers x (CPU: 1)"
    assert request("2", gpus_per_worker=8).words() == "2 workers x (CPU: 1, GPU: 8)"
    four = request("4", tpu="v6e", topology="4x4")
    assert four.accelerator == "TPU-V6E" and "TPU v6e hosts of topology 4x4" in four.words()


def test_the_options_of_a_cluster_need_ray(folder):
    assert "--workers needs --ray" in folder.solve("--workers", 2).sentence
