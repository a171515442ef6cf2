"""A small problem in two time slabs, and how to run it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cli_runs import CLOCKS
from library import solve_in

from distgram.config.schema import check, dump
from distgram.linalg.mesh import make_mesh
from distgram.run.ends import Result
from distgram.store import folder as folders

HEAT: dict[str, Any] = {
    "problem": {"name": "heat"},
    "model": {"hidden": [6], "features": "normalize", "hard_constraint": True},
    "points": {"interior": {"count": 100}},
    "time": {"slabs": 2},
    "run": {"steps": 4, "log_every": 1, "checkpoint_every": 2, "held_out": 64},
}


def changed(**tables) -> dict[str, Any]:
    """The config with other keys in some of its tables."""
    return HEAT | {name: HEAT.get(name, {}) | table for name, table in tables.items()}


def run(folder: Path, tree: dict[str, Any], resume=False, **called) -> Result:
    """Solve in this process on one device; `called` as in `solve`."""
    config = check(tree)
    if not resume:
        folders.make(folder, dump(config))
    return solve_in(config, make_mesh(1), folder, resume=resume, **called)


def stopped_at(folder: Path, tree: dict[str, Any], step: int) -> Result:
    """Solve until it is asked to stop at a step."""

    def ask(row):
        if row["step"] == step:
            (folder / folders.STOP).touch()

    return run(folder, tree, watch=ask)


def rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of metrics without what clocks say."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in CLOCKS} for line in lines]
