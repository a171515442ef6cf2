"""A small problem in two time slabs."""

from __future__ import annotations

from typing import Any

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
