"""What a person sees while a run goes on: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal, TextIO

from distgram_launch.tensorboard import recording
from rich.console import Console
from rich.live import Live
from rich.table import Table

from distgram.config.build import limits as limits_of
from distgram.config.schema import Config, slab_count
from distgram.run.setup import Limits
from distgram.store.record import finite
from distgram.store.storage import Folder

Watch = Callable[[dict[str, Any]], None]
Say = Callable[[str], None]


class Progress:
    """Shows rows of metrics as they come; a context manager.

    Args:
        out: where to write; a terminal gets a table that is kept up to date.
        limits: the budgets, for the time left.
    """

    def __init__(self, out: TextIO, limits: Limits):
        self._console = Console(file=out)
        self._limits = limits
        self._live = Live(console=self._console, auto_refresh=False, transient=False)
        self._first: dict[str, Any] | None = None
        self._last: dict[str, Any] | None = None

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def say(self, line: str) -> None:
        """One line worth reading, above the table."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def watch(self, row: dict[str, Any]) -> None:
        """One row of metrics."""
        cells = self._cells(row)
        if self._first is None:
            self._first = row
            if not self._console.is_terminal:
                self.say("  ".join(f"{name:>{_width(name)}}" for name in cells))
        if self._console.is_terminal:
            before = self._cells(self._first)
            table = Table("", "first", "now", box=None, pad_edge=False)
            for name, text in cells.items():
                table.add_row(name, "" if row is self._first else before[name], text)
            self._live.update(table, refresh=True)
        else:
            self.say("  ".join(f"{text:>{_width(name)}}" for name, text in cells.items()))
        self._last = row

    def _cells(self, row: dict[str, Any]) -> dict[str, str]:
        pace = _pace(self._last, row)
        cells = {"step": str(row["step"]), "mean square": _number(row["mean_square_residual"])}
        if len(row["terms"]) > 1:
            cells |= {name: _number(value) for name, value in row["terms"].items()}
        return cells | {
            "held-out": _number(row["heldout_residual"]),
            "L2 error": _number(row["l2_error"]),
            "rank": "-" if row["rank"] is None else str(row["rank"]),
            "λ or cutoff": _number(row["regularization"]),
            "step size": _number(row["step_size"]),
            "s/step": "-" if pace is None else f"{pace:.3g}",
            "time left": self._left(row, pace),
        }

    def _left(self, row: dict[str, Any], pace: float | None) -> str:
        """Time to the step budget, or to the time budget where that ends first."""
        if pace is None:
            return "-"
        left = pace * max(0, self._limits.steps - row["step"])
        if self._limits.time_budget_s is not None:
            left = min(left, max(0.0, self._limits.time_budget_s - row["seconds"]))
        minutes, seconds = divmod(round(left), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _pace(before: dict[str, Any] | None, row: dict[str, Any]) -> float | None:
    """Seconds a step since the row before; None where there is none."""
    if before is None or row["step"] <= before["step"]:
        return None
    return (row["seconds"] - before["seconds"]) / (row["step"] - before["step"])


def _number(value: float | None) -> str:
    return "-" if value is None or value != value else f"{value:.2e}"


def _width(name: str) -> int:
    return max(len(name), 9 if name not in ("step", "rank") else 6)


@contextmanager
def showing(
    config: Config, as_json: bool, as_rows: bool, events: Folder | Literal[False] = False
) -> Iterator[tuple[Watch, Say, TextIO]]:
    """What is called with each row, with each line worth reading, and where these are shown.

    Args:
        events: the run folder whose TensorBoard events are to be written, if they are.
    """
    shown = sys.stderr if as_json or as_rows else sys.stdout
    slabs = slab_count(config)
    limits = limits_of(config)
    limits = replace(limits, steps=limits.steps * slabs)
    with Progress(shown, limits) as progress:
        watch = progress.watch
        if as_rows:
            watch = functools.partial(print_json, "@row ")
        with recording(events, watch) as both:
            yield both, progress.say, shown


def print_json(before: str, values: dict[str, Any]) -> None:
    """One line of JSON, at once."""
    print(f"{before}{json.dumps(finite(values))}", flush=True)
