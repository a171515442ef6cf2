"""A config solved in this process, below the command line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from cli_runs import CLOCKS

from distgram.config.build import setup
from distgram.config.schema import check, dump
from distgram.linalg.mesh import make_mesh
from distgram.run import solve
from distgram.run.ends import Result
from distgram.run.hooks import Listener
from distgram.run.stage import Stage, build_stage
from distgram.store import folder as run_folder


def stage_of(tree: dict[str, Any], devices: int = 1, frozen: Sequence[np.ndarray] = ()) -> Stage:
    """The first stage of the run of a config, or that after the time slabs `frozen`."""
    return build_stage(setup(check(tree)), make_mesh(devices), frozen=frozen)


def run(folder: Path, tree: dict[str, Any], resume=False, devices=1, **heard) -> Result:
    """Solve a config, in a new run folder unless it is resumed; `heard` as in `Listener`."""
    config = check(tree)
    if not resume:
        run_folder.make(folder, dump(config))
    solution = solve.run(
        *(setup(config), make_mesh(devices)),
        run_dir=folder,
        resume=resume,
        described=dump(config),
        listener=Listener(**heard),
    )
    assert solution.result is not None
    return solution.result


def stopped_at(folder: Path, tree: dict[str, Any], step: int) -> Result:
    """Solve until it is asked to stop at a step."""

    def ask(row):
        if row["step"] == step:
            (folder / run_folder.STOP).touch()

    return run(folder, tree, row=ask)


def resumed(folder: Path, tree: dict[str, Any]) -> Result:
    """Go on with a run that was asked to stop."""
    run_folder.clear_stop(folder)
    return run(folder, tree, resume=True)


def rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of metrics without what clocks say."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in CLOCKS} for line in lines]
