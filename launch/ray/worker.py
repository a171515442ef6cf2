"""What runs in every worker of a Ray job: the same `solve`, watched. jax is imported inside."""

from __future__ import annotations

import errno
import faulthandler
import logging
import os
import random
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TextIO

from distgram_launch.ray.backend import Line, open_log
from distgram_launch.ray.cluster import take_variables
from ray.train import get_context
from ray.util.metrics import Gauge
from ray.util.queue import Queue

from distgram.errors import CheckpointError, ClusterError, FolderTaken, StorageFull
from distgram.store import storage
from distgram.store.storage import Folder

COMPILE_LIMIT_S = 900.0  # to the next step, where all is compiled before it
SLOWEST = 20.0  # a step may take this many times the longest so far before it counts as stuck
PROBE_S = 10.0  # a shared file system may show a new file late


@dataclass(frozen=True)
class Task:
    """What every worker is given.

    Args:
        config: the configuration as nested dictionaries. devices: expected on each worker, None:
            whatever it has. watchdog_s: the least time a step may take before it counts as stuck.
        lines: what the driver is told. env_file: see `take_variables`.
    """

    config: dict[str, Any]
    run_dir: str
    devices: int | None
    watchdog_s: float
    lines: Queue
    env_file: str | None = None


class Watchdog:
    """Ends a process whose step takes far too long: heartbeats never tell that it is stuck.

    The tracebacks of all its threads go to `file`; the other workers then lose their peer, and the
    group starts again from the last checkpoint.
    """

    def __init__(self, file: TextIO, least_s: float):
        self._file, self._limit, self._since = file, least_s, 0.0
        self._arm(COMPILE_LIMIT_S)

    def alive(self, compiling: bool) -> None:
        """A step begins; or all is compiled anew, which says nothing of how long one takes."""
        now = time.monotonic()
        if self._since:
            self._limit = max(self._limit, SLOWEST * (now - self._since))
        self._since = 0.0 if compiling else now
        self._arm(COMPILE_LIMIT_S if compiling else self._limit)

    def stop(self) -> None:
        """The run has ended."""
        faulthandler.cancel_dump_traceback_later()

    def _arm(self, seconds: float) -> None:
        faulthandler.dump_traceback_later(seconds, exit=True, file=self._file)


def train(given: dict[str, Task]) -> dict[str, Any]:
    """One worker's part of a run, the value "task", in Ray Train's thread.

    Returns:
        {"result": ...}, or {"error": a sentence} for what no second try can mend: raised, Ray
        would try it again.
    """
    task = given["task"]
    try:
        return _solved(task)
    except OSError as error:  # of a log or of metrics; checkpoints tell of it themselves
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        return {"error": f"{task.run_dir}: {error.strerror}: make room, then resume."}


def _solved(task: Task) -> dict[str, Any]:
    """As `train`, but that a full storage may be raised."""
    run_dir, rank = storage.folder(task.run_dir), get_context().get_world_rank()
    log = open_log(task.run_dir)
    watchdog = Watchdog(log, task.watchdog_s)

    def say(text: str, by_all: bool = False) -> None:
        print(text, file=log)
        if by_all or rank == 0:
            task.lines.put(Line(rank, text))

    logging.getLogger("absl").setLevel(logging.WARNING)  # Orbax tells of every save otherwise

    import jax

    from distgram.config.build import setup
    from distgram.config.schema import check
    from distgram.linalg.mesh import gather, make_mesh
    from distgram.linalg.precision import set_precision
    from distgram.run.hooks import Listener
    from distgram.run.solve import run
    from distgram.store.checkpoint import newest

    set_precision()
    say(
        f"rank {rank} of {jax.process_count()} on {socket.gethostname()}, pid {os.getpid()}: "
        f"{jax.local_device_count()} of {jax.device_count()} device(s)",
        by_all=True,
    )
    wrong = _miscounted(task.devices) or _unshared(run_dir, rank, gather)
    if wrong := wrong or _without_variables(task.env_file, gather):
        return {"error": wrong}
    try:
        begun = bool(newest(run_dir / "checkpoints"))
    except CheckpointError:
        begun = False
    begun = bool(gather([begun])[0, 0])  # storage may show another state to each: process 0 decides
    try:
        solution = run(
            *(setup(check(task.config)), make_mesh()),
            run_dir=run_dir,
            resume=begun,
            described=task.config,
            listener=Listener(
                row=Gauges(run_dir.name).row if rank == 0 else lambda row: None,
                say=say,
                alive=watchdog.alive,
            ),
        )
    except (StorageFull, FolderTaken) as error:
        return {"error": str(error)}
    watchdog.stop()
    jax.distributed.shutdown()
    result = solution.result
    assert result is not None
    return {"result": result.values() | {"signal": result.signal}}


class Gauges:
    """The numbers of the rows of metrics among Ray's own metrics, as ray_distgram_NAME{run=...}.

    They decide nothing, and nothing waits for them. (What `ray.train.report` is given without a
    checkpoint, Ray drops.)
    """

    def __init__(self, run: str):
        self._run, self._all = run, dict[str, Gauge]()

    def row(self, row: dict[str, Any]) -> None:
        """Show a row."""
        for name, value in row.items():
            if isinstance(value, int | float):
                if name not in self._all:
                    self._all[name] = Gauge(f"distgram_{name}", tag_keys=("run",))
                self._all[name].set(float(value), {"run": self._run})


def _miscounted(devices: int | None) -> str | None:
    """What is wrong with the processes and devices of this job, None: nothing is."""
    import jax

    wanted, there = get_context().get_world_size(), jax.process_count()
    if there != wanted:
        return f"jax sees {there} process(es), Ray started {wanted} worker(s)."
    if devices is not None and jax.device_count() != wanted * devices:
        return f"{jax.device_count()} devices in all, expected {wanted} workers x {devices}."
    return None


def _without_variables(env_file: str | None, gather: Callable) -> str | None:
    """Why the file of variables does not serve all workers, None: it does."""
    refused = None
    try:
        take_variables(env_file)
    except ClusterError as error:
        refused = str(error)
    fine = gather([refused is None])[:, 0]
    if fine.all():
        return None
    ranks = [k for k, read in enumerate(fine) if not read]
    return refused or f"--env-file {env_file}: the ranks {ranks} cannot read it on their hosts."


def _unshared(run_dir: Folder, rank: int, gather: Callable) -> str | None:
    """Why the run folder is not one folder for all workers, None: it is.

    Every worker writes a file, and reads those of all others.
    """
    nonce = int(gather([random.getrandbits(32)])[0, 0])
    written = "" if (run_dir / "config.toml").is_file() else "no config.toml in it"
    mine = run_dir / f".probe-{nonce}-{rank}"
    if not written:
        try:
            storage.of(mine).write(mine, str(rank).encode())
        except OSError as error:
            written = error.strerror or str(error)
    writers = gather([not written])[:, 0]
    wanted = [run_dir / f".probe-{nonce}-{k}" for k, wrote in enumerate(writers) if wrote]
    until = time.monotonic() + PROBE_S
    while not (seen := all(p.is_file() for p in wanted)) and time.monotonic() < until:
        time.sleep(0.2)
    ok = gather([seen and not written])[:, 0]
    mine.unlink(missing_ok=True)
    if ok.all():
        return None
    why = f" ({written.lower()})" if written else ""
    return (
        f"{run_dir}: not one writable folder for all workers: of the ranks 0 to {len(ok) - 1}, "
        f"{[k for k, fine in enumerate(ok) if not fine]} cannot write there or see what the others "
        f"wrote{why}: mend the storage, or give --out a path on storage that all hosts share."
    )
