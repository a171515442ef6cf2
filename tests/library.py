"""A config as the objects of the library, for tests of the rooms below the command line."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from cli_runs import CLOCKS
from jax.sharding import Mesh

from distgram.config.build import setup
from distgram.config.schema import Config, check, dump
from distgram.linalg.mesh import make_mesh
from distgram.run import solve
from distgram.run.ends import Result
from distgram.run.hooks import Listener
from distgram.run.stage import Stage, build_stage
from distgram.store import folder as run_folder
from distgram.store.storage import Folder


def stage_of(
    config: Config, mesh: Mesh, growth: int = 0, frozen: Sequence[np.ndarray] = ()
) -> Stage:
    """The stage of a config on a mesh."""
    return build_stage(setup(config), mesh, growth, frozen)


def step_of(stage: Stage) -> Callable:
    """The step of a stage, not yet compiled: (θ, state, points) -> as `solve.Step`."""
    uses_spectrum = stage.setup.rule.uses_spectrum
    make = solve.natural_gradient_step if uses_spectrum else solve.objective_step
    return partial(make(stage), stage.residual)


def solve_in(
    config: Config,
    mesh: Mesh,
    run_dir: Folder | None,
    resume: bool = False,
    watch: Callable[[dict[str, Any]], None] = lambda row: None,
    say: Callable[[str], None] = lambda line: None,
    alive: Callable[[bool], None] = lambda compiling: None,
) -> Result:
    """Solve a config on a mesh; run_dir was made before."""
    listener = Listener(watch, say, alive)
    solution = solve.run(
        setup(config),
        mesh,
        run_dir=run_dir,
        resume=resume,
        described=dump(config),
        listener=listener,
    )
    assert solution.result is not None
    return solution.result


def run(folder: Path, tree: dict[str, Any], resume=False, devices=1, **heard) -> Result:
    """Solve a config, in a new run folder unless it is resumed; `heard` as in `solve_in`."""
    config = check(tree)
    with nullcontext() if resume else run_folder.new(folder, dump(config)):
        return solve_in(config, make_mesh(devices), folder, resume, **heard)


def stopped_at(folder: Path, tree: dict[str, Any], step: int) -> Result:
    """Solve until it is asked to stop at a step."""

    def ask(row):
        if row["step"] == step:
            (folder / run_folder.STOP).touch()

    return run(folder, tree, watch=ask)


def resumed(folder: Path, tree: dict[str, Any]) -> Result:
    """Go on with a run that was asked to stop."""
    run_folder.clear_stop(folder)
    return run(folder, tree, resume=True)


def rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of metrics without what clocks say."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in CLOCKS} for line in lines]
