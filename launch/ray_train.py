"""A run on a Ray cluster: JaxTrainer around the same `solve`, one process a host.

The driver checks the request, starts the workers, repeats what they say, and starts them again
where they were preempted; Ray starts them again where they failed. Orbax alone decides where.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
from ray.exceptions import RayError
from ray.train import FailureConfig, LoggingConfig, RunConfig
from ray.train.v2.api.exceptions import ControllerError, TrainingFailedError, WorkerGroupError
from ray.train.v2.jax import JaxConfig, JaxTrainer

from distgram import checkpoint, recording
from distgram.config import Config, dump, files, relocated
from distgram.signals import caught_signals
from distgram.solve import Result
from launch import local
from launch.errors import ClusterError
from launch.ray_backend import SAID, Failures, MeshConfig, first_line
from launch.ray_cluster import Request, joined
from launch.ray_worker import Task, train

RESTART_S = 900.0  # from the loss of a worker to the first word of the new ones
POLL_S = 0.2

Watch = Callable[[dict[str, Any]], None]
Say = Callable[[str], None]


def start(
    config: Config, run_dir: Path, request: Request, force: bool, watch: Watch, say: Say
) -> Result:
    """Solve a config in a new run folder, an absolute path which the driver and all hosts share.

    Raises:
        ClusterError: the request cannot be met, or the run was lost for good; what `assemble` does.
    """
    sources = files(config)  # the hosts need not have the user's files, nor later jobs
    config = relocated(config, {name: str(run_dir / name) for name in sources})
    with joined(request, say):
        _check(relocated(config, sources))
        local.make_folder(config, run_dir, sources, force)
        return _run(config, run_dir, request, watch, say, -1)


def resume(config: Config, run_dir: Path, request: Request, watch: Watch, say: Say) -> Result:
    """Go on from the newest whole checkpoint, on whatever workers are asked for.

    Raises:
        as `start`.
    """
    with joined(request, say):
        _check(config)
        recording.clear_stop(run_dir)
        saved = int(checkpoint.newest(run_dir / "checkpoints").name)
        return _run(config, run_dir, request, watch, say, saved)


def _check(config: Config) -> None:
    """Build the run once here, for its errors. Accelerators are left to the workers."""
    jax.config.update("jax_platforms", "cpu")
    local.prepare(config, 1)


def _run(
    config: Config, run_dir: Path, request: Request, watch: Watch, say: Say, saved: int
) -> Result:
    """Run on workers until the end, through preemptions; rows up to the step `saved` are old."""
    logs = run_dir / "logs"
    logs.mkdir(exist_ok=True)
    said = [_Lines(logs / "controller.log"), _Lines(logs / "rank-0.log")]
    rows = _Rows(run_dir / "metrics.jsonl", watch, saved)
    preemptions = 0
    with caught_signals() as caught:
        while True:
            result = Result(**_fit(config, run_dir, request, said, rows, say, caught))
            if caught:
                return replace(result, signal=caught[0])
            if result.reason != "signal" or preemptions == request.max_preemptions:
                return result
            preemptions += 1
            say(f"preempted ({preemptions} of at most {request.max_preemptions}): going on")


def _fit(
    config: Config,
    run_dir: Path,
    request: Request,
    said: list[_Lines],
    rows: _Rows,
    say: Say,
    caught: list[int],
) -> dict[str, Any]:
    """Start workers until they come to an end; the result of rank 0."""
    ended: list[Any] = []
    trainer = _trainer(config, run_dir, request)

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
        for source in said:
            for line in source.new():
                if line.startswith(SAID):
                    say(line.removeprefix(SAID))
                    quiet_since = time.monotonic() if source is said[0] else None
        rows.follow()
        if caught and not asked:
            asked = True
            say(f"signal {caught[0]}: the workers are asked to save and end")
            (run_dir / recording.STOP).touch()
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


def _trainer(config: Config, run_dir: Path, request: Request) -> JaxTrainer:
    task = Task(dump(config), str(run_dir), request.devices, request.watchdog)
    cache = os.environ.get("JAX_COMPILATION_CACHE_DIR", str(run_dir.parent / ".xla-cache"))
    shared = {"JAX_COMPILATION_CACHE_DIR": cache}
    if request.tpu:
        backend = JaxConfig(use_tpu=True)
    else:
        backend = MeshConfig(
            run_dir=str(run_dir),
            platform="cuda" if request.gpus else "cpu",
            devices=request.devices or 1,
            heartbeat_s=request.heartbeat,
        )
    return JaxTrainer(
        train,
        train_loop_config={"task": task},
        jax_config=backend,
        scaling_config=request.scaling(),
        run_config=RunConfig(
            name=run_dir.name,
            storage_path=str(run_dir / "logs" / "ray"),
            failure_config=FailureConfig(
                max_failures=request.max_failures,
                max_preemption_failures=request.max_preemptions,
            ),
            logging_config=LoggingConfig(log_level="WARNING"),
            callbacks=[Failures(run_dir / "logs" / "controller.log")],
            worker_runtime_env={"env_vars": shared},
        ),
    )


def _lost(error: Exception, run_dir: Path, request: Request) -> str:
    """Why a run was lost, in one sentence, with the remedy."""
    if isinstance(error, WorkerGroupError):
        failures = {k: first_line(e) for k, e in error.worker_failures.items()}
        what = f"workers failed more than {request.max_failures} times ({failures})"
    elif isinstance(error, ControllerError):
        what = f"the workers could not be started ({first_line(error.controller_failure)})"
    else:
        what = f"Ray lost the run ({first_line(error)})"
    return f"{what}: see {run_dir / 'logs'}; `distgram resume {run_dir} --ray` goes on."


class _Lines:
    """The lines that a growing file has got since it was last asked."""

    def __init__(self, path: Path):
        there = path.stat() if path.is_file() else None
        self._path = path
        self._file, self._position = (there.st_ino, there.st_size) if there else (-1, 0)

    def new(self) -> list[str]:
        """Whole new lines; all of them where the file was written anew."""
        try:
            with open(self._path, "rb") as file:
                stat = os.fstat(file.fileno())
                if stat.st_ino != self._file or stat.st_size < self._position:
                    self._file, self._position = stat.st_ino, 0
                file.seek(self._position)
                whole = file.read().rpartition(b"\n")
        except OSError:
            return []
        self._position += len(whole[0]) + len(whole[1])
        return whole[0].decode(errors="replace").splitlines()


class _Rows:
    """Rows of metrics as they come, each step once, though a restart writes some again."""

    def __init__(self, path: Path, watch: Watch, step: int):
        self._lines, self._watch, self._step = _Lines(path), watch, step

    def follow(self) -> None:
        """Pass on what is new."""
        for row in map(json.loads, self._lines.new()):
            if row["step"] > self._step:
                self._step = row["step"]
                self._watch(row)
