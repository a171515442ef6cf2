"""A file system: appended to, renamed in, locked."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from distgram.errors import StorageError
from distgram.store.storage.base import Folder, Lines, Storage, Tail

# The processes of a job that was killed are gone by then.
LOCK_S = 30.0


class FileSystem(Storage):
    """A POSIX file system, shared by all hosts of a run where it has several."""

    def reach(self, folder: Folder) -> None:
        """Nothing to ask: the system's own errors are clear."""

    def make(self, folder: Folder) -> None:
        folder.mkdir(parents=True, exist_ok=True)

    def remove(self, folder: Folder) -> None:
        shutil.rmtree(folder)

    def write(self, path: Folder, data: bytes) -> None:
        partial = path.with_name(path.name + ".tmp")
        partial.write_bytes(data)
        partial.replace(path)

    def lines(self, path: Folder) -> Lines:
        return FileLines(path)

    def tail(self, path: Folder, *, from_end: bool) -> Tail:
        return FileTail(path, from_end)

    def appears(self, path: Folder) -> Callable[[], bool]:
        return path.exists

    def free(self, folder: Folder) -> int:
        try:
            return shutil.disk_usage(folder).free
        except OSError:
            return -1

    @contextmanager
    def sole_writer(self, folder: Folder) -> Iterator[None]:
        """A lock, which ends with the process that holds it."""
        descriptor, until = os.open(folder, os.O_RDONLY), time.monotonic() + LOCK_S
        try:
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError as error:
                    if time.monotonic() > until:
                        raise StorageError(
                            f"{folder}: another process is solving in it: wait for its end, or "
                            f"touch {folder / 'stop'} to ask for it."
                        ) from error
                    time.sleep(0.5)
                    continue
                except OSError:  # storage without locks
                    pass
                break
            yield
        finally:
            os.close(descriptor)


class FileLines(Lines):
    """Appended line by line; fsync brings them to the disk."""

    def __init__(self, path: Folder):
        self._path = path

    def restart(self, text: str) -> None:
        FileSystem().write(self._path, text.encode())

    def append(self, line: str) -> None:
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(line)

    def sync(self) -> bool:
        with open(self._path, "a", encoding="utf-8") as file:
            os.fsync(file.fileno())
        return True


class FileTail(Tail):
    """Read on from where it was left; from the beginning where it is another file."""

    def __init__(self, path: Folder, from_end: bool):
        there = os.stat(path) if from_end and path.is_file() else None
        self._path = path
        self._file, self._position = (there.st_ino, there.st_size) if there else (-1, 0)

    def new(self, *, last: bool = False) -> list[str]:
        try:
            with open(self._path, "rb") as file:
                stat = os.fstat(file.fileno())
                if stat.st_ino != self._file or stat.st_size < self._position:
                    self._file, self._position = stat.st_ino, 0
                file.seek(self._position)
                whole = file.read().rpartition(b"\n")
        except OSError:
            return []
        self._position += len(whole[0]) + len(whole[1])
        return whole[0].decode(errors="replace").splitlines()
