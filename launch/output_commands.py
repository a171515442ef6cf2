"""`distgram diagnose`, `export` and `eval`: what comes out of a run that is there."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from distgram_launch.options import DevicesOption, RunArgument

from distgram.errors import UserError

app = typer.Typer()
STEPS = "N|initial|final"
StepOption = Annotated[str, typer.Option("--step", metavar=STEPS, help="Of which step.")]


@app.command()
def diagnose(
    run: RunArgument,
    kernel: Annotated[
        list[str], typer.Option("--kernel", metavar="ntk|nntk|green", help="May be repeated.")
    ],
    at: Annotated[str, typer.Option("--at", metavar="X,Y,...", help="The kernel's other point.")],
    step: Annotated[
        list[str] | None, typer.Option("--step", metavar=STEPS, help="May be repeated; final.")
    ] = None,
    term: Annotated[
        str | None, typer.Option("--term", metavar="NAME", help="Whose operator; the first's.")
    ] = None,
    rcond: Annotated[
        float,
        typer.Option("--rcond", metavar="R", help="Singular values below R times the largest one."),
    ] = 1e-10,
    devices: DevicesOption = None,
) -> None:
    """Draw kernels of a run through one point: NTK and NNTK of the residuals, Green's function."""
    from distgram_launch.local import devices_here
    from distgram_launch.run_files import here

    from distgram.report.sections import diagnose as write

    try:
        point = [float(part) for part in at.split(",")]
    except ValueError as error:
        raise UserError(f"--at {at!r}: expected numbers parted by commas.") from error
    steps = [_step(given) for given in step or ["final"]]
    for path in write(here(run), kernel, steps, point, devices_here(devices), term, rcond):
        print(path)


@app.command()
def export(
    run: RunArgument,
    to: Annotated[
        str, typer.Option("--to", metavar="safetensors|jax|netcdf|vtk", help="The format.")
    ],
    step: StepOption = "final",
) -> None:
    """Write the solution of a run for other programs, to RUN/export/."""
    from distgram_launch.run_files import here

    from distgram.config.saved import load
    from distgram.export import export as write

    folder = here(run)
    for path in write(load(folder, _step(step)), to, folder.absolute() / "export"):
        print(path)


@app.command("eval")
def evaluate(
    run: RunArgument,
    at: Annotated[
        Path, typer.Option("--at", metavar="CSV", help="Points: one column a coordinate.")
    ],
    derivatives: Annotated[
        int, typer.Option("--derivatives", metavar="K", min=0, max=2, help="Up to this order.")
    ] = 0,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="CSV", help="A new file; else stdout.")
    ] = None,
    step: StepOption = "final",
) -> None:
    """Evaluate a solution and its derivatives at the points of a table."""
    from distgram.config.saved import load
    from distgram.export.fields import columns
    from distgram.pde import tables
    from distgram.pde.measurements import read_points

    solution = load(run, _step(step))
    # all is computed before a file is made
    values = list(columns(solution, read_points(at, solution.problem), derivatives))
    if out is None:
        tables.write(sys.stdout, values)
        return
    with open(out, "x", encoding="utf-8", newline="") as file:
        tables.write(file, values)
    print(out)


def _step(given: str) -> int | str:
    return int(given) if given.isdigit() else given
