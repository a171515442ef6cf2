"""Runs on a Ray cluster of their own, in a process of their own, to be watched and harmed."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from cli_runs import environment, metrics

from distgram.store.checkpoint import newest, read_thetas

ROOT = Path(__file__).parents[1]
ROOM_GIB = 5  # that Ray leaves its workers in `little_memory`

# Laplace's equation whose target can be told, by a file, to give NaN, to hang or to take ever more
# memory in one process.
HARMED = """
import time
from dataclasses import replace
from pathlib import Path
import jax
import jax.numpy as jnp
import numpy as np
from distgram.pde.problem import Problem
from distgram.pde.registry import get

here = Path({folder!r})

def ask(values):
    if jax.process_count() > 1 and jax.process_index() == 1:
        if (here / "nan").exists():
            return np.full_like(values, np.nan)
        if (here / "stuck").exists():
            (here / "stuck").unlink()
            time.sleep(3600.0)
        if (here / "hog").exists():
            held = []
            while len(held) < 4 * {hog_gib}:  # a quarter of a GiB each
                held.append(np.ones(2**25))
                time.sleep(0.1)
    return np.asarray(values)

def harmed(target):
    def values(x):
        exact = target(x)
        shape = jax.ShapeDtypeStruct(exact.shape, exact.dtype)
        return jax.pure_callback(ask, shape, exact, vmap_method="broadcast_all")
    return values

laplace = get("laplace2d")
interior, *others = laplace.terms
problem = replace(laplace, terms=(replace(interior, target=harmed(interior.target)), *others))
"""

CONFIG = """
[problem]
{problem}
[model]
hidden = [12]
[points]
interior = {{count = 500}}
boundary = {{count = 100}}
[rule]
name = "adaptive_ratio"
excursion = 1.0
[run]
steps = {steps}
log_every = 1
spectra_every = 1000
checkpoint_every = 10
held_out = 64
patience = 1000000
"""


def config(folder: Path, steps: int, harmed: bool = False) -> Path:
    """A small config in a folder; harmed: its target obeys files there: nan, stuck, hog."""
    problem = 'name = "laplace2d"'
    if harmed:
        text = HARMED.format(folder=str(folder), hog_gib=2 * ROOM_GIB)
        (folder / "harmed.py").write_text(text, encoding="utf-8")
        problem = 'file = "harmed.py"'
    path = folder / ("harmed.toml" if harmed else "plain.toml")
    path.write_text(CONFIG.format(problem=problem, steps=steps), encoding="utf-8")
    return path


def little_memory() -> dict[str, str]:
    """The environment in which Ray ends a worker that takes ROOM_GIB more than what is in use."""
    memory = psutil.virtual_memory()
    part = (memory.total - memory.available + ROOM_GIB * 2**30) / memory.total
    return {"RAY_memory_usage_threshold": f"{part:.4f}", "RAY_memory_monitor_refresh_ms": "100"}


def pid(run: Path, rank: int) -> int:
    """The process of a rank, as its log in a run folder tells last."""
    log = (run / "logs" / f"rank-{rank}.log").read_text(errors="replace")
    return int(re.findall(rf"rank {rank} of \d+ on \S+, pid (\d+)", log)[-1])


class RayRun:
    """`distgram COMMAND ... --ray` in a process; a context manager that ends it in any case.

    Args:
        run: its folder. more: variables of its environment.
    """

    def __init__(self, run: Path, *arguments: object, more: Mapping[str, str] | None = None):
        self.run = run
        self._out = open(run.with_name(run.name + ".out"), "w+", encoding="utf-8")
        self._err = open(run.with_name(run.name + ".err"), "w+", encoding="utf-8")
        command = [
            sys.executable,
            "-m",
            "distgram_launch.cli",
            *map(str, arguments),
            "--ray",
            "--rows",
        ]
        own = environment(OPENBLAS_NUM_THREADS="1", **more or {})
        self.process = subprocess.Popen(
            command,
            cwd=run.parent,
            env={k: v for k, v in own.items() if k not in ("RAY_ADDRESS", "XLA_FLAGS")},
            stdout=self._out,
            stderr=self._err,
        )

    def __enter__(self) -> RayRun:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self._out.close()
        self._err.close()

    def read(self, name: str) -> str:
        """What it has written to `out` or `err` so far."""
        return self.run.with_name(f"{self.run.name}.{name}").read_text(encoding="utf-8")

    def rows(self) -> list[dict[str, Any]]:
        """The rows it has printed, and at the end the result."""
        lines = self.read("out").splitlines()
        return [json.loads(line.partition(" ")[2]) for line in lines if line.startswith("@")]

    def step(self) -> int:
        """The last step in its run folder; -1 before the first."""
        try:
            lines = (self.run / "metrics.jsonl").read_text().splitlines()
            return json.loads(lines[-1])["step"] if lines else -1
        except (OSError, ValueError):
            return -1

    def wait_for_step(self, step: int, seconds: float = 900.0) -> None:
        """Return once this step is in the run folder."""
        until = time.monotonic() + seconds
        while self.step() < step:
            assert self.process.poll() is None, (self.process.returncode, self.read("err"))
            assert time.monotonic() < until, (self.step(), self.read("err"))
            time.sleep(0.05)

    def wait_for_progress(self, pid: int, seconds: float = 900.0) -> float:
        """Wait till rank 0, another process than `pid`, makes a step that was not there; when."""
        until = time.monotonic() + seconds
        while self.pid(0) == pid:
            assert self.process.poll() is None, (self.process.returncode, self.read("err"))
            assert time.monotonic() < until, self.read("err")
            time.sleep(0.05)
        self.wait_for_step(self.step() + 1, seconds)
        return time.monotonic()

    def pid(self, rank: int) -> int:
        """The process of a rank."""
        return pid(self.run, rank)

    def wait_for(self, text: str, seconds: float = 900.0) -> None:
        """Return once it has said this on stderr."""
        until = time.monotonic() + seconds
        while text not in self.read("err"):
            assert self.process.poll() is None, (self.process.returncode, self.read("err"))
            assert time.monotonic() < until, self.read("err")
            time.sleep(0.05)

    def wait_for_worker(self, rank: int) -> None:
        """Return once the process of a rank has said that it is there, and compiles."""
        log = self.run / "logs" / f"rank-{rank}.log"
        while not (log.is_file() and f"rank {rank} of" in log.read_text(errors="replace")):
            assert self.process.poll() is None, (self.process.returncode, self.read("err"))
            time.sleep(0.05)

    def end(self, seconds: float = 900.0) -> int:
        """Wait for the end; the exit code."""
        return self.process.wait(seconds)


def theta(run: Path) -> np.ndarray:
    """The parameters of the newest checkpoint."""
    return read_thetas(newest(run / "checkpoints"))[-1]


def same(a: Path, b: Path) -> bool:
    """Whether two runs came to the same parameters and the same metrics, to the last bit."""
    return np.array_equal(theta(a), theta(b)) and metrics(a) == metrics(b)
