"""What comes out of a run that is there: `report`, `compare`, `diagnose`, `export` and `eval`."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated

import typer
from distgram_launch.folders import here
from distgram_launch.options import DevicesOption, RunArgument, TrustOption, console
from rich.table import Table

from distgram.errors import RunError, UserError

app = typer.Typer()
STEPS = "N|initial|final"
NUMBER = re.compile("[0-9]{1,15}")
StepOption = Annotated[
    str,
    typer.Option(
        "--step", metavar=STEPS, help="Take the parameters of this step (default: final)."
    ),
]


@app.command()
def report(
    run: RunArgument,
    steps: Annotated[
        str | None,
        typer.Option("--steps", metavar="N,N...", help="Show the spectra of these steps."),
    ] = None,
    trust: TrustOption = False,
) -> None:
    """Draw the figures of a run and write its page, report.html. The map of the residual needs the
    problem: where that is a file of the run, the file is executed."""
    from distgram.report import report as write

    words = [] if steps is None else [word.strip() for word in steps.split(",")]
    if not all(NUMBER.fullmatch(word) for word in words):
        raise RunError(f"--steps {steps}: expected steps with commas between, as in 0,40,90.")
    print(write(here(run), [int(word) for word in words] or None, trust))


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Compare these folders.")],
    out: Annotated[
        Path,
        typer.Option("--out", metavar="DIR", help="Write compare.html to DIR (default: compare)."),
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


@app.command()
def diagnose(
    run: RunArgument,
    kernel: Annotated[
        list[str],
        typer.Option("--kernel", metavar="ntk|nntk|green", help="Draw this kernel. Repeats."),
    ],
    at: Annotated[
        str,
        typer.Option("--at", metavar="X,Y,...", help="Fix the second point of the kernel here."),
    ],
    step: Annotated[
        list[str] | None,
        typer.Option(
            "--step",
            metavar=STEPS,
            help="Take the parameters of this step (default: final). Repeats.",
        ),
    ] = None,
    term: Annotated[
        str | None,
        typer.Option(
            "--term", metavar="NAME", help="Take the operator of this term (default: the first)."
        ),
    ] = None,
    rcond: Annotated[
        float,
        typer.Option(
            "--rcond",
            metavar="R",
            help="Drop singular values below R times the largest (default: 1e-10).",
        ),
    ] = 1e-10,
    devices: DevicesOption = None,
    trust: TrustOption = False,
) -> None:
    """Draw kernels of a run through one point: NTK and NNTK of the residuals, Green's function."""
    from distgram_launch.local import devices_here

    from distgram.report.sections import diagnose as write

    try:
        point = [float(part) for part in at.split(",")]
    except ValueError as error:
        raise UserError(f"--at {at!r}: expected numbers with commas between.") from error
    steps = [_step(given) for given in step or ["final"]]
    mesh = devices_here(devices)
    for path in write(here(run), kernel, steps, point, mesh, term, rcond, trust):
        print(path)


@app.command()
def export(
    run: RunArgument,
    to: Annotated[
        str, typer.Option("--to", metavar="safetensors|jax|netcdf|vtk", help="Write this format.")
    ],
    step: StepOption = "final",
    trust: TrustOption = False,
) -> None:
    """Write the solution of a run for other programs, to RUN/export/."""
    from distgram.config.saved import load
    from distgram.export import export as write

    folder = here(run)
    solution = load(folder, _step(step), trust=trust)
    for path in write(solution, to, folder.absolute() / "export"):
        print(path)


@app.command("eval")
def evaluate(
    run: RunArgument,
    at: Annotated[
        Path,
        typer.Option("--at", metavar="CSV", help="Read the points: one column per coordinate."),
    ],
    derivatives: Annotated[
        int,
        typer.Option(
            "--derivatives",
            metavar="K",
            min=0,
            max=2,
            help="Add derivatives up to order K (default: 0).",
        ),
    ] = 0,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="CSV", help="Write a new file (default: stdout)."),
    ] = None,
    step: StepOption = "final",
    trust: TrustOption = False,
) -> None:
    """Evaluate a solution and its derivatives at the points of a table."""
    from distgram.config.saved import load
    from distgram.export.fields import columns
    from distgram.pde import tables
    from distgram.pde.measurements import read_points

    solution = load(run, _step(step), trust=trust)
    # all is computed before a file is made
    values = list(columns(solution, read_points(at, solution.problem), derivatives))
    if out is None:
        tables.write(sys.stdout, values)
        return
    with open(out, "x", encoding="utf-8", newline="") as file:
        tables.write(file, values)
    print(out)


def _step(given: str) -> int | str:
    return int(given) if NUMBER.fullmatch(given) else given
