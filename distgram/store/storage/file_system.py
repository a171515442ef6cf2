"""A file system: appended to, renamed in, locked."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from distgram.errors import StorageError
from distgram.store.storage.base import LOCK_S, Folder, Lines, Storage, Tail

POLL_S = 0.2


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
        with open(partial, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # before the rename: a power cut could leave an empty file
        partial.replace(path)
        _sync(path.parent)

    def settle(self, folder: Folder) -> None:
        for path in folder.rglob("*"):
            _sync(path)
        _sync(folder)
        _sync(folder.parent)

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
    def locked(self, path: Folder, wait_s: float = LOCK_S) -> Iterator[None]:
        """A lock of the system, which ends with the process that holds it: a file that was left
        behind locks nothing."""
        descriptor = _lock(path, time.monotonic() + wait_s)
        try:
            yield
        finally:
            with suppress(OSError):  # the storage is gone
                path.unlink()
            os.close(descriptor)

    def check_unlocked(self, path: Folder) -> None:
        """Lock a file that is there, and let go of it."""
        with suppress(FileNotFoundError, NotADirectoryError):
            descriptor = os.open(path, os.O_RDWR)
            try:
                _take(descriptor, path)
            finally:
                os.close(descriptor)


def _take(descriptor: int, path: Folder) -> None:
    """Lock the file of a descriptor where the storage knows locks.

    Raises:
        StorageError: another process has locked it.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        owner = os.read(descriptor, 300).decode(errors="replace").strip()
        raise StorageError(
            f"{path.parent}: {owner or 'another process'} is solving in it: wait for its "
            f"end, or touch {path.with_name('stop')} to ask for it."
        ) from error
    except OSError:  # storage without locks
        pass


def _lock(path: Folder, until: float) -> int:
    """The descriptor of a file, locked."""
    while True:
        # a file and no folder: NFS locks only what may be written
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _take(descriptor, path)
        except StorageError:
            os.close(descriptor)
            if time.monotonic() >= until:
                raise
            time.sleep(POLL_S)
            continue
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                break
        os.close(descriptor)  # whoever held it has removed it since
    os.ftruncate(descriptor, 0)
    with suppress(OSError):  # a full disk: it is locked all the same
        os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
    return descriptor


def _sync(path: Folder) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
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
