"""TensorBoard events of a run, read back as TensorBoard reads them."""

from __future__ import annotations

import builtins
import json
import struct
from pathlib import Path

import pytest
from cli_runs import TINY
from distgram_launch.show import EVENTS, Events, scalars
from tensorboardX.proto.event_pb2 import Event, SessionLog

from distgram.errors import StorageError


def events(data: bytes) -> list[Event]:
    """The records of an event file: length, its checksum, an Event, its checksum."""
    found, at = [], 0
    while at < len(data):
        (length,) = struct.unpack("<Q", data[at : at + 8])
        found.append(Event.FromString(data[at + 12 : at + 12 + length]))
        at += 12 + length + 4
    return found


def shown(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Name -> (step, value) in order, of all event files: a START takes back what has its step or
    a later one, as TensorBoard's own reader does."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for path in sorted((run / EVENTS).iterdir()):  # named by the second at which they were begun
        for event in events(path.read_bytes()):
            if event.session_log.status == SessionLog.START:
                curves = {k: [e for e in v if e[0] < event.step] for k, v in curves.items()}
            for value in event.summary.value:
                curves.setdefault(value.tag, []).append((event.step, value.simple_value))
    return curves


def test_a_resumed_run_has_every_step_once(folder):
    run = folder.path / "run"
    assert folder.solve("--tensorboard", "--set", "run.steps=5").code == 0
    assert len(list((run / EVENTS).iterdir())) == 1
    # the step budget of the first job logged step 5, which the second comes by without logging it
    ended = folder.call("resume", run, "--tensorboard", "--set", "run.steps=8")
    assert ended.code == 0, ended
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    curves = shown(run)
    assert {"mean_square_residual", "heldout_residual", "l2_error", "terms/interior"} < set(curves)
    for row in rows:
        for name, value in scalars(row):
            there = [v for step, v in curves[name] if step == row["step"]]
            assert there == [pytest.approx(value, rel=1e-6)], (name, row["step"])  # it is float32
    steps = [step for step, _ in curves["mean_square_residual"]]
    assert steps == [row["step"] for row in rows] == [0, 1, 2, 4, 5, 6, 8]


def test_scalars_of_a_row():
    row = {"step": 3, "seconds": 1, "l2_error": None, "terms": {"a": 0.5}, "accepted": True}
    assert dict(scalars(row)) == {"seconds": 1.0, "terms/a": 0.5, "accepted": 1.0}


def test_nothing_is_written_where_it_is_not_asked_for_or_the_run_is_refused(folder):
    assert folder.solve("--set", "run.steps=1").code == 0
    assert not (folder.path / "run" / EVENTS).exists()
    assert folder.solve("--tensorboard").code == 2  # the folder holds a run
    assert not (folder.path / "run" / EVENTS).exists()


def test_without_tensorboardx_the_extra_is_named(folder, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("tensorboardX"):
            raise ImportError(f"No module named {name!r}")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    assert "pip install 'distgram[tensorboard]'" in folder.solve("--tensorboard").sentence
    assert folder.folders() == []


def test_storage_that_refuses_the_events_is_a_sentence(tmp_path):
    """It is raised, at once: tensorboardX's own writer would wait for ever."""
    (tmp_path / "full").touch()
    events = Events(tmp_path / "full" / "tensorboard")
    with pytest.raises(StorageError, match="events cannot be written"):
        events.write({"step": 0, "l2_error": 1.0})


@pytest.mark.slow
def test_events_in_a_bucket(folder, bucket):
    from gcs_server import BUCKET

    config, name = folder.write("tiny.toml", TINY), f"gs://{BUCKET}/runs/events"
    assert folder.call("solve", config, "--out", name, "--devices", 1, "--tensorboard").code == 0
    assert folder.call("fetch", name, "--out", folder.path / "here").code == 0
    steps = [step for step, _ in shown(folder.path / "here")["l2_error"]]
    assert steps == [0, 1, 2, 4, 6]
