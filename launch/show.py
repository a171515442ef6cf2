"""What a person sees of a run: rows as they come, their TensorBoard events, and how it ended.

A terminal gets a live table, a file plain lines.
"""

from __future__ import annotations

import functools
import json
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TextIO

from distgram_launch.local import Say, Watch
from rich.console import Console
from rich.live import Live
from rich.table import Table

from distgram.config.build import limits as limits_of
from distgram.config.schema import Config, slab_count
from distgram.errors import ClusterError, StorageError
from distgram.report import report
from distgram.run.ends import Result
from distgram.run.setup import Limits
from distgram.store import storage
from distgram.store.read import ended
from distgram.store.record import finite
from distgram.store.storage import Folder

EVENTS = "tensorboard"  # in a run folder: `tensorboard --logdir RUN`
FLUSH_S = 5.0


class Progress:
    """Shows rows of metrics as they come; a context manager.

    Args:
        out: where to write; a terminal gets a table that is kept up to date.
        limits: the budgets, for the time left; None: they are not known.
    """

    def __init__(self, out: TextIO, limits: Limits | None):
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
            "λ": _number(row["regularization"]),
            "step size": _number(row["step_size"]),
            "s/step": "-" if pace is None else f"{pace:.3g}",
            "time left": self._left(row, pace),
        }

    def _left(self, row: dict[str, Any], pace: float | None) -> str:
        """Time to the step budget, or to the time budget where that ends first."""
        if pace is None or self._limits is None:
            return "-"
        left = math.inf
        if self._limits.max_steps is not None:
            left = pace * max(0, self._limits.max_steps - row["step"])
        if self._limits.time_budget_s is not None:
            left = min(left, max(0.0, self._limits.time_budget_s - row["seconds"]))
        if left == math.inf:
            return "-"
        minutes, seconds = divmod(round(left), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _pace(before: dict[str, Any] | None, row: dict[str, Any]) -> float | None:
    """Seconds per step since the row before; None where there is none."""
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
    if limits.max_steps is not None:
        limits = replace(limits, steps=limits.max_steps * slabs)
    with Progress(shown, limits) as progress:
        watch = progress.watch
        if as_rows:
            watch = functools.partial(print_json, "@row ")
        with recording(events, watch) as both:
            yield both, progress.say, shown


def print_json(before: str, values: dict[str, Any]) -> None:
    """One line of JSON, at once."""
    print(f"{before}{json.dumps(finite(values))}", flush=True)


@contextmanager
def recording(run_dir: Folder | Literal[False], watch: Watch) -> Iterator[Watch]:
    """Inside, what is given rows writes them as events of this run, if any, and gives them on.

    Raises:
        ClusterError: there is no tensorboardX, or none that writes to a bucket.
    """
    if not run_dir:
        yield watch
        return
    events = Events(run_dir / EVENTS)

    def both(row: dict[str, Any]) -> None:
        events.write(row)
        watch(row)

    try:
        yield both
    except BaseException:
        with suppress(StorageError):  # the run's own error tells more
            events.close()
        raise
    events.close()


class Events:
    """One event file of one job, begun with its first row: a run that is refused leaves nothing.

    By tensorboardX's EventsWriter: its SummaryWriter leaves the writing to a thread, and where that
    has ended with an error, as on a full disk, the next rows wait for it for ever.

    Raises:
        ClusterError: there is no tensorboardX, or none that writes to a bucket.
    """

    def __init__(self, folder: Folder):
        try:
            from tensorboardX.record_writer import GCS_ENABLED
        except ImportError as error:
            raise ClusterError(
                f"--tensorboard: {error}: expected tensorboardX, "
                "pip install 'distgram[tensorboard]'."
            ) from error
        if not (isinstance(folder, Path) or GCS_ENABLED):
            raise ClusterError(
                f"--tensorboard: {folder}: events on gs:// need google-cloud-storage: "
                "pip install 'distgram[gcs]', or leave --tensorboard out."
            )
        self._folder, self._file, self._flushed = folder, None, time.monotonic()

    def write(self, row: dict[str, Any]) -> None:
        """The numbers of a row, at its step.

        Raises:
            StorageError: the storage refuses them.
        """
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog  # type: ignore[attr-defined]
        from tensorboardX.summary import scalar

        now, step = time.time(), row["step"]
        with self._refused():
            if self._file is None:
                storage.of(self._folder).make(self._folder)
                suffix = f".{step:09}"  # two jobs may begin in one second
                self._file = EventsWriter(f"{self._folder / 'events'}", filename_suffix=suffix)
                # It takes back what an earlier job shows of this step and of those after it.
                start = SessionLog(status=SessionLog.START)
                self._file.write_event(Event(wall_time=now, step=step, session_log=start))
            for name, value in scalars(row):
                event = Event(wall_time=now, step=step, summary=scalar(name, value))
                self._file.write_event(event)
            if time.monotonic() - self._flushed >= FLUSH_S:
                self._file.flush()
                self._flushed = time.monotonic()

    def close(self) -> None:
        """Bring all of them to the storage."""
        if self._file is not None:
            with self._refused():
                self._file.close()

    @contextmanager
    def _refused(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # the clients of a bucket have errors of their own
            why = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            raise StorageError(
                f"{self._folder}: events cannot be written ({why}): make room or mend the storage, "
                "or leave --tensorboard out."
            ) from error


def scalars(row: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of a row with their names, those of a table in it as table/name."""
    for name, value in row.items():
        if isinstance(value, dict):
            yield from scalars(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and name != "step":
            yield prefix + name, float(value)


def ending(result: Result, config: Config, run_dir: Folder) -> tuple[int, list[str]]:
    """Write the report of a run; its exit code, and the lines that say how it ended."""
    said = [
        f"{ended(result.values())}: {result.steps} steps in {result.seconds:.1f} s (and "
        f"{result.compile_seconds:.1f} s of compiling); mean square residual "
        f"{result.mean_square_residual:.3g}, held-out {result.heldout_residual:.3g}"
        + ("" if result.l2_error is None else f", L2 error {result.l2_error:.3g}")
        + f"; {_estimated(result.error_estimate)}"
    ]
    if known := {name: error for name, error in result.errors.items() if error is not None}:
        said.append(
            "relative L2 error of each output: "
            + ", ".join(f"{name} {error:.3g}" for name, error in known.items())
        )
    said += [_estimate(name, **found) for name, found in result.unknown.items()]
    if result.overfitted:
        said.append(
            f"warning: overfitted in {', '.join(result.overfitted)}: the held-out residual is far "
            "above that on the collocation points; the equation may hold at those only; more or "
            "better placed points would help ([points], [sampling])"
        )
    if result.signal is not None:
        code = 128 + result.signal
        said.append(
            f"stopped by signal {result.signal}; the state is saved: `distgram resume {run_dir}`"
        )
    elif result.reason == "stop requested":
        code = 0
        said.append(f"stopped as asked; the state is saved: `distgram resume {run_dir}`")
    else:
        missed = target_missed(result, config)
        code = 0 if result.success and missed is None else 1
        said += [line for line in (missed or result.unsolved,) if line]
    if not isinstance(run_dir, Path):  # figures are drawn from files
        said.append(f"`distgram fetch {run_dir}` copies it here, for `distgram report`")
        return code, said
    try:
        said.append(f"report: {report(run_dir)}")
    except OSError as error:
        said.append(
            f"the report could not be written ({error.strerror or error}): make room, "
            f"then `distgram report {run_dir}` writes it"
        )
        code = 2 if result.signal is None else code
    return code, said


def _estimated(error: float | None) -> str:
    return "no estimate of the error" if error is None else f"estimated relative error {error:.1g}"


def _estimate(
    name: str, value: float, sd: float | None, low: float | None, high: float | None
) -> str:
    if sd is None:
        return f"{name} = {value:.6g}; the noise of the data is not known"
    return f"{name} = {value:.6g} ± {sd:.2g}, 95 % from {low:.6g} to {high:.6g}"


def target_missed(result: Result, config: Config) -> str | None:
    """What was asked for and not reached, in words; None where all is well."""
    limits, residual = limits_of(config), result.mean_square_residual
    if result.reason == "target":
        residual /= 4  # the step that ended the loop saw it rounded another way than the last row
    asked = [
        ("L2 error", result.l2_error, "run.target_l2", limits.target_l2),
        ("mean square residual", residual, "run.target_residual", limits.target_residual),
        ("estimated relative error", result.error_estimate, "run.tolerance", limits.tolerance),
    ]
    asked = [a for a in asked if a[3] is not None]
    if not asked or any(value is not None and value <= goal for _, value, _, goal in asked):
        return None
    what, value, key, goal = asked[0]
    reached = "not known" if value is None else f"{value:.3g}"
    return f"the target was not reached: {what} {reached}, {key} = {goal:g}"
