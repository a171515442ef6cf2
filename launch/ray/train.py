"""A run on a Ray cluster: JaxTrainer around the same `solve`, one process per host.

The driver checks the request, starts the workers, repeats what they say, and starts them again
where they were preempted; Ray starts them again where they failed. Orbax alone decides where.
"""

from __future__ import annotations

import json
import os
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import jax
from distgram_launch import local
from distgram_launch.local import Say, Watch
from distgram_launch.ray.backend import Failures, Line, MeshConfig, first_line, line_queue
from distgram_launch.ray.cluster import Request, joined, take_variables
from distgram_launch.ray.worker import Task, train
from ray.exceptions import RayError
from ray.train import FailureConfig, LoggingConfig, RunConfig
from ray.train.v2.api.exceptions import ControllerError, TrainingFailedError, WorkerGroupError
from ray.train.v2.jax import JaxConfig, JaxTrainer
from ray.util.queue import Queue

from distgram.config.saved import own_files
from distgram.config.schema import Config, check, dump, files, relocated
from distgram.errors import ClusterError, ProblemError
from distgram.run.ends import Result
from distgram.run.signals import caught_signals
from distgram.store import checkpoint, storage
from distgram.store import folder as run_folder
from distgram.store.folder import Force
from distgram.store.storage import Folder, Tail

RESTART_S = 900.0  # from the loss of a worker to the first word of the new ones
POLL_S = 0.2


def start(
    config: Config,
    run_dir: Folder,
    request: Request,
    force: Force,
    watch: Watch,
    say: Say,
) -> Result:
    """Solve a config in a new run folder, an absolute path which the driver and all hosts share.

    Raises:
        ClusterError: the request cannot be met, or the run was lost for good; what `assemble` does.
    """
    run_folder.check_new(run_dir, force)
    config = _checked(config, request, new=True)
    # the hosts need not have the user's files, nor later jobs
    written = relocated(config, {name: str(run_dir / name) for name in files(config)})
    with joined(request, say):
        with local.new_folder(config, written, run_dir, force):
            return _run(written, run_dir, request, watch, say, -1)


def resume(config: Config, run_dir: Folder, request: Request, watch: Watch, say: Say) -> Result:
    """Go on from the newest whole checkpoint, on whatever workers are asked for.

    Raises:
        as `start`.
    """
    config = own_files(config, run_dir)
    _checked(config, request, new=False)
    with joined(request, say):
        run_folder.clear_stop(run_dir)
        saved = int(checkpoint.newest(run_dir / run_folder.CHECKPOINTS).name)
        return _run(config, run_dir, request, watch, say, saved)


def _checked(config: Config, request: Request, new: bool) -> Config:
    """The config, of a new run with all files that its problem needs: the run is built once, for
    its errors, before there is a cluster. In a process of its own: that of the driver is to start
    one, by forking, which does not go with the threads of jax.

    Raises:
        what `local.prepare` raises; ProblemError: the process does not survive it.
    """
    request.scaling()
    with ProcessPoolExecutor(1, get_context("spawn")) as child:
        try:
            return check(child.submit(_prepared, dump(config), request.env_file, new).result())
        except BrokenProcessPool as error:
            raise ProblemError(
                f"problem {config.problem.name or config.problem.file!r}: the process that built "
                "it ended at once: expected a problem that leaves its process alone, and memory "
                "enough."
            ) from error


def _prepared(tree: dict[str, Any], env_file: str | None, new: bool) -> dict[str, Any]:
    """The tables of a config, checked, of a new run with problem.files complete. Accelerators are
    left to the workers."""
    take_variables(env_file)
    jax.config.update("jax_platforms", "cpu")
    config = check(tree)
    if new:
        config, _ = local.checked(config, 1)
    else:
        local.prepare(config, 1)
    return dump(config)


def _run(
    config: Config, run_dir: Folder, request: Request, watch: Watch, say: Say, saved: int
) -> Result:
    """Run on workers until the end, through preemptions; rows up to the step `saved` are old."""
    storage.of(run_dir).make(run_dir / "logs")
    tail = storage.of(run_dir).tail(run_dir / run_folder.METRICS, from_end=True)
    rows, lines = _Rows(tail, watch, saved), line_queue()
    preemptions = 0
    with caught_signals() as caught:
        while True:
            result = Result(**_fit(config, run_dir, request, lines, rows, say, caught))
            if caught:
                return replace(result, signal=caught[0])
            if result.reason != "signal" or preemptions == request.max_preemptions:
                return result
            preemptions += 1
            say(f"preempted ({preemptions} of at most {request.max_preemptions}): going on")


