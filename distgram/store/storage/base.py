"""The operations that a run needs of a file system or a bucket."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from etils import epath

# The processes of a job that was killed are gone by then.
LOCK_S = 30.0
# A folder or a file of either kind: joined, listed and read alike.
Folder = Path | epath.Path


class Lines(ABC):
    """A file that grows by whole lines, written by one process."""

    @abstractmethod
    def restart(self, text: str) -> None:
        """Replace the content of the file, and own the file from here on."""

    @abstractmethod
    def append(self, line: str) -> None:
        """Add a line, which ends with its newline."""

    @abstractmethod
    def sync(self) -> bool:
        """Bring all lines to the storage; False: another process has begun to write there.

        Raises:
            OSError: the storage is full or gone.
        """


class Tail(ABC):
    """Reads the lines that a growing file has got since the last call."""

    @abstractmethod
    def new(self, *, last: bool = False) -> list[str]:
        """Whole new lines; all of them where the file was written anew. last: it grows no more."""


class Storage(ABC):
    """A file system or a bucket."""

    @abstractmethod
    def reach(self, folder: Folder) -> None:
        """Return where this process may ask for a folder, whether it is there or not.

        Raises:
            StorageError: it may not, or there is no way.
        """

    @abstractmethod
    def make(self, folder: Folder) -> None:
        """Make a folder and those above it, where they are missing."""

    @abstractmethod
    def remove(self, folder: Folder) -> None:
        """Remove a folder and all in it."""

    @abstractmethod
    def write(self, path: Folder, data: bytes) -> None:
        """Write a file whole or not at all, to last: a full disk, or a power cut, leaves the old
        file or the new one."""

    @abstractmethod
    def settle(self, folder: Folder) -> None:
        """Bring to the disk what other programs have written into a folder, and its name."""

    @abstractmethod
    def lines(self, path: Folder) -> Lines:
        """A file to append to."""

    @abstractmethod
    def tail(self, path: Folder, *, from_end: bool) -> Tail:
        """A file that another process appends to; from_end: what it holds now is known."""

    @abstractmethod
    def appears(self, path: Folder) -> Callable[[], bool]:
        """Whether a file is there, to be asked at every step."""

    @abstractmethod
    def free(self, folder: Folder) -> int:
        """Bytes free on the storage of a folder; -1 if the storage cannot be reached."""

    @abstractmethod
    def locked(self, path: Folder, wait_s: float = LOCK_S) -> AbstractContextManager[None]:
        """Inside, no other process holds the lock of this path, a file that is there meanwhile and
        says who holds it.

        Args:
            wait_s: seconds to wait for another process to let go of the lock.

        Raises:
            StorageError: another process holds it: its pid and its host.
        """

    @abstractmethod
    def check_unlocked(self, path: Folder) -> None:
        """Return where no process holds the lock of this path; nothing is written.

        Raises:
            StorageError: as `locked`.
        """
