"""Runs on two Ray workers of four devices through JaxTrainer, each on a cluster of its own."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_runs import TINY, environment, metrics
from ray_runs import RayRun, config, theta

from distgram.errors import ClusterError

ray_cluster = pytest.importorskip("distgram_launch.ray.cluster")
request, Host = ray_cluster.request, ray_cluster.Host

TWO_BY_FOUR = ("--workers", 2, "--devices-per-worker", 4)
STEPS = 50


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
def test_one_step_is_that_of_one_process(folder, tmp_path):
    """Two workers of four devices and one process of eight sum in another order, no more."""
    run, one = tmp_path / "run", folder.path / "one"
    with RayRun(run, "solve", config(tmp_path, 1), "--out", run, *TWO_BY_FOUR) as two:
        assert two.end() == 0, two.read("err")
    assert folder.call("solve", config(folder.path, 1), "--out", one, "--devices", 8).code == 0
    first = metrics(run)[1]
    assert first["step"] == 1 and metrics(one)[1]["regularization"] == first["regularization"]
    # rounding of the rows, by the largest filter factor of this step, 1/(2√λ), and again by 1/√λ
    bound = 10 * np.finfo(float).eps / first["regularization"]
    assert np.linalg.norm(theta(run) - theta(one)) < bound * np.linalg.norm(theta(one))


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


# Shows a row on a cluster of its own, and prints what that tells Prometheus of it.
GAUGES = """
import sys, time, urllib.request
import ray
from distgram_launch.ray.worker import Gauges

ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False)
gauges = Gauges("run-a")
gauges.row({"step": 3, "l2_error": 1.5e-9, "rank": None, "terms": {"interior": 1.0}})
(host,) = ray.nodes()
url = f"http://{host['NodeManagerAddress']}:{host['MetricsExportPort']}/metrics"
until, told = time.monotonic() + 120.0, []
while len(told) < 2 and time.monotonic() < until:
    time.sleep(1.0)
    try:
        lines = urllib.request.urlopen(url, timeout=10).read().decode().splitlines()
    except OSError:  # it does not listen yet
        continue
    told = [line for line in lines if line.startswith("ray_distgram_")]
print(*told, sep="\\n")
"""


@pytest.mark.cluster
def test_the_metrics_of_a_run_are_among_those_of_ray():
    command, env = [sys.executable, "-c", GAUGES], environment(RAY_AUTH_MODE="disabled")
    ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    told = {line.partition("{")[0]: line for line in ended.stdout.splitlines()}
    assert set(told) == {"ray_distgram_step", "ray_distgram_l2_error"}
    assert all('run="run-a"' in line for line in told.values())
    assert told["ray_distgram_l2_error"].endswith(" 1.5e-09")


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
        ({"tpu": "v6e", "topology": "4x4", "heartbeat": 10}, "--heartbeat: on TPU slices"),
    ],
)
def test_requests_that_make_no_sense(values, said):
    with pytest.raises(ClusterError, match=said):
        request(**values)


def test_a_cluster_that_nobody_runs_is_told_at_once(folder):
    config = folder.write("tiny.toml", TINY)
    command = ("solve", config, "--out", folder.path / "run", "--ray", "--address", "127.0.0.1:1")
    ended = folder.call(*command)
    assert "127.0.0.1:1: no Ray cluster can be reached" in ended.sentence
    assert not folder.folders()


def test_the_devices_a_worker_is_expected_to_have():
    assert request().expected == 1 and request(devices_per_worker=4).expected == 4
    assert request(gpus_per_worker=8).expected == 8
    assert request(tpu="v6e", topology="4x4").expected is None  # two a chip on some generations


def test_a_request_in_words():
    assert request("2:4").words() == "2 to 4 workers x (CPU: 1)"
    assert request("2", gpus_per_worker=8).words() == "2 workers x (CPU: 1, GPU: 8)"
    four = request("4", tpu="v6e", topology="4x4")
    assert four.accelerator == "TPU-V6E" and "TPU v6e hosts of topology 4x4" in four.words()


def test_the_hosts_that_can_hold_a_request():
    def host(tpus: int, kind: str, **labels: str) -> Host:
        return Host({"CPU": 8, "TPU": tpus, f"accelerator_type:TPU-{kind}": 1}, labels)

    small = [Host({"CPU": 2, "GPU": 1}, {}), Host({"CPU": 5}, {})]
    assert request("3").places(small) == 7 and request("3").refusal("here", small) is None
    assert request("2", gpus_per_worker=1).places(small) == 1
    said = request("2", gpus_per_worker=1).refusal("here", small)
    assert said and "2 workers x (CPU: 1, GPU: 1)" in said
    assert "here has 2 host(s): (CPU: 2, GPU: 1), (CPU: 5), room for 1" in said

    # A slice of another shape or generation never becomes the one that is asked for.
    shape = {"ray.io/tpu-topology": "4x4"}
    slices = [host(4, "V6E", **shape), host(4, "V6E", **{"ray.io/tpu-topology": "2x4"})]
    slices += [host(4, "V5P", **shape), host(4, "V6E")]
    four = request("4", tpu="v6e", topology="4x4")
    assert four.places(slices) == 2
    assert "topology 2x4" in (four.refusal("here", slices) or "")


@pytest.mark.parametrize("address", ["http://head:8265", "ray://head:10001"])
def test_the_url_of_a_dashboard_is_no_address_of_a_cluster(folder, address):
    config = folder.write("tiny.toml", TINY)
    ended = folder.call(
        "solve", config, "--out", folder.path / "run", "--ray", "--address", address
    )
    assert f"{address}: expected HOST:PORT" in ended.sentence and not folder.folders()


def test_devices_of_this_process_do_not_go_with_ray(folder):
    assert "--devices 1 counts devices of this process" in folder.solve("--ray").sentence


def test_the_options_of_a_cluster_need_ray(folder):
    assert "--workers needs --ray" in folder.solve("--workers", 2).sentence
