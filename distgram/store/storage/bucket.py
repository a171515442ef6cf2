"""A bucket of Google Cloud Storage: whole objects, each replaced at once or not at all.

Nothing can be appended to, so that a growing file is kept in memory and its object replaced: when
it has to be there, as before a checkpoint, and else at most every EVERY_S seconds (Google allows
one replacement per second of the same name).

Nothing can be locked either. Every replacement of a growing file names the generation that it
replaces, the one that this process has written last, and the bucket refuses it where there is
another: the newest job in a folder owns it, an older one learns that before its next checkpoint.
"""

from __future__ import annotations

import errno
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import TYPE_CHECKING

from distgram.errors import StorageError
from distgram.store.storage.base import LOCK_S, Folder, Lines, Storage, Tail

if TYPE_CHECKING:
    import tensorstore

EVERY_S = 5.0


class Bucket(Storage):
    """gs://; needs the extra `gcs`, and application default credentials."""

    def reach(self, folder: Folder) -> None:
        try:
            folder.exists()
        except Exception as error:
            raise StorageError(
                f"{folder}: the bucket cannot be reached ({_first_line(error)}): is its name "
                "right, and has this machine credentials (`gcloud auth application-default login`, "
                "or a service account)?"
            ) from error

    def make(self, folder: Folder) -> None:
        """There are no folders but in the names of objects."""

    def remove(self, folder: Folder) -> None:
        with _as_os_error(folder):
            folder.rmtree()  # type: ignore[union-attr]

    def write(self, path: Folder, data: bytes) -> None:
        with _as_os_error(path):
            path.write_bytes(data)

    def settle(self, folder: Folder) -> None:
        """Nothing to do: an object that is there is there to stay."""

    def lines(self, path: Folder) -> Lines:
        return ObjectLines(path)

    def tail(self, path: Folder, *, from_end: bool) -> Tail:
        return ObjectTail(path, from_end)

    def appears(self, path: Folder) -> Callable[[], bool]:
        return _Appearance(path)

    def free(self, folder: Folder) -> int:
        """A bucket has no end."""
        return sys.maxsize

    def locked(self, path: Folder, wait_s: float = LOCK_S) -> AbstractContextManager[None]:
        """Nothing to do: see `ObjectLines.sync`."""
        return nullcontext()

    def check_unlocked(self, path: Folder) -> None:
        """Nothing to do: nothing can be locked."""


class ObjectLines(Lines):
    """Kept in memory; the object is replaced if it is still the one that was written here last."""

    def __init__(self, path: Folder):
        self._path, self._text, self._stored = path, bytearray(), 0
        self._generation, self._at, self._ours = b"", 0.0, True

    def restart(self, text: str) -> None:
        store, name = _store(self._path)
        with _as_os_error(self._path):
            self._generation = store.read(name).result().stamp.generation
        self._text, self._ours = bytearray(text.encode()), True
        self._replace()

    def append(self, line: str) -> None:
        self._text += line.encode()
        if time.monotonic() - self._at >= EVERY_S:
            self._replace()

    def sync(self) -> bool:
        if self._ours and self._stored != len(self._text):
            self._replace()
        elif self._ours:  # all is written: somebody may have replaced it since
            store, name = _store(self._path)
            with _as_os_error(self._path):
                read = store.read(name, if_not_equal=self._generation).result()
            self._ours = read.state == "unspecified"
        return self._ours

    def _replace(self) -> None:
        if not self._ours:
            return
        store, name = _store(self._path)
        with _as_os_error(self._path):
            stamp = store.write(name, bytes(self._text), if_equal=self._generation).result()
        self._generation, self._stored, self._at = (
            stamp.generation,
            len(self._text),
            time.monotonic(),
        )
        self._ours = bool(stamp.generation)  # b"": the object was of another generation


class ObjectTail(Tail):
    """The object is read anew when its generation has changed, and asked for that now and then."""

    def __init__(self, path: Folder, from_end: bool):
        self._path, self._seen, self._generation, self._at = path, b"", b"", float("-inf")
        if from_end:
            self.new(last=True)

    def new(self, *, last: bool = False) -> list[str]:
        if time.monotonic() - self._at < EVERY_S / 2 and not last:
            return []
        self._at, (store, name) = time.monotonic(), _store(self._path)
        try:
            read = store.read(name, if_not_equal=self._generation).result()
        except ValueError:  # out of reach: asked again
            return []
        if read.state != "value":
            return []
        self._generation = read.stamp.generation
        before, self._seen = self._seen, read.value[: read.value.rfind(b"\n") + 1]
        fresh = self._seen.removeprefix(before) if self._seen.startswith(before) else self._seen
        return fresh.decode(errors="replace").splitlines()


class _Appearance:
    def __init__(self, path: Folder):
        self._path, self._there, self._at = path, False, float("-inf")

    def __call__(self) -> bool:
        if time.monotonic() - self._at >= EVERY_S:
            self._there, self._at = self._path.exists(), time.monotonic()
        return self._there


def _store(path: Folder) -> tuple[tensorstore.KvStore, str]:
    """The bucket by tensorstore, which Orbax writes arrays with, and a name in it."""
    bucket, _, name = str(path).removeprefix("gs://").partition("/")
    return _opened(bucket), name


@cache
def _opened(bucket: str) -> tensorstore.KvStore:
    import tensorstore

    return tensorstore.KvStore.open({"driver": "gcs", "bucket": bucket}).result()


@contextmanager
def _as_os_error(path: Folder) -> Iterator[None]:
    """What the clients of a bucket raise, as errors of storage."""
    try:
        yield
    except OSError as error:
        said = error.strerror or str(error)
        raise OSError(error.errno or errno.EIO, said, str(path)) from error
    except Exception as error:
        raise OSError(errno.EIO, _first_line(error), str(path)) from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:300]
