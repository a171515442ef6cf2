"""A run folder that is not one folder for all workers is refused before anything is computed."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

ray_worker = pytest.importorskip("distgram_launch.ray.worker")


class Gathered:
    """`mesh.gather` of several threads that stand for processes."""

    def __init__(self, count: int):
        self._met, self._rows = threading.Barrier(count, timeout=30), [np.zeros(1)] * count

    def of(self, rank: int):
        """The function that the process of a rank calls."""

        def gather(values) -> np.ndarray:
            self._rows[rank] = np.asarray(values)
            self._met.wait()
            rows = np.stack(self._rows)
            self._met.wait()  # nobody overwrites what another has not read
            return rows

        return gather


def told(*folders: Path) -> list[str | None]:
    """What every worker says of the run folder as it sees it."""
    gathered, said = Gathered(len(folders)), list[str | None](["nothing"] * len(folders))

    def ask(rank: int) -> None:
        said[rank] = ray_worker._unshared(folders[rank], rank, gathered.of(rank))

    threads = [threading.Thread(target=ask, args=(k,)) for k in range(len(folders))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return said


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(ray_worker, "PROBE_S", 0.3)


def made(folder: Path) -> Path:
    folder.mkdir()
    (folder / "config.toml").touch()
    return folder


def test_one_folder_is_accepted_and_left_clean(tmp_path):
    run = made(tmp_path / "run")
    assert told(run, run, run) == [None] * 3
    assert [p.name for p in run.iterdir()] == ["config.toml"]


def test_a_folder_of_each_host_is_refused_on_all(tmp_path):
    """Both can write, neither sees what the other wrote: a local disk mounted at the same path."""
    said = told(made(tmp_path / "here"), made(tmp_path / "there"))
    for text in said:
        assert text and "not one writable folder" in text and "[0, 1]" in text


def test_a_host_without_the_folder_is_named_by_all(tmp_path):
    run = made(tmp_path / "run")
    said = told(run, run, tmp_path / "absent")
    assert all(text and "of the ranks 0 to 2, [2] cannot" in text for text in said)
    assert said[2] and "(no config.toml in it)" in said[2]
