"""Where run folders lie: on a file system, or in a bucket of Google Cloud Storage (gs://).

Both hold whole files; a `Folder` reads, lists and joins alike on either. Only a file system can
append to a file and lock a folder; a bucket replaces whole objects, if asked to on condition that
nobody else has replaced them. What follows from that is in `FileSystem` and `Bucket`.
"""

from __future__ import annotations

import difflib
import importlib.util
import os
import re
from pathlib import Path

from etils import epath

from distgram.errors import StorageError
from distgram.store.storage.base import LOCK_S, Folder, Lines, Storage, Tail
from distgram.store.storage.bucket import Bucket
from distgram.store.storage.file_system import FileSystem

__all__ = [
    "LOCK_S",
    "Folder",
    "Lines",
    "Storage",
    "StorageError",
    "Tail",
    "absolute",
    "check_path",
    "files",
    "folder",
    "of",
]

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):/+(.*)")
PATTERN = re.compile(r"[*?\[\]\\]")
# Other names by which the same bucket is known.
ALIASES = ("gs", "gcs")


def folder(path: str | os.PathLike[str]) -> Folder:
    """A path of a file system, or gs://BUCKET/PATH; ~ is the user's home.

    Raises:
        StorageError: no path, a URL of another kind, no name in the bucket, or gcsfs is missing.
    """
    text = os.fspath(path)
    if not text or "\0" in text:
        raise StorageError(f"{text!r}: expected a path, or gs://BUCKET/PATH.")
    matched = SCHEME.fullmatch(text)
    if matched is None:
        try:
            return Path(text).expanduser()
        except RuntimeError as error:
            raise StorageError(f"{text!r}: {error}: expected a path.") from error
    scheme, rest = matched[1].lower(), matched[2].strip("/")
    if scheme not in ALIASES:
        near = difflib.get_close_matches(scheme, [*ALIASES, "file"], n=1, cutoff=0.0)[0]
        nearest = f"/{rest}" if near == "file" else f"gs://{rest}"
        raise StorageError(
            f"{scheme}://{rest}: expected a path, or gs://BUCKET/PATH; nearest: {nearest}. Another "
            "store has to be mounted (s3fs, blobfuse): give the path it is mounted at."
        )
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]+/.+", rest):
        raise StorageError(f"{text}: expected gs://BUCKET/PATH, a bucket and a folder in it.")
    if importlib.util.find_spec("gcsfs") is None:
        raise StorageError(
            f"{text}: gs:// needs gcsfs, which is not installed: pip install 'distgram[gcs]'."
        )
    _fresh_listings()
    return epath.Path(f"gs://{rest}")


def check_path(path: Folder) -> None:
    """Check that checkpoints can be read back from below a path: Orbax takes it for a pattern.

    Raises:
        StorageError: the character, and what to do.
    """
    if found := PATTERN.search(str(path)):
        raise StorageError(
            f"{str(path)!r}: checkpoints cannot be read back from a path with {found[0]!r}: "
            "expected one without * ? [ ] and \\: choose another folder, or rename this one."
        )


def absolute(path: Folder) -> Folder:
    """A path that stays right in another folder; gs:// is such a path."""
    return path.absolute() if isinstance(path, Path) else path


def of(path: Folder) -> Storage:
    """What holds a file or a folder."""
    return FileSystem() if isinstance(path, Path) else Bucket()


def files(folder: Folder) -> list[Folder]:
    """All files below a folder, sorted; none where there is no such folder."""
    if not folder.is_dir():
        return []
    found: list[Folder] = []
    for path in sorted(folder.iterdir()):
        found += files(path) if path.is_dir() else [path]
    return found


def _fresh_listings() -> None:
    """gcsfs would go on to show what it has seen once, and miss what other processes write."""
    from fsspec.config import conf

    for name in ALIASES:
        conf.setdefault(name, {})["use_listings_cache"] = False
