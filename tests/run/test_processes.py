"""The same loop in several processes of plain jax.distributed: one decision, one writer."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from cli_runs import TINY, environment, metrics
from library import solve_in
from ray_runs import theta

from distgram.config.schema import check, dump, load
from distgram.errors import StorageFull
from distgram.linalg.mesh import gather, make_mesh, pad, unpad
from distgram.run.ends import REASONS, agree, of_budget
from distgram.run.setup import Limits
from distgram.store import folder as folders
from distgram.store.checkpoint import Checkpoints

# One process of a job: index, processes, port, devices, run folder, "resume" or "start".
PROCESS = """
import os, sys
index, processes, port, devices, folder, how = sys.argv[1:]
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=" + devices
import jax
jax.distributed.initialize(
    "127.0.0.1:" + port, int(processes), int(index), cluster_detection_method="deactivate"
)
{body}
jax.distributed.shutdown()
"""
CONFIG = """
from pathlib import Path
from distgram.config.build import setup
from distgram.config.schema import dump, load
from distgram.linalg.mesh import make_mesh
from distgram.linalg.precision import set_precision
from distgram.run.hooks import Listener
from distgram.run.solve import run
set_precision()
folder = Path(folder)
config = load(folder / "config.toml")
def show(line):
    print(line, flush=True)
result = run(
    setup(config), make_mesh(), run_dir=folder, resume=how == "resume", described=dump(config),
    listener=Listener(row=show, say=show),
).result
print(result.reason, result.signal, result.steps)
"""
PYTHON = """
import distgram as dg
square = dg.Box((0, 0), (1, 1))
problem = dg.Problem(square, {"interior": dg.Term(dg.laplacian, -1.0, square),
                              "edge": dg.Dirichlet(0.0, square.boundary)})
def solved():
    return dg.solve(problem, network=dg.MLP([6]), points={"interior": 64, "edge": 32}, steps=3,
                    run_dir=folder, progress=False)
print(solved().theta.tobytes().hex())
try:
    solved()
except dg.UserError as error:
    print(type(error).__name__)
