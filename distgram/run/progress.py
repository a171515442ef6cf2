"""The progress of a run as one line of a terminal or a notebook."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from distgram.run.setup import Limits


class ProgressLine:
    """Shows the last row of metrics while a run goes on, where someone can see it.

    Args:
        limits: of the run. wanted: whether anything is to be shown.
    """

    def __init__(self, limits: Limits, wanted: bool = True):
        console = Console(file=sys.stderr)
        visible = wanted and (console.is_terminal or console.is_jupyter)
        self._limits = limits
        self._live = Live(console=console, auto_refresh=False) if visible else None

    def __enter__(self) -> ProgressLine:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live is not None:
            self._live.stop()

    def row(self, row: dict[str, Any]) -> None:
        """Show a row in place of the one before."""
        if self._live is not None:
            self._live.update(Text(row_in_words(row, self._limits)), refresh=True)

    def say(self, line: str) -> None:
        """Print a line above the row."""
        if self._live is not None:
            self._live.console.print(line, markup=False, highlight=False)


def row_in_words(row: dict[str, Any], limits: Limits) -> str:
    """A row of metrics as one line."""
    error, guess = row["relative_l2_error"], row["error_estimate"]
    of = "" if limits.max_steps is None or "slab" in row else f"/{limits.max_steps}"
    here = f"slab {row['slab']}, " if "slab" in row else ""
    return (
        f"{here}step {row['step']}{of}  {row['seconds']:.1f} s  residual "
        f"{row['mean_square_residual']:.2e}  held-out {row['heldout_residual']:.2e}"
        + ("" if guess is None else f"  estimated relative error {guess:.1e}")
        + ("" if error is None else f", true {error:.2e}")
    )
