"""How the workers of a Ray job become one job of jax: environment, log, jax.distributed.

Nothing here imports jax before the environment is set: LAPACK reads its number of threads, and XLA
its number of devices, when they are loaded.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TextIO

import ray
from ray.train import UserCallback, get_context
from ray.train._internal.utils import get_address_and_port
from ray.train.backend import Backend
from ray.train.v2.jax import JaxConfig
from ray.util.queue import Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from distgram.store import storage

INIT_S = 120  # to find each other
# What Ray tells of a worker that it has ended because its host ran out of memory.
OUT_OF_MEMORY = re.compile(r"low on memory.* was (\S+) used / (\S+) limit")


class Line(NamedTuple):
    """A line worth reading on its way to the driver: of the worker of a rank, None of Ray's
    controller, which tells that workers failed."""

    rank: int | None
    text: str


def line_queue() -> Queue:
    """What workers and controller say to the driver; it lives on the driver's host, not theirs."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})


@dataclass
class MeshConfig(JaxConfig):
    """Starts jax.distributed on CPU and GPU workers, which JaxConfig leaves out or cannot be told
    the heartbeat of.

    Args:
        platform: cpu or cuda. devices: forced host devices per worker, for cpu.
    """

    run_dir: str = ""
    platform: str = "cpu"
    devices: int = 1
    heartbeat_s: int = 30

    @property
    def backend_cls(self):
        return _MeshBackend


def _initialize(address: str, processes: int, index: int, config: MeshConfig) -> None:
    set_environment(config.run_dir, config.platform, config.devices)
    import jax

    jax.distributed.initialize(
        *(address, processes, index),
        initialization_timeout=INIT_S,
        heartbeat_timeout_seconds=config.heartbeat_s,
        cluster_detection_method="deactivate",
    )


class _MeshBackend(Backend):
    def on_start(self, worker_group, backend_config):
        host, port = worker_group.execute_single(0, get_address_and_port)
        n, address = len(worker_group), f"{host}:{port}"
        started: list = [
            worker_group.execute_single_async(i, _initialize, address, n, i, backend_config)
            for i in range(n)
        ]
        ray.get(started, timeout=2 * INIT_S)

    def on_shutdown(self, worker_group, backend_config):
        """Nothing: a finished loop has shut jax.distributed down; after a failure it would hang."""


def set_environment(run_dir: str, platform: str, devices: int) -> None:
    """Threads, devices and the log of this worker, before jaxlib is loaded.

    Raises:
        RuntimeError: jaxlib is there already.
    """
    if "jaxlib" in sys.modules:
        raise RuntimeError("jaxlib was loaded before the worker's threads and devices were set.")
    open_log(run_dir)
    # Spinning LAPACK threads of several workers on one host cost a factor of ten.
    threads = max(1, (os.cpu_count() or 1) // get_context().get_local_world_size())
    os.environ.setdefault("OPENBLAS_NUM_THREADS", str(threads))
    os.environ["JAX_PLATFORMS"] = platform
    if platform == "cpu":
        flags = os.environ.get("XLA_FLAGS", "").split()
        flags = [f for f in flags if "host_platform_device_count" not in f]
        flags.append(f"--xla_force_host_platform_device_count={devices}")
        os.environ["XLA_FLAGS"] = " ".join(flags)
    for name in [n for n in os.environ if n.lower() in ("http_proxy", "https_proxy", "all_proxy")]:
        del os.environ[name]  # gRPC would look for the coordinator behind the proxy


def open_log(run_dir: str) -> TextIO:
    """The log of this rank in the run folder; it also takes all that the process prints, C++ below
    it too: Ray's own logs go with their host. On gs://, where nothing can be appended to, they are
    all there is."""
    folder = storage.folder(run_dir)
    if not isinstance(folder, Path):
        return sys.stderr
    try:
        path = folder / "logs" / f"rank-{get_context().get_world_rank()}.log"
        log = open(path, "a", encoding="utf-8", buffering=1)
    except OSError:  # no shared folder: the probe will say so
        return sys.stderr
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(log.fileno(), stream.fileno())
    return log


class Failures(UserCallback):
    """Tells the driver when workers fail."""

    def __init__(self, lines: Queue):
        self._lines = lines

    def after_exception(self, run_context, worker_exceptions):
        said = "; ".join(f"rank {k}: {first_line(e)}" for k, e in worker_exceptions.items())
        self._lines.put(Line(None, f"workers failed ({said})"))


def first_line(error: BaseException) -> str:
    """The last line of an error's text, which Ray puts below the traceback, with its type; of a
    worker that used too much memory, how much."""
    if memory := OUT_OF_MEMORY.search(str(error)):
        return f"out of memory, ended by Ray: {memory[1]} of {memory[2]} of its host in use"
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1].strip()[:120]}" if lines else type(error).__name__
