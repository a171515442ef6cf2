"""What run folders need of a bucket: lines, their readers, one owner; paths that are refused."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from cli_runs import TINY
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


def test_paths_of_a_file_system_are_left_as_they_are():
    assert storage.folder("runs/a") == Path("runs/a")
    with pytest.raises(StorageError, match="ftp://a/b"):
        storage.folder("ftp://a/b")
