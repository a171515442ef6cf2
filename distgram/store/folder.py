"""A run folder: the names of its files, making one, and the locks that one job at a time holds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

import jax
import tomli_w

from distgram.errors import RunError
from distgram.linalg.mesh import gather
from distgram.store import storage
from distgram.store.storage import Folder

CONFIG = "config.toml"
PROBLEM = "problem"  # the folder of the copies of a user's problem file and what it needs
ENVIRONMENT = "environment.json"
METRICS = "metrics.jsonl"
SPECTRA = "spectra.npz"
SOLUTION = "solution.npz"
RESULT = "result.json"
CHECKPOINTS = "checkpoints"
SEAL = "seal.json"  # in a checkpoint that is whole
REPORT = "report.html"
# A file of this name that appears in a run folder asks the run to save and end.
STOP = "stop"
# Two locks: one of the job, one of the process that writes, which is the first of the job.
JOB_LOCK = "job.lock"
WRITER_LOCK = "writer.lock"
LOCKS = (JOB_LOCK, WRITER_LOCK)
# Whether an older run may be replaced; "unsaved": one that has no whole checkpoint to go on from.
Force = bool | Literal["unsaved"]
OURS = b'{"packages": {"distgram": null}}'  # content of ENVIRONMENT until the run knows its devices


@contextmanager
def new(run_dir: Folder, config: dict[str, Any], force: Force = False) -> Iterator[None]:
    """Make the folder of a new run and write its configuration. No other job uses it meanwhile.

    Raises:
        RunError: the folder holds something and `force` is not given or does not allow to replace
            that; the folder cannot be made.
        StorageError: its storage cannot be reached; another process is solving in it.
    """
    check_new(run_dir, force)
    place = storage.of(run_dir)
    try:
        place.make(run_dir)
    except OSError as error:
        raise _not_made(run_dir, error) from error
    with sole_job(run_dir, wait_s=0):
        with place.locked(run_dir / WRITER_LOCK, 0):
            _check_free(run_dir, force)  # again: another job may have begun in it
            try:
                _clear(run_dir)
                place.write(run_dir / ENVIRONMENT, OURS)
                place.write(run_dir / CONFIG, tomli_w.dumps(config).encode())
            except OSError as error:
                raise _not_made(run_dir, error) from error
        yield


@contextmanager
def by_first_process(context: AbstractContextManager[None]) -> Iterator[None]:
    """A context that the first process of a job enters; every process calls this, and none goes on
    where it could not be entered.

    Raises:
        what entering raises; RunError on the other processes.
    """
    with ExitStack() as entered:
        failed: Exception | None = None
        if jax.process_index() == 0:
            try:
                entered.enter_context(context)
            except (ValueError, OSError) as error:
                failed = error
        if not gather([failed is None]).all():
            raise failed or RunError("the first process of this job cannot use its run folder.")
        yield


def check_new(run_dir: Folder, force: Force) -> None:
    """Check what `new` will check, and write nothing: what is refused is refused at once. A run
    that goes on is named before anything else is said of its folder.

    Raises:
        as `new`.
    """
    place = storage.of(run_dir)
    place.reach(run_dir)
    storage.check_path(run_dir)
    for lock in LOCKS:
        place.check_unlocked(run_dir / lock)
    _check_free(run_dir, force)


def _check_free(run_dir: Folder, force: Force) -> None:
    """Check that a folder holds nothing, or, with `force`, a run."""
    if not run_dir.exists():
        return
    if run_dir.is_dir() and all(path.name in LOCKS for path in run_dir.iterdir()):
        return
    if not force:
        raise RunError(
            f"{run_dir}: holds another run or other files; nothing was written. "
            f"Choose another folder, go on with `distgram resume {run_dir}` (resume=True), or "
            "replace it with --force (force=True)."
        )
    if not _is_ours(run_dir):
        raise RunError(
            f"{run_dir}: force replaces a run folder only, and distgram has not made this one (no "
            f"{ENVIRONMENT} of distgram in it): choose another, or move it away."
        )
    if force == "unsaved" and any(p.name == SEAL for p in storage.files(run_dir / CHECKPOINTS)):
        raise RunError(
            f"{run_dir}: holds a run that has saved its state, which --force-unsaved does not "
            f"replace: go on with `distgram resume {run_dir}`."
        )


def _is_ours(run_dir: Folder) -> bool:
    """Whether this program has made a folder: others have a config.toml as well."""
    try:
        found = json.loads((run_dir / ENVIRONMENT).read_text(encoding="utf-8"))
        return "distgram" in found["packages"]
    except (OSError, ValueError, RecursionError, TypeError, KeyError):
        return False


def _clear(run_dir: Folder) -> None:
    """Remove all of a run but its locks, last the file by which its folder is known as one."""
    place = storage.of(run_dir)
    there = run_dir.iterdir() if run_dir.exists() else ()  # a bucket has no empty folders
    for path in sorted(there, key=lambda path: path.name == ENVIRONMENT):
        if path.name in LOCKS:
            continue
        if path.is_dir() and not (isinstance(path, Path) and path.is_symlink()):
            place.remove(path)
        else:
            path.unlink()


def _not_made(run_dir: Folder, error: OSError) -> RunError:
    return RunError(
        f"{run_dir}: the run folder cannot be made ({error.strerror or error}): choose another."
    )


def clear_stop(run_dir: Folder) -> None:
    """Forget an earlier request to stop: the run starts or goes on."""
    (run_dir / STOP).unlink(missing_ok=True)


def stop_request(run_dir: Folder | None) -> Callable[[], bool]:
    """Whether someone asks the run to end, to be asked at every step by the first process; without
    a folder nobody can."""
    if run_dir is None or jax.process_index() != 0:
        return bool
    return storage.of(run_dir).appears(run_dir / STOP)


def sole_job(run_dir: Folder, wait_s: float = storage.LOCK_S) -> AbstractContextManager[None]:
    """Inside, no other job makes this run folder anew or goes on with it; for one process.

    Raises:
        StorageError: another one does, after `wait_s` seconds.
    """
    return storage.of(run_dir).locked(run_dir / JOB_LOCK, wait_s)


@contextmanager
def sole_writer(run_dir: Folder | None) -> Iterator[None]:
    """Inside, no other job writes into this run folder, as far as its storage can see to that;
    every process of a job calls it.

    Raises:
        StorageError: another one still does.
    """
    if run_dir is None:
        yield
        return
    with by_first_process(storage.of(run_dir).locked(run_dir / WRITER_LOCK)):
        yield
