"""A run folder where it lies: used from here if this machine sees it, else by a small job there.

Run ids are unique, so a path that ends in one and exists here is the same folder. The small job
runs `python -m distgram_launch.run_files ACTION RUN [NAME]`, which prints its answer in base64.
"""

from __future__ import annotations

import base64
import io
import shlex
import shutil
import sys
import tarfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distgram.errors import ClusterError, StorageError
from distgram.store import storage
from distgram.store.storage import Folder

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

# The answer travels through the job's log, four thirds of its size, in one response.
PACKED_LIMIT = 64 * 2**20
JOB_SECONDS = 120
SEAL = "seal.json"  # as in distgram.store.checkpoint, whose import takes seconds
_ANSWER, _REFUSED = "@answer ", "@refused "


def stop(run: Folder) -> bytes:
    """Ask the run to save and end; b'' where it has not begun, and there is nothing to save."""
    if not (run / "config.toml").exists():
        return b""
    (run / "stop").touch()
    return b"asked"


def read(run: Folder, name: str) -> bytes:
    """The bytes of one file of the run folder."""
    path = run / name
    if not path.exists():
        folder = path.parent
        there = sorted(p.name for p in folder.iterdir()) if folder.exists() else []
        hint = f"there are {', '.join(there)}" if there else "there is nothing yet"
        raise ClusterError(f"{path}: not found: {hint}.")
    return path.read_bytes()


def pack(run: Folder, *without: str) -> bytes:
    """The run folder as a .tar.gz, without checkpoints that are not whole and some folders."""
    if not run.exists():
        raise ClusterError(f"{run}: not found: the run has not begun, or its storage is gone.")
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for path in _files(run):
            name = path.relative_to(run)
            if name.parts[0] in without:
                continue
            content = path.read_bytes()
            member = tarfile.TarInfo(str(name))
            member.size, member.mtime = len(content), int(time.time())
            archive.addfile(member, io.BytesIO(content))
    if data.tell() > PACKED_LIMIT:
        raise ClusterError(
            f"{run}: {data.tell() / 2**20:.0f} MiB packed, more than the {PACKED_LIMIT >> 20} MiB "
            "that may travel through a job's log: copy it with the storage's own means"
            + ("." if isinstance(run, Path) else f", or by `distgram fetch {run}`.")
        )
    return data.getvalue()


def unpack(packed: bytes, folder: Path) -> None:
    """The files of a .tar.gz into a folder."""
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")


def _files(folder: Folder) -> Iterator[Folder]:
    """All files, without those of checkpoints that are being written, which have no seal yet."""
    for path in sorted(folder.iterdir()):
        if not path.is_dir():
            yield path
        elif folder.name != "checkpoints" or (path / SEAL).exists():
            yield from _files(path)


ACTIONS: dict[str, Callable[..., bytes]] = {"stop": stop, "read": read, "pack": pack}


def perform(
    client: JobSubmissionClient, runtime_env: dict[str, Any], run: str, action: str, *names: str
) -> bytes:
    """Do one of ACTIONS with a run folder, from here where it can be seen, else on the cluster.

    Args:
        runtime_env: that of the run's job: where the small job finds this module.

    Raises:
        ClusterError: it cannot be done; the sentence of the job that tried.
    """
    if seen_from_here(run):
        return ACTIONS[action](storage.folder(run), *names)
    command = shlex.join(["python", "-m", "distgram_launch.run_files", action, run, *names])
    job = client.submit_job(
        entrypoint=command,
        runtime_env=runtime_env,
        submission_id=f"dghelper-{uuid.uuid4().hex[:12]}",
    )
    until = time.monotonic() + JOB_SECONDS
    while not client.get_job_status(job).is_terminal():
        if time.monotonic() > until:
            client.stop_job(job)
            raise ClusterError(
                f"{run}: the cluster did not run `{command}` within {JOB_SECONDS} s: "
                f"`ray job logs {job}` may tell why."
            )
        time.sleep(0.25)
    log, message = client.get_job_logs(job), client.get_job_info(job).message
    client.delete_job(job)
    for line in log.splitlines():
        if line.startswith(_ANSWER):
            return base64.b64decode(line.removeprefix(_ANSWER))
        if line.startswith(_REFUSED):
            raise ClusterError(line.removeprefix(_REFUSED))
    raise ClusterError(f"{run}: `{command}` failed on the cluster: {message}")


def copy(run: Folder, out: Path) -> None:
    """Copy the files of a run folder to a folder of this machine."""
    if not run.is_dir():
        raise ClusterError(f"{run}: not found: no run has begun there.")
    for path in _files(run):
        copied = out / path.relative_to(run)
        copied.parent.mkdir(parents=True, exist_ok=True)
        copied.write_bytes(path.read_bytes())


def fetch(run: str, out: Path, packed: Callable[[], bytes] | None = None) -> None:
    """Copy a run folder to a new folder on this machine, whole or not at all.

    Args:
        packed: gives what `pack` does, of a folder that this machine does not see.

    Raises:
        ClusterError: `out` is there already; the folder is not there, or too large.
    """
    if out.exists():
        raise ClusterError(f"{out}: is there already: choose another --out, or move it away.")
    partial = out.with_name(f"{out.name}.partial-{uuid.uuid4().hex[:6]}")
    try:
        if packed is None:
            copy(storage.folder(run), partial)
        else:
            unpack(packed(), partial)
        partial.replace(out)
    except FileNotFoundError as error:
        raise ClusterError(f"{run}: changed while it was copied: fetch it again.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def here(run: str) -> Path:
    """A run folder that has to be on this machine.

    Raises:
        ClusterError: it is on gs://.
    """
    if run.startswith("gs://"):
        raise ClusterError(f"{run}: expected a folder here: `distgram fetch {run}` makes a copy.")
    return Path(run)


def seen_from_here(run: str) -> bool:
    """Whether the run folder is on a file system of this machine."""
    return not run.startswith("gs://") and Path(run).is_dir()


if __name__ == "__main__":
    _, _action, _run, *_names = sys.argv
    try:
        print(_ANSWER + base64.b64encode(ACTIONS[_action](storage.folder(_run), *_names)).decode())
    except (ClusterError, StorageError, OSError, ImportError) as error:
        print(_REFUSED + " ".join(str(error).split()))
        sys.exit(2)
