"""Reading a run folder: config.toml, metrics.jsonl, result.json and the .npz files of one run."""

from __future__ import annotations

import json
import tomllib
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from distgram.errors import RunError

# What a result says in numbers, and in words.
QUANTITIES = {
    "l2_error": "L2 error",
    "mean_square_residual": "mean square residual",
    "heldout_residual": "held-out mean square residual",
    "seconds": "solving time (s)",
    "steps": "steps",
}


@dataclass(frozen=True)
class Run:
    """What a run folder holds, read when asked for."""

    path: Path

    def __post_init__(self):
        if not (self.path / "config.toml").is_file():
            inside = sorted(p.parent.name for p in self.path.glob("*/config.toml"))
            hint = f" It holds the run folders {', '.join(inside)}." if inside else ""
            what = "is no run folder (no config.toml in it)" if self.path.is_dir() else "not found"
            raise RunError(
                f"{self.path}: {what}: expected a folder made by `distgram solve --out`.{hint}"
            )

    @cached_property
    def config_text(self) -> str:
        return (self.path / "config.toml").read_text(encoding="utf-8")

    @cached_property
    def config(self) -> dict[str, Any]:
        try:
            return tomllib.loads(self.config_text)
        except tomllib.TOMLDecodeError as error:
            raise RunError(f"{self.path / 'config.toml'}: not valid TOML: {error}") from error

    def json(self, name: str) -> dict[str, Any]:
        """A JSON object of the folder, {} where the file is missing."""
        path = self.path / name
        try:
            return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        except ValueError as error:
            raise RunError(f"{path}: not valid JSON: {error}") from error

    @cached_property
    def result(self) -> dict[str, Any]:
        return self.json("result.json")

    def value(self, key: str) -> Any:
        """A value of the result; while there is none, of the last logged step. None: unknown."""
        last = self.metrics[-1]
        return ({"steps": last["step"]} | last | self.result).get(key)

    @property
    def problem(self) -> str:
        table = self.config.get("problem", {})
        return str(self.result.get("problem") or table.get("name") or table.get("file") or "?")

    @property
    def rule(self) -> str:
        return str(self.result.get("rule") or self.config.get("rule", {}).get("name") or "?")

    @property
    def seed(self) -> int | None:
        return self.config.get("run", {}).get("seed")

    @property
    def settings(self) -> dict[str, Any]:
        """The configuration as {"table.key": value}, without run.seed."""
        return {key: value for key, value in flat(self.config).items() if key != "run.seed"}

    @cached_property
    def metrics(self) -> list[dict[str, Any]]:
        """The logged steps in order; of a step logged twice (a resumed run) the later line counts.

        A last line without its end (a run going on, or cut off) is left out.
        """
        path = self.path / "metrics.jsonl"
        if not path.is_file():
            raise RunError(f"{path}: not found: expected one JSON object a logged step.")
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        steps: dict[int, dict[str, Any]] = {}
        for number, line in enumerate(lines, 1):
            try:
                entry = json.loads(line)
                float(entry["seconds"])
                steps[int(entry["step"])] = entry
            except (ValueError, KeyError, TypeError) as error:
                if number < len(lines):
                    raise RunError(
                        f"{path}, line {number}: expected a JSON object with step and seconds, "
                        f"got {line[:60]!r}."
                    ) from error
        if not steps:
            raise RunError(f"{path}: holds no whole line: expected at least one logged step.")
        return [steps[step] for step in sorted(steps)]

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """The arrays of an npz file of the folder, {} where the file is missing."""
        path = self.path / name
        if not path.is_file():
            return {}
        try:
            with np.load(path) as file:
                return dict(file)
        except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise RunError(
                f"{path}: cannot be read ({error}): expected a NumPy .npz file; "
                "if the run is still going on, ask again in a moment."
            ) from error


def ended(result: dict[str, Any]) -> str | None:
    """Why a run ended, and whether it is overfitted; None where it has not ended."""
    reason = result.get("reason")
    return f"{reason}, overfitted" if reason and result.get("overfitted") else reason


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A tree of tables as {"table.key": value}."""
    values: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            values |= flat(value, f"{prefix}{key}.")
        else:
            values[prefix + key] = value
    return values