"""


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Processes:
    """`solve` in several processes on a run folder that has its config."""

    def __init__(self, run: Path, count: int, devices: int, how: str = "start", body: str = CONFIG):
        port = free_port()
        self.all = [
            subprocess.Popen(
                [sys.executable, "-c", PROCESS.replace("{body}", body)]
                + [str(v) for v in (index, count, port, devices, run, how)],
                env=environment(OPENBLAS_NUM_THREADS="1"),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for index in range(count)
        ]

    def end(self, seconds: float = 240.0) -> list[str]:
        """What each of them printed; they must have ended well."""
        try:
            told = [p.communicate(timeout=seconds)[0] for p in self.all]
        finally:
            for p in self.all:
                p.kill()
        assert [p.returncode for p in self.all] == [0] * len(self.all), told
        return told


def folder_of(path: Path, text: str = TINY, **limits: object) -> Path:
    """A run folder with its config."""
    tree = dump(check(load_text(path, text)))
    tree["run"] |= limits
    with folders.new(path, tree):
        return path


def load_text(path: Path, text: str) -> dict:
    source = path.with_suffix(".toml")
    source.write_text(text, encoding="utf-8")
    return dump(load(source))


@pytest.mark.slow
def test_two_processes_of_four_devices_are_bitwise_the_same_twice(tmp_path):
    moving = TINY + '[sampling]\nname = "greedy"\nevery = 3\n'  # moved alike by all processes
    runs = [folder_of(tmp_path / name, moving) for name in "ab"]
    for run in runs:
        told = Processes(run, 2, 4).end()
        for text in told:  # both saw every row, and came to the same end
            assert text.splitlines()[-1] == "step budget None 6"
            assert "8 device(s) in 2 processes" in text
    assert np.array_equal(theta(runs[0]), theta(runs[1]))
    assert metrics(runs[0]) == metrics(runs[1])
    assert [row["step"] for row in metrics(runs[0])] == [0, 1, 2, 4, 6]  # one writer


@pytest.mark.slow
def test_one_step_equals_that_of_one_process_within_rounding(tmp_path):
    cutoff = 1e-4
    rule = f'name = "anagram"\nrelative_cutoff = {cutoff}'
    text = TINY.replace('name = "adaptive_ratio"', rule)
    one, two = (folder_of(tmp_path / name, text, steps=1) for name in ("one", "two"))
    solve_in(load(one / "config.toml"), make_mesh(8), one)
    Processes(two, 2, 4).end()
    a, b = theta(one), theta(two)
    # Rows differ by eps relative to the largest, which the pseudoinverse takes by up to 1/rcond.
    bound = 10 * np.finfo(float).eps / cutoff
    assert 0 < np.linalg.norm(a - b) / np.linalg.norm(a) < bound or np.array_equal(a, b)


@pytest.mark.slow
def test_a_signal_to_one_process_ends_all_at_one_step(tmp_path):
    run = folder_of(tmp_path / "run", steps=10**6, patience=10**6, log_every=1)
    job = Processes(run, 2, 1)
    path, until = run / "metrics.jsonl", time.monotonic() + 120
    while not (path.is_file() and path.read_text().count("\n") > 5):
        assert time.monotonic() < until and all(p.poll() is None for p in job.all)
        time.sleep(0.05)
    job.all[1].send_signal(signal.SIGTERM)
    ends = [text.splitlines()[-1].split() for text in job.end()]
    assert ends[0] == ends[1] and ends[0][:2] == ["signal", "15"]
    steps = int(ends[0][2])
    assert metrics(run)[-1]["step"] == steps
    assert json.loads((run / "result.json").read_text())["reason"] == "signal"
    # and it goes on from there, on one process with another number of devices
    said: list[str] = []
    tree = dump(load(run / "config.toml"))
    tree["run"]["steps"] = steps + 3
    result = solve_in(check(tree), make_mesh(8), run, resume=True, say=said.append)
    assert (result.steps, result.reason) == (steps + 3, "step budget")
    assert any(f"resumed at step {steps}" in line for line in said)
    assert any("not the 2 device(s) in 2 processes" in line for line in said)


@pytest.mark.slow
def test_a_file_that_asks_to_stop_ends_all_processes(tmp_path):
    run = folder_of(tmp_path / "run", steps=10**6, patience=10**6)
    (run / folders.STOP).touch()
    ends = {text.splitlines()[-1] for text in Processes(run, 2, 1).end()}
    assert ends == {"stop requested None 0"}


@pytest.mark.slow
def test_two_processes_solve_from_python_into_one_folder(tmp_path):
    told = [text.splitlines() for text in Processes(tmp_path / "run", 2, 1, body=PYTHON).end()]
    thetas, refused = zip(*(lines[-2:] for lines in told), strict=True)
    assert thetas[0] == thetas[1] and len(thetas[0]) == 16 * 25
    assert refused == ("RunError", "RunError")  # a second run in the folder, on both
    assert theta(tmp_path / "run").tobytes().hex() == thetas[0]


@pytest.mark.parametrize("devices", [1, 3, 4])
def test_resumed_on_another_number_of_devices(tmp_path, devices):
    """500 points are padded to other lengths on 8, 4, 3 and 1 devices; they are the same points."""
    text = TINY.replace("count = 100", "count = 501")
    run = folder_of(tmp_path / "run", text, steps=2)
    solve_in(load(run / "config.toml"), make_mesh(8), run)
    before = theta(run)
    said: list[str] = []
    tree = dump(load(run / "config.toml"))
    tree["run"]["steps"] = 2
    result = solve_in(check(tree), make_mesh(devices), run, resume=True, say=said.append)
    assert np.array_equal(theta(run), before) and result.devices == devices
    assert any(f"on {devices} device(s), not the 8 device(s)" in line for line in said)
    # the next step is that of 8 devices but for the rounding of sums, which this rule's largest
    # filter factor, 1/(2√λ), takes by 1/√λ: λ >= 1e-4 in these first steps
    ends = []
    for count, name in ((8, "eight"), (devices, "other")):
        copy = folder_of(tmp_path / name, text, steps=2)
        solve_in(load(copy / "config.toml"), make_mesh(8), copy)
        tree["run"]["steps"] = 3
        solve_in(check(tree), make_mesh(count), copy, resume=True)
        ends.append(theta(copy))
    eight, other = ends
    bound = 10 * np.finfo(float).eps / 1e-4
    assert np.linalg.norm(eight - other) < bound * np.linalg.norm(eight)


def test_a_resume_says_nothing_where_nothing_changed(folder):
    assert folder.solve("--set", "run.steps=2").code == 0
    ended = folder.call("resume", folder.path / "run", "--set", "run.steps=4", "--devices", 1)
    assert ended.code == 0 and "within rounding only" not in ended.out
    ended = folder.call("resume", folder.path / "run", "--set", "run.steps=6", "--devices", 2)
    assert ended.code == 0 and "within rounding only" in ended.out


def test_a_file_that_asks_to_stop_is_obeyed_once(folder):
    text = TINY + "patience = 1000000\n"
    config, run = folder.write("tiny.toml", text), folder.path / "run"
    solving = [sys.executable, "-m", "distgram_launch.cli", "solve", str(config), "--out", str(run)]
    process = subprocess.Popen(
        [*solving, "--set", "run.steps=1000000", "--devices", "1", "--rows"],
        cwd=folder.path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith('@row {"step": 0,')
        (run / "stop").touch()
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0, (out, err)
    result = json.loads(out.splitlines()[-1].removeprefix("@result "))
    assert result["reason"] == "stop requested"
    assert all(line.startswith("@row ") for line in out.splitlines()[:-1])
    assert "stopped as asked" in err
    end = result["steps"] + 2
    assert folder.call("resume", run, "--set", f"run.steps={end}").code == 0
    assert metrics(run)[-1]["step"] == end and not (run / "stop").exists()


def test_the_reasons_of_one_process_are_its_own():
    assert agree("stalled", 2.0, 0, np.zeros(3), 5, 7.0) == ("stalled", 2.0, 0, 7.0)
    assert agree(None, 2.0, 0, np.zeros(3), 5).reason is None
    limits = Limits()
    assert of_budget(limits.max_steps, limits, 0.0) == "step budget"
    assert of_budget(0, limits, 1e9) is None
    assert REASONS[-1] == "non-finite"  # what no other reason may hide
    assert gather([1.0, 2.0]).tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize("n, multiple", [(1, 8), (7, 3), (8, 4), (501, 8)])
def test_padding_comes_off_again(n, multiple):
    x, w = np.random.default_rng(0).random((n, 2)), np.full(n, 0.5)
    padded = pad(x, w, multiple)
    assert len(padded[0]) % multiple == 0
    bare = unpad(*padded)
    assert np.array_equal(bare[0], x) and np.array_equal(bare[1], w)


def test_a_checkpoint_needs_room_before_anything_is_written(tmp_path):
    (tmp_path / "c").mkdir()
    checkpoints = Checkpoints(tmp_path / "c")
    (tmp_path / "c").rename(tmp_path / "gone")
    with pytest.raises(StorageFull, match="could not be written .*it is not there"):
        checkpoints.save(0, {"x": np.zeros(1)}, {})
