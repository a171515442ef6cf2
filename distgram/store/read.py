"""Reading what a run has recorded: its configuration, logged steps, spectra, solution, result.

A folder may come from anybody and be broken in any way: what is read is checked against the shape
that a page relies on, and everything else is a RunError that names the file.
"""

from __future__ import annotations

import fnmatch
import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Protocol

import numpy as np
from jaxtyping import Int, Real, jaxtyped
from pydantic import BaseModel, Field, FiniteFloat, ValidationError

from distgram.errors import RunError

# What a result says in numbers, and in words.
QUANTITIES = {
    "l2_error": "L2 error",
    "mean_square_residual": "mean square residual",
    "heldout_residual": "held-out mean square residual",
    "seconds": "solving time (s)",
    "steps": "steps",
}
Count = Annotated[int, Field(ge=0, le=2**53)]


class _Recorded(BaseModel, extra="allow", strict=True):
    """The fields that are read by name; others may be there and are shown as they are."""


class _Measured(_Recorded):
    mean_square_residual: float | None = None
    heldout_residual: float | None = None
    l2_error: float | None = None
    seconds_by_part: dict[str, FiniteFloat] = {}
    overfitted: list[str] = []


class _Row(_Measured):
    step: Count
    seconds: FiniteFloat
    terms: dict[str, float | None] | None = None
    heldout_terms: dict[str, float | None] | None = None
    rank: Count | None = None
    regularization: float | None = None
    step_size: float | None = None
    accepted: bool | None = None


class _Result(_Measured):
    problem: str | None = None
    rule: str | None = None
    reason: str | None = None
    steps: Count | None = None
    seconds: FiniteFloat | None = None
    compile_seconds: float | None = None
    devices: Count | None = None
    slabs: list[dict[str, Any]] = []


class _Environment(_Recorded):
    devices: list[Any] = []
    processes: Count = 1


class _Kernel(_Recorded):
    title: str
    alt: str
    final: Count | None = None


class _Config(_Recorded):
    problem: dict[str, Any] = {}
    rule: dict[str, Any] = {}
    run: dict[str, Any] = {}
    data: dict[str, Any] = {}


# In the order in which their shapes bind the names k, n, d, ...; '*' stands for the name of a term.
ARRAYS: dict[str, dict[str, Any]] = {
    "spectra.npz": {
        "step": Int[np.ndarray, " k"],
        "singular_values": Real[np.ndarray, "k n"],
        "rce": Real[np.ndarray, "k n+1"],
        "rank": Int[np.ndarray, " k"],
        "cutoff": Real[np.ndarray, " k"],
        "r_eps": Int[np.ndarray, " k"],
    },
    "solution.npz": {
        "x": Real[np.ndarray, "p d"],
        "u": Real[np.ndarray, "p m"],
        "reference": Real[np.ndarray, "p m"],
        "axis_*": Real[np.ndarray, " _"],
        "slice_nodes": Real[np.ndarray, "d q"],
        "slice_at": Real[np.ndarray, " d"],
        "slice_axes": Int[np.ndarray, "s 2"],
        "slice_u": Real[np.ndarray, "s q q m"],
        "slice_reference": Real[np.ndarray, "s q q m"],
        "points_*": Real[np.ndarray, "_ d"],
    },
}
TOGETHER = (  # an array of the first set needs all of the second
    ({"singular_values", "rce", "rank", "cutoff", "r_eps", "step"},) * 2,
    ({"x", "u", "reference"}, {"x", "u"}),
    (
        {"slice_u", "slice_reference", "slice_axes"},
        {"slice_u", "slice_nodes", "slice_at", "slice_axes"},
    ),
)
OPTIONAL = {"r_eps"}
COORDINATES = ("x", "axis_", "slice_nodes", "slice_at")


