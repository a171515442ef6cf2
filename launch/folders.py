"""A run folder that may lie elsewhere: found where this machine sees it, copied, asked to stop.

Run ids are unique: a path that ends in one and exists here is the same folder as on the cluster.

    python -m distgram_launch.folders RUN     asks a run to stop; a job of the cluster does it so
"""

from __future__ import annotations

import shutil
import sys
import uuid
from collections.abc import Collection
from pathlib import Path

from distgram.errors import ClusterError
from distgram.store import storage
from distgram.store.storage import Folder

# As in distgram.store.folder, whose imports take seconds.
CONFIG, CHECKPOINTS, SEAL, STOP = "config.toml", "checkpoints", "seal.json", "stop"
NOT_BEGUN = 3  # exit code


def here(run: str) -> Path:
    """A run folder that has to be on this machine.

    Raises:
        ClusterError: it is on gs://.
    """
    if run.startswith("gs://"):
        raise ClusterError(f"{run}: expected a folder here: `distgram fetch {run}` makes a copy.")
    return Path(run)


def seen_from_here(run: str) -> bool:
    """Whether a run folder is on a file system of this machine."""
    return not run.startswith("gs://") and Path(run).is_dir()


def found(run: str) -> Folder:
    """A run folder on storage that this machine sees.

    Raises:
        ClusterError: it does not see it. StorageError: it may not ask the bucket.
    """
    folder = storage.folder(run)
    storage.of(folder).reach(folder)
    if isinstance(folder, Path) and not seen_from_here(run):
        raise ClusterError(
            f"{run}: not found here: the run has not begun, or this machine does not see its "
            "storage: mount it at the same path, or submit runs with --storage gs://BUCKET/PATH."
        )
    if not folder.is_dir():
        raise ClusterError(f"{run}: not found: no run has begun there.")
    return folder


def check_new(out: Path) -> None:
    """Check that there is nothing where a copy is to be made.

    Raises:
        ClusterError: there is.
    """
    if out.exists():
        raise ClusterError(f"{out}: is there already: choose another --out, or move it away.")


def fetch(run: str, out: Path) -> None:
    """Copy a run folder to a new folder on this machine, whole or not at all.

    Raises:
        ClusterError: `out` is there already; the run folder is not seen, or changes meanwhile.
    """
    check_new(out)
    folder, partial = found(run), out.with_name(f"{out.name}.partial-{uuid.uuid4().hex[:6]}")
    try:
        copy(folder, partial)
        partial.replace(out)
    except FileNotFoundError as error:
        raise ClusterError(f"{run}: changed while it was copied: fetch it again.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def copy(run: Folder, out: Path, without: Collection[str] = ()) -> None:
    """Copy the files of a run folder, but for some of its folders, for its locks, and for
    checkpoints that are being written, which have no seal yet."""
    names = {Path(path.relative_to(run)): path for path in storage.files(run)}
    sealed = {name.parent for name in names if name.name == SEAL}
    for name, path in names.items():
        torn = name.parts[0] == CHECKPOINTS and Path(*name.parts[:2]) not in sealed
        if name.parts[0] not in without and not torn and name.suffix != ".lock":
            copied = out / name
            copied.parent.mkdir(parents=True, exist_ok=True)
            copied.write_bytes(path.read_bytes())


def ask_to_stop(run: Folder) -> bool:
    """Ask a run to save and end; False where it has not begun, and there is nothing to save."""
    if not (run / CONFIG).exists():
        return False
    (run / STOP).touch()
    return True


if __name__ == "__main__":
    sys.exit(0 if ask_to_stop(storage.folder(sys.argv[1])) else NOT_BEGUN)
