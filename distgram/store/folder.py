"""A run folder: the names of its files, how it is made, and who may write into it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import tomli_w

from distgram.errors import RunError, UserError
from distgram.linalg.mesh import gather
from distgram.store import storage
from distgram.store.storage import Folder

CONFIG = "config.toml"
PROBLEM = "problem.py"  # the copy of a user's problem file
ENVIRONMENT = "environment.json"
METRICS = "metrics.jsonl"
SPECTRA = "spectra.npz"
SOLUTION = "solution.npz"
RESULT = "result.json"
CHECKPOINTS = "checkpoints"
REPORT = "report.html"
# A file of this name that appears in a run folder asks the run to save and end.
STOP = "stop"


def make(run_dir: Folder, config: dict[str, Any], force: bool = False) -> None:
    """Make the folder of a new run and write its configuration.

    Raises:
        RunError: `force` is not given and it holds something; it cannot be made.
        StorageError: its storage cannot be reached.
    """
    place = storage.of(run_dir)
    place.reach(run_dir)
    if run_dir.exists() and (not run_dir.is_dir() or any(run_dir.iterdir())):
        if not force:
            raise RunError(
                f"{run_dir}: holds another run or other files; nothing was written. "
                f"Choose another folder, go on with `distgram resume {run_dir}` (resume=True), or "
                "replace it with --force (force=True)."
            )
        if not (run_dir / CONFIG).is_file():
            raise RunError(f"{run_dir}: force replaces a run folder only, and this is none.")
        place.remove(run_dir)
    try:
        place.make(run_dir)
        place.write(run_dir / CONFIG, tomli_w.dumps(config).encode())
    except OSError as error:
        raise RunError(
            f"{run_dir}: the run folder cannot be made ({error.strerror or error}): choose another."
        ) from error


def make_once(run_dir: Folder, config: dict[str, Any], force: bool = False) -> None:
    """As `make`, to be called by every process of a job: the first one makes the folder, and none
    goes on before it is there.

    Raises:
        what `make` raises; RunError on the other processes.
    """
    failed: UserError | None = None
    if jax.process_index() == 0:
        try:
            make(run_dir, config, force)
        except UserError as error:
            failed = error
    if not gather([failed is None]).all():
        raise failed or RunError(f"{run_dir}: the first process cannot make the run folder.")


def clear_stop(run_dir: Folder) -> None:
    """Forget an earlier request to stop: the run starts or goes on."""
    (run_dir / STOP).unlink(missing_ok=True)


def stop_request(run_dir: Folder | None) -> Callable[[], bool]:
    """Whether someone asks the run to end, to be asked at every step by the first process; without
    a folder nobody can."""
    if run_dir is None or jax.process_index() != 0:
        return bool
    return storage.of(run_dir).appears(run_dir / STOP)


@contextmanager
def sole_writer(run_dir: Folder | None) -> Iterator[None]:
    """Inside, no other job writes into this run folder, as far as its storage can see to that.

    Raises:
        StorageError: another one still does.
    """
    if run_dir is None or jax.process_index() != 0:
        yield
        return
    with storage.of(run_dir).sole_writer(run_dir):
        yield
