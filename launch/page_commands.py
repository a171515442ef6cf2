"""`distgram report` and `distgram compare`: what a user opens afterwards."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from distgram_launch.options import RunArgument, RunsArgument, console
from rich.table import Table

app = typer.Typer()


def _steps(given: str | None) -> list[int] | None:
    """The steps of --steps 0,40,90: whole numbers with commas between."""
    from distgram.errors import RunError

    if given is None:
        return None
    words = [word.strip() for word in given.split(",")]
    if not all(word.isdecimal() for word in words):
        raise RunError(f"--steps {given}: expected steps with commas between, as in 0,40,90.")
    return [int(word) for word in words]


@app.command()
def report(
    run: RunArgument,
    steps: Annotated[
        str | None,
        typer.Option("--steps", metavar="N,N...", help="Show the spectra of these steps."),
    ] = None,
) -> None:
    """Draw the figures of a run and write its page, report.html."""
    from distgram_launch.run_files import here

    from distgram.report import report as write

    print(write(here(run), _steps(steps)))


@app.command()
def compare(
    runs: RunsArgument,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Where compare.html goes.")
    ] = Path("compare"),
) -> None:
    """Compare runs: mean and deviation over the seeds, convergence, time to accuracy."""
    from distgram.report import compare as pages

    rows = pages.summary(runs)
    page = pages.compare(runs, out)
    for row in rows:
        table = Table(show_header=False, box=None)
        for name, text in zip(pages.HEADER, pages.cells(row), strict=True):
            table.add_row(name, text)
        console(sys.stdout).print(table, "")
    print(page)
