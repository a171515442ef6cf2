"""What run folders need of a bucket: lines, their readers, one owner; paths that are refused."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_runs import TINY, environment
from gcs_server import BUCKET

from distgram.errors import StorageError
from distgram.store import storage
from distgram.store.storage import bucket as buckets


def url(name: str) -> str:
    return f"gs://{BUCKET}/storage/{name}"


def test_lines_and_their_tail(bucket, monkeypatch):
    monkeypatch.setattr(buckets, "EVERY_S", 0.0)
    path = storage.folder(url("lines") + "/log")
    tail = storage.of(path).tail(path, from_end=True)
    assert tail.new() == []
    lines = storage.of(path).lines(path)
    lines.restart("one\n")
    assert tail.new() == ["one"] and tail.new() == []
    lines.append("two\n")
    lines.append("thr")
    assert tail.new() == ["two"]  # whole lines only
    lines.append("ee\n")
    assert tail.new() == ["three"]
    again = storage.of(path).lines(path)
    again.restart("one\nTWO\n")  # written anew
    assert tail.new() == ["one", "TWO"]
    lines.append("four\n")
    assert not lines.sync() and again.sync()
    assert path.read_text() == "one\nTWO\n"
    newer = storage.of(path).lines(path)
    newer.restart("")  # replaced where the older has nothing to write
    assert newer.sync() and not again.sync() and path.read_text() == ""
    again = storage.of(path).lines(path)
    again.restart("one\nTWO\n")
    known = storage.of(path).tail(path, from_end=True)
    again.append("three\n")
    assert known.new() == ["three"]


def test_rows_are_replaced_at_most_every_few_seconds(bucket, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(buckets.time, "monotonic", lambda: clock[0])
    path = storage.folder(url("often") + "/metrics.jsonl")
    lines = storage.of(path).lines(path)
    lines.restart("")
    puts = []
    for _ in range(12):
        clock[0] += 1.0
        lines.append("row\n")
        puts.append(bucket.asked.count(("put", "storage/often/metrics.jsonl")))
    assert puts == [1, 1, 1, 1, 2, 2, 2, 2, 2, 3, 3, 3]
    assert lines.sync() and lines.sync()
    assert path.read_text() == "row\n" * 12
    assert bucket.asked.count(("put", "storage/often/metrics.jsonl")) == 4


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (
            "s3://bucket/run",
            "s3://bucket/run: expected a path, or gs://BUCKET/PATH; nearest: gs://bucket/run",
        ),
        ("file:///runs/a", "nearest: /runs/a"),
        ("gs://bucket", "a bucket and a folder in it"),
        ("gs:///run", "a bucket and a folder in it"),
    ],
)
def test_other_urls_are_refused_with_the_nearest(folder, path, said):
    config = folder.write("tiny.toml", TINY)
    for command in (("solve", config, "--out", path), ("resume", path)):
        assert said in folder.call(*command).sentence
    assert folder.folders() == []


def test_without_gcsfs_the_extra_is_named(folder, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n == "gcsfs" else find(n))
    config = folder.write("tiny.toml", TINY)
    sentence = folder.call("solve", config, "--out", "gs://bucket/run").sentence
    assert "pip install 'distgram[gcs]'" in sentence


def test_the_log_of_a_worker_outlives_it(bucket, tmp_path):
    """What it has written is uploaded though it is killed, after what an earlier one has left."""
    bucket.put("storage/logs/rank-0.log", b"earlier\n", {})
    log = f"gs://{BUCKET}/storage/logs/rank-0.log"
    worker = (
        "import os, signal; from distgram_launch.log_upload import local_log; "
        f"file = open(local_log({log!r}), 'a'); file.write('last words\\n'); file.flush(); "
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", worker], env=environment(TMPDIR=str(tmp_path)), timeout=60
    )
    assert ended.returncode == -signal.SIGKILL
    until = time.monotonic() + 60
    while list(tmp_path.glob("distgram-*.log")):
        assert time.monotonic() < until
        time.sleep(0.1)
    assert bucket.objects["storage/logs/rank-0.log"].data == b"earlier\nlast words\n"


def test_paths_of_a_file_system_are_left_as_they_are():
    assert storage.folder("runs/a") == Path("runs/a")
    with pytest.raises(StorageError, match="ftp://a/b"):
        storage.folder("ftp://a/b")