class RunRecord(Protocol):
    """What a page needs to know of a run; a `Run` reads it from a folder."""

    @property
    def path(self) -> Path | None:
        """The run folder; None where a run has none."""

    @property
    def config(self) -> Mapping[str, Any]:
        """The configuration as tables, those of config.toml; {} where the run had none."""
        ...

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The logged steps in order, at least one: the rows of metrics.jsonl."""
        ...

    @property
    def result(self) -> Mapping[str, Any]:
        """How the run ended, as in result.json; {} while it goes on."""
        ...

    @property
    def environment(self) -> Mapping[str, Any]:
        """Versions and devices, as in environment.json; {} where they are not known."""
        ...

    def arrays(self, name: str) -> Mapping[str, np.ndarray]:
        """The arrays of 'spectra.npz' or 'solution.npz'; {} where there are none."""
        ...


@dataclass(frozen=True)
class Run:
    """What a run folder holds, read and checked when asked for.

    Raises:
        RunError: no run folder; and from every attribute, a file that is broken.
    """

    path: Path

    def __post_init__(self):
        if not (self.path / "config.toml").is_file():
            inside = sorted(p.parent.name for p in self.path.glob("*/config.toml"))
            hint = f" It holds the run folders {', '.join(inside)}." if inside else ""
            what = "is no run folder (no config.toml in it)" if self.path.is_dir() else "not found"
            raise RunError(
                f"{self.path}: {what}: expected a folder made by `distgram solve --out`.{hint}"
            )

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The logged steps in order; of a step logged twice (a resumed run) the later line counts.

        A last line without its end (a run going on, or cut off) is left out.
        """
        # a cached property is no property to a type checker, and a RunRecord has properties
        return self._metrics

    @property
    def config(self) -> dict[str, Any]:
        """What config.toml holds."""
        path, text = self.path / "config.toml", self._text("config.toml")
        try:
            tree = tomllib.loads(text)
        except (ValueError, RecursionError) as error:
            raise RunError(f"{path}: not valid TOML: {error}") from error
        return _checked(_Config, tree, path)

    @property
    def result(self) -> dict[str, Any]:
        """What result.json holds."""
        return self._object("result.json", _Result)

    @property
    def environment(self) -> dict[str, Any]:
        """What environment.json holds."""
        return self._object("environment.json", _Environment)

    def kernel(self, name: str) -> dict[str, Any]:
        """What diagnostics/NAME.png shows: title, alt (in words), final (the step it calls so)."""
        return self._object(f"diagnostics/{name}.json", _Kernel, missing_ok=False)

    @cached_property
    def _metrics(self) -> list[dict[str, Any]]:
        path = self.path / "metrics.jsonl"
        if not path.is_file():
            raise RunError(f"{path}: not found: expected one JSON object a logged step.")
        lines = self._text("metrics.jsonl").splitlines()
        steps: dict[int, dict[str, Any]] = {}
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                if number == len(lines):
                    break
                raise RunError(
                    f"{path}, line {number}: expected a JSON object, got {line[:60]!r}."
                ) from error
            steps[row["step"]] = check_row(row, f"{path}, line {number}")
        if not steps:
            raise RunError(f"{path}: holds no whole line: expected at least one logged step.")
        return [steps[step] for step in sorted(steps)]

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """What 'spectra.npz' or 'solution.npz' holds; {} where the file is missing."""
        path = self.path / name
        if not path.is_file():
            return {}
        try:
            with np.load(path) as file:
                arrays = dict(file)
        except Exception as error:  # of zipfile, zlib, or NumPy's reader of headers
            raise RunError(
                f"{path}: cannot be read ({error}): expected a NumPy .npz file; "
                "if the run is still going on, ask again in a moment."
            ) from error
        _check_arrays(arrays, ARRAYS.get(name, {}), path)
        return arrays

    def _text(self, name: str) -> str:
        path = self.path / name
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RunError(f"{path}: cannot be read ({error}): expected text in UTF-8.") from error

    def _object(self, name: str, kind: type[_Recorded], missing_ok: bool = True) -> dict[str, Any]:
        """A JSON object of the folder, {} where the file may be missing and is."""
        path = self.path / name
        if missing_ok and not path.is_file():
            return {}
        text = self._text(name)
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise RunError(f"{path}: not valid JSON: {error}") from error
        return _checked(kind, value, path)


