"""An interrupted and resumed run equals the uninterrupted one: bitwise, on the same mesh."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp
import pytest
from cli_runs import CLOCKS, TINY, environment, metrics

from distgram.errors import CheckpointError
from distgram.store.checkpoint import newest, read_meta, read_thetas

RULES = {
    "adaptive_ratio": TINY,
    "amstramgram": TINY.replace('name = "adaptive_ratio"', 'name = "amstramgram"\nepsilon = 1e-9'),
}


def theta(run: Path) -> np.ndarray:
    """The parameters of the newest checkpoint."""
    return read_thetas(newest(run / "checkpoints"))[-1]


def values(run: Path) -> dict:
    """The result without what depends on the clock and the folder."""
    result = json.loads((run / "result.json").read_text())
    return {k: v for k, v in result.items() if k not in (*CLOCKS, "run_dir")}


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("rule", RULES)
def test_resumed_equals_uninterrupted(folder, rule, devices):
    config, (one, two) = folder.write("tiny.toml", RULES[rule]), (folder.path / n for n in "ab")
    solve = ("solve", config, "--devices", devices, "--out")
    assert folder.call(*solve, one).code == 0
    assert folder.call(*solve, two, "--set", "run.steps=4").code == 0
    assert not np.array_equal(theta(one), theta(two))
    ended = folder.call("resume", two, "--set", "run.steps=6")
    assert ended.code == 0 and "resumed at step 4" in ended.out
    assert np.array_equal(theta(one), theta(two))
    assert [row["step"] for row in metrics(one)] == [0, 1, 2, 4, 6]
    assert metrics(one) == metrics(two)
    assert values(one) == values(two) and values(two)["devices"] == devices
    with np.load(one / "spectra.npz") as a, np.load(two / "spectra.npz") as b:
        assert a["step"].tolist() == [1, 3, 6] and b["step"].tolist() == [1, 3, 4, 6]
        for name in a.files:
            assert np.array_equal(a[name], b[name][[0, 1, 3]], equal_nan=True)
    # the folder tells of the longer run, and goes on from there as it is
    assert "steps = 6" in (two / "config.toml").read_text()
    assert folder.call("resume", two).code == 0
    assert metrics(one) == metrics(two) and np.array_equal(theta(one), theta(two))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_the_run_goes_on(folder, number):
    text = TINY + "patience = 1000000\n"
    config, run = folder.write("tiny.toml", text), folder.path / "run"
    command = "import sys; from distgram_launch.cli import main; sys.exit(main())"
    arguments = ["solve", str(config), "--devices", "1", "--out", str(run)]
    process = subprocess.Popen(
        [sys.executable, "-c", command, *arguments, "--set", "run.steps=1000000"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < until:
            path = run / "metrics.jsonl"
            if path.is_file() and path.read_text().count("\n") >= 4:
                break
            time.sleep(0.05)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 128 + number, (out, err)
    assert f"`distgram resume {run}`" in out and err == ""
    assert values(run)["reason"] == "signal"
    stopped = int(newest(run / "checkpoints").name)
    assert stopped == values(run)["steps"] == metrics(run)[-1]["step"]

    end = stopped + 4
    assert folder.call("resume", run, "--set", f"run.steps={end}").code == 0
    assert folder.solve("--set", f"run.steps={end}", text=text, out="whole").code == 0
    assert np.array_equal(theta(run), theta(folder.path / "whole"))
    rows = {row["step"]: row for row in metrics(run)}
    assert len(rows) == len(metrics(run))  # none stands twice
    for row in metrics(folder.path / "whole"):
        assert rows[row["step"]] == row


def test_seconds_go_on_and_exclude_the_pause(folder):
    assert folder.solve().code == 0
    run = folder.path / "run"
    before = read_meta(run / "checkpoints")["seconds"]
    time.sleep(1.0)
    began = time.monotonic()
    assert folder.call("resume", run, "--set", "run.steps=8").code == 0
    after = json.loads((run / "result.json").read_text())["seconds"]
    assert before < after < before + time.monotonic() - began


def test_a_checkpoint_of_another_version_is_named(tmp_path):
    with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as writer:
        writer.save(tmp_path / "7" / "meta", args=ocp.args.JsonSave({"spectrum_count": 3}))
    with pytest.raises(CheckpointError, match="7: expected a checkpoint of this version"):
        read_thetas(tmp_path / "7")[-1]
