"""Checkpoints of a run by Orbax. A resume begins at the newest whole one, whatever else is there.

Each checkpoint is sealed with the SHA-256 hashes of its files once all are written. A checkpoint
whose seal is missing or does not match is torn: a restore passes over it without opening it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from distgram.errors import CheckpointError, StorageFull
from distgram.linalg.mesh import gather
from distgram.store import storage
from distgram.store.folder import SEAL
from distgram.store.storage import Folder

log = logging.getLogger("distgram")

STEP = re.compile("[0-9]{1,15}")  # the name of a checkpoint
BLOCK = 2**20  # bytes read at once
OVERHEAD = 2**17  # bytes a checkpoint takes beside its arrays: 90 kB measured


class Checkpoints:
    """The checkpoints of one run folder: the last `keep` steps, each whole or absent.

    Args:
        folder: absolute path, shared by all processes of the job.
    """

    def __init__(self, folder: Folder, keep: int = 3):
        storage.check_path(folder)
        self.folder, self._place = folder, storage.of(folder)
        options = ocp.CheckpointManagerOptions(
            preservation_policy=preservation_policy.LatestN(keep),
            enable_async_checkpointing=False,
            cleanup_tmp_directories=True,
        )
        try:
            self._manager = ocp.CheckpointManager(folder, options=options)
        except OSError as error:
            raise CheckpointError(f"{folder} cannot be opened: {_short(error)}") from error

    def steps(self) -> list[int]:
        """The saved steps, ascending."""
        return sorted(self._manager.all_steps())

    def save(self, step: int, state: Any, meta: dict[str, Any]) -> None:
        """Save the arrays of `state` and the JSON values of `meta` as step `step`.

        Every process calls it, and writes the shards that it holds.

        Raises:
            StorageFull: there is no room, or no storage. CheckpointError: it refused the state.
        """
        args = ocp.args.Composite(state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta))
        # told before writing: Orbax fails on a full disk in a dozen ways, none of them clear; and
        # of several processes one that fails alone leaves the others waiting for it
        need = OVERHEAD + sum(x.nbytes for x in jax.tree.leaves(state))
        free = int(gather([self._place.free(self.folder)]).min())
        if free < need:
            lack = f"no space left on device: {need} bytes needed, {free} free"
            raise StorageFull(self._refused(step, lack if free >= 0 else "it is not there"))
        try:
            saved = self._manager.save(step, args=args)
            self._manager.wait_until_finished()
            if saved and jax.process_index() == 0:
                _seal(self.folder / str(step))
        except Exception as error:
            for torn in self.folder.glob(f"{step}.orbax-checkpoint-tmp*"):
                with suppress(OSError):
                    self._place.remove(torn)
            raise CheckpointError(self._refused(step, _short(error))) from error
        if not saved and step not in self.steps():
            raise CheckpointError(f"checkpoint of step {step} was refused by {self.folder}.")

    def _refused(self, step: int, why: str) -> str:
        last = max((s for s in self.steps() if is_whole(self.folder / str(s))), default=None)
        there = "" if last is None else f", then `distgram resume` goes on from step {last}"
        return (
            f"the checkpoint of step {step} could not be written to {self.folder} ({why}): make "
            f"room or mend the storage{there}."
        )

    def restore(self, like: Callable[[dict[str, Any]], Any]) -> tuple[int, Any, dict[str, Any]]:
        """The newest whole checkpoint: (step, state, meta).

        A torn checkpoint is passed over, with a warning that names its step, and is deleted once an
        older one is restored. The first process decides for all which is the newest whole one.

        Args:
            like: from the meta of the checkpoint to abstract arrays, laid out as wanted.

        Raises:
            CheckpointError: there is none, none is whole, or a whole one cannot be restored.
        """
        steps = self.steps()
        whole = next((s for s in reversed(steps) if is_whole(self.folder / str(s))), -1)
        step = int(gather([whole])[0, 0])
        broken = [s for s in reversed(steps) if s > step]
        for torn in broken:
            log.warning(
                "the checkpoint of step %d cannot be read and is passed over: its files are "
                "not those that were written.",
                torn,
            )
        if step < 0:
            raise _none(self.folder, broken)
        try:
            meta = self._manager.restore(
                step, args=ocp.args.Composite(meta=ocp.args.JsonRestore())
            )["meta"]
            args = ocp.args.Composite(state=ocp.args.StandardRestore(like(meta)))
            state = self._manager.restore(step, args=args)["state"]
        except Exception as error:  # whole, and yet not read: not to be thrown away
            raise CheckpointError(
                f"the checkpoint of step {step} in {self.folder} is whole and cannot be "
                f"restored: {_short(error)}."
            ) from error
        for torn in broken:
            self._manager.delete(torn)
        return step, state, meta

    def close(self) -> None:
        """Wait for what is being written, and let go of the folder."""
        self._manager.close()


def newest(folder: Folder) -> Folder:
    """The newest whole checkpoint of a folder of checkpoints.

    Raises:
        CheckpointError: there is none.
    """
    saved = _newest_first(folder)
    for checkpoint in saved:
        if is_whole(checkpoint):
            return checkpoint
    raise _none(folder, sorted(int(p.name) for p in saved))


def read_meta(folder: Folder) -> dict[str, Any]:
    """The newest meta of a folder of checkpoints, even where the arrays beside it are torn.

    Raises:
        CheckpointError: there is no whole checkpoint.
    """
    last = newest(folder)
    with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as reader:
        for checkpoint in _newest_first(folder):
            try:
                return reader.restore(checkpoint / "meta", args=ocp.args.JsonRestore())
            except (OSError, ValueError):
                continue
    raise _none(folder, [int(last.name)])


def of_step(folder: Folder, step: int) -> Folder:
    """The checkpoint of one step in a folder of checkpoints.

    Raises:
        CheckpointError: it is not there or is torn, with the steps that are.
    """
    if is_whole(folder / str(step)):
        return folder / str(step)
    whole = sorted(int(p.name) for p in _newest_first(folder) if is_whole(p))
    raise CheckpointError(f"{folder}: no whole checkpoint of step {step}: expected one of {whole}.")


def meta_of(checkpoint: Folder) -> dict[str, Any]:
    """The meta of one checkpoint."""
    with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as reader:
        return reader.restore(checkpoint / "meta", args=ocp.args.JsonRestore())


def read_thetas(checkpoint: Folder, name: str = "best_theta") -> list[np.ndarray]:
    """The parameters θ (p,) of every time slab so far; of one, where time is not cut.

    Args:
        name: of the last of them: 'best_theta', the solution, or 'theta', those of its step.

    Raises:
        CheckpointError: another version of distgram wrote it.
        StorageError: a path from which Orbax cannot read.
    """
    storage.check_path(checkpoint)
    meta = meta_of(checkpoint)
    if "solved" not in meta:
        raise CheckpointError(f"{checkpoint}: expected a checkpoint of this version of distgram.")
    wanted = {name: 0, "frozen": [0] * meta["solved"]}
    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted)
    args = ocp.args.PyTreeRestore(item=wanted, restore_args=as_numpy, partial_restore=True)
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
        read = reader.restore(checkpoint / "state", args=args)
    return [*read["frozen"], read[name]]


def is_whole(checkpoint: Folder) -> bool:
    """Whether the files of a checkpoint are those that its seal names."""
    try:
        return json.loads((checkpoint / SEAL).read_text()) == _hashes(checkpoint)
    except (OSError, ValueError):
        return False


def _newest_first(folder: Folder) -> list[Folder]:
    there = folder.iterdir() if folder.is_dir() else ()
    return sorted((p for p in there if STEP.fullmatch(p.name)), key=lambda p: -int(p.name))


def _seal(checkpoint: Folder) -> None:
    place = storage.of(checkpoint)
    sealed = json.dumps(_hashes(checkpoint)).encode()
    place.settle(checkpoint)  # before the seal: what is sealed is on the disk
    place.write(checkpoint / SEAL, sealed)


def _hashes(checkpoint: Folder) -> dict[str, str]:
    files = (p for p in storage.files(checkpoint) if not p.name.startswith(SEAL))
    return {str(p.relative_to(checkpoint)): _hash(p) for p in files}


def _hash(path: Folder) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _none(folder: Folder, broken: list[int]) -> CheckpointError:
    what = f"; those of steps {broken} cannot be read" if broken else ""
    return CheckpointError(f"{folder}: no whole checkpoint to go on from{what}.")


def _short(error: BaseException) -> str:
    """The first line of an error, at most 200 characters, without a full stop."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200].rstrip(".")