def _fit(
    config: Config,
    run_dir: Folder,
    request: Request,
    lines: Queue,
    rows: _Rows,
    say: Say,
    caught: list[int],
) -> dict[str, Any]:
    """Start workers until they come to an end; the result of rank 0."""
    ended: list[Any] = []
    trainer = _trainer(config, run_dir, request, lines)

    def fit() -> None:
        try:
            ended.append(trainer.fit().return_value)
        except Exception as error:  # told by the main thread, which has no result to wait for
            ended.append(error)

    # Not in the main thread: there it would answer SIGINT by killing the workers, with no save.
    thread = threading.Thread(target=fit, daemon=True)
    thread.start()
    quiet_since: float | None = time.monotonic()  # None: the workers have spoken since they started
    asked = False
    running = True
    while running:
        thread.join(POLL_S)
        running = thread.is_alive()  # before the last look at what they have said
        for line in _new(lines):
            say(line.text)
            quiet_since = time.monotonic() if line.rank is None else None
        rows.follow(last=not running)
        if caught and not asked:
            asked = True
            say(f"signal {caught[0]}: the workers are asked to save and end")
            (run_dir / run_folder.STOP).touch()
        if quiet_since is not None and time.monotonic() - quiet_since > RESTART_S:
            raise ClusterError(
                f"no {request.words()} ran within {RESTART_S:.0f} s of the start or of the last "
                f"failure; see {run_dir / 'logs'}: when the cluster has them again, "
                f"`distgram resume {run_dir} --ray` goes on."
            )
    outcome = ended[0]
    if isinstance(outcome, TrainingFailedError | RayError):
        raise ClusterError(_lost(outcome, run_dir, request)) from outcome
    if isinstance(outcome, Exception):
        raise outcome
    if "error" in outcome:
        raise ClusterError(outcome["error"])
    return outcome["result"]


def _new(lines: Queue) -> list[Line]:
    try:
        count = lines.qsize()
        return lines.get_nowait_batch(count) if count else []
    except RayError:  # the cluster is lost, of which the trainer tells
        return []


def _trainer(config: Config, run_dir: Folder, request: Request, lines: Queue) -> JaxTrainer:
    task = Task(
        *(dump(config), str(run_dir), request.expected, request.watchdog, lines),
        env_file=request.env_file,
    )
    cache = os.environ.get("JAX_COMPILATION_CACHE_DIR", str(run_dir.parent / ".xla-cache"))
    shared = {"JAX_COMPILATION_CACHE_DIR": cache}
    if request.tpu:
        backend = JaxConfig(use_tpu=True)
    else:
        backend = MeshConfig(
            run_dir=str(run_dir),
            platform="cuda" if request.gpus else "cpu",
            devices=request.expected or 1,
            heartbeat_s=request.heartbeat,
        )
    return JaxTrainer(
        train,
        train_loop_config={"task": task},
        jax_config=backend,
        scaling_config=request.scaling(),
        run_config=RunConfig(
            name=run_dir.name,
            **_storage(run_dir / "logs" / "ray"),
            failure_config=FailureConfig(
                max_failures=request.max_failures,
                max_preemption_failures=request.max_preemptions,
            ),
            logging_config=LoggingConfig(log_level="WARNING"),
            callbacks=[Failures(lines)],
            worker_runtime_env={"env_vars": shared},
        ),
    )


def _storage(folder: Folder) -> dict[str, Any]:
    """Where Ray keeps its own state, which decides nothing here: by the same client as all else."""
    if isinstance(folder, Path):
        return {"storage_path": str(folder)}
    from fsspec import filesystem
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    bucket = PyFileSystem(FSSpecHandler(filesystem("gs")))
    return {"storage_path": str(folder).removeprefix("gs://"), "storage_filesystem": bucket}


def _lost(error: Exception, run_dir: Folder, request: Request) -> str:
    """Why a run was lost, in one sentence, with the remedy."""
    if isinstance(error, WorkerGroupError):
        failures = {k: first_line(e) for k, e in error.worker_failures.items()}
        what = f"workers failed more than {request.max_failures} times ({failures})"
    elif isinstance(error, ControllerError):
        what = f"the workers could not be started ({first_line(error.controller_failure)})"
    else:
        what = f"Ray lost the run ({first_line(error)})"
    return f"{what}: see {run_dir / 'logs'}; `distgram resume {run_dir} --ray` goes on."


class _Rows:
    """Rows of metrics as they come, each step once, though a restart writes some again."""

    def __init__(self, lines: Tail, watch: Watch, step: int):
        self._lines, self._watch, self._step = lines, watch, step

    def follow(self, last: bool) -> None:
        """Pass on what is new."""
        for row in map(json.loads, self._lines.new(last=last)):
            if row["step"] > self._step:
                self._step = row["step"]
                self._watch(row)