def check_row(row: Any, where: object) -> dict[str, Any]:
    """A row of metrics, whose known fields are of the right kind.

    Raises:
        RunError: they are not: `where`, the field and its value.
    """
    return _checked(_Row, row, where)


def _checked(kind: type[_Recorded], value: Any, where: object) -> dict[str, Any]:
    """The value, whose known fields are of the right kind."""
    try:
        kind.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key, got = ".".join(map(str, first["loc"])), repr(first["input"])[:60]
        what = f"{key}: {first['msg']}" if key else "expected an object of keys and values"
        raise RunError(f"{where}: {what}, got {got}.") from error
    return value


def _check_arrays(arrays: dict[str, np.ndarray], kinds: dict[str, Any], path: Path) -> None:
    for some, needed in TOGETHER:
        if some & arrays.keys() and (missing := needed - arrays.keys() - OPTIONAL):
            raise RunError(f"{path}: array {min(missing)!r} is missing.")
    with jaxtyped("context"):
        for key, kind in kinds.items():
            for name in fnmatch.filter(arrays, key):
                found = arrays[name]
                empty = found.size == 0 and not name.startswith("points_")
                if empty or not isinstance(found, kind):
                    raise RunError(
                        f"{path}: array {name!r} of shape {found.shape} and type {found.dtype}: "
                        f"expected {kind.dtype.__name__} ({kind.dim_str.strip()}), with sizes that "
                        "fit the other arrays."
                    )
    for name, found in arrays.items():
        if name.startswith(COORDINATES) and not np.isfinite(found).all():
            raise RunError(f"{path}: array {name!r}: expected finite coordinates.")
    if "x" in arrays:
        count, d = arrays["x"].shape
        axes = [arrays[f"axis_{i}"].size for i in range(d) if f"axis_{i}" in arrays]
        if len(axes) == d and math.prod(axes) != count:
            raise RunError(f"{path}: array 'x': expected the {math.prod(axes)} nodes of its axes.")
    if "slice_axes" in arrays:
        pairs, d = arrays["slice_axes"], len(arrays["slice_at"])
        if (pairs < 0).any() or (pairs >= d).any():
            raise RunError(f"{path}: array 'slice_axes': expected axes from 0 to {d - 1}.")


def value(run: RunRecord, key: str) -> Any:
    """A value of the result; while there is none, of the last logged step. None: unknown."""
    last = run.metrics[-1]
    return ({"steps": last["step"]} | last | dict(run.result)).get(key)


def problem_name(run: RunRecord) -> str:
    """The name of the problem, or the file that defines it."""
    table = run.config.get("problem", {})
    return str(run.result.get("problem") or table.get("name") or table.get("file") or "?")


def rule_name(run: RunRecord) -> str:
    """The name of the rule."""
    return str(run.result.get("rule") or run.config.get("rule", {}).get("name") or "?")


def seed(run: RunRecord) -> Any:
    """The seed; None where it is not known."""
    return run.config.get("run", {}).get("seed")


def settings(run: RunRecord) -> dict[str, Any]:
    """The configuration as {"table.key": value}, without run.seed."""
    return {key: value for key, value in flat(run.config).items() if key != "run.seed"}


def ended(result: Mapping[str, Any]) -> str | None:
    """Why a run ended, and whether it is overfitted; None where it has not ended."""
    reason = result.get("reason")
    return f"{reason}, overfitted" if reason and result.get("overfitted") else reason


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A tree of tables as {"table.key": value}."""
    values: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            values |= flat(value, f"{prefix}{key}.")
        else:
            values[prefix + key] = value
    return values
