"""The command line `distgram`. It imports jax inside commands only, so that --help is at once.

Exit codes: 0 success, 1 a run that failed numerically or missed its target, 2 a user's error,
128 + n after signal n.
"""

from __future__ import annotations

import json
import logging
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from distgram.config import Config
    from distgram.solve import Result

app = typer.Typer(
    help="Solve partial differential equations to machine precision with neural networks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ConfigArgument = Annotated[Path, typer.Argument(metavar="CONFIG", help="A TOML file.")]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]
RunsArgument = Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key, as in run.steps=100."),
]
DevicesOption = Annotated[
    int | None, typer.Option("--devices", metavar="N", help="Use N devices; all by default.")
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="The last line of output is the result as JSON.")
]
# The term's operator on the exact solution is wrong beyond rounding, relative to its own size.
EXACT_TOLERANCE = 1e-8


@app.command("list")
def list_() -> None:
    """Show the problems with their equations, and every name a config can choose."""
    from launch.describe import choices, problems

    console = _console(sys.stdout)
    for problem in problems():
        console.print(problem.name, style="bold")
        for line in problem.lines:
            console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
        console.print()
    for title, rows in choices().items():
        table = Table("name", "what it is", title=title, title_justify="left", box=None)
        for row in rows:
            table.add_row(*row)
        console.print(table)
        console.print()


@app.command()
def check(
    config: ConfigArgument,
    set_: SetOption = None,
    devices: Annotated[
        int | None,
        typer.Option("--devices", metavar="N", min=1, help="Plan for N devices, here or not."),
    ] = None,
    memory_gib: Annotated[
        float | None, typer.Option("--memory-gib", metavar="M", help="memory.budget_gib.")
    ] = None,
) -> None:
    """Check a config without solving: sizes, memory, cost, the operators on the exact solution."""
    from distgram.config import load
    from distgram.problem import ProblemError
    from launch import planner
    from launch.describe import operator_residuals

    limit = [] if memory_gib is None else [f"memory.budget_gib={memory_gib}"]
    checked, console = load(config, [*(set_ or ()), *limit]), _console(sys.stdout)
    examined = planner.examine(checked, devices)
    run = examined.run
    for shown in planner.tables(examined, checked.memory.budget_gib):
        console.print(shown, "")
    tested = list(operator_residuals(run))
    if not tested:
        console.print("No exact solution is known: the operators were not tested on it.")
        return
    table = Table("term", r"rms D\[u*] - f", r"rms D\[u*]", title="Exact solution u*", box=None)
    for name, rms, size in tested:
        table.add_row(name, f"{rms:.2e}", f"{size:.2e}")
    console.print(table)
    for name, rms, size in tested:
        if not rms <= EXACT_TOLERANCE * max(size, 1.0):
            raise ProblemError(
                f"problem {run.problem.name!r}, term {name!r}: the exact solution leaves a "
                f"residual of rms {rms:.2e}: the operator, the target or that solution is wrong."
            )


@app.command()
def solve(
    config: ConfigArgument,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Run folder; runs/<config>-seed<seed>."),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", metavar="N", help="run.seed.")] = None,
    set_: SetOption = None,
    devices: DevicesOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an older run in DIR.")] = False,
    json_: JsonOption = False,
) -> None:
    """Solve the problem of a config; everything it gives goes to a run folder."""
    from distgram.config import load
    from launch import local
    from launch.live import Progress

    overrides = [*(set_ or ()), *([] if seed is None else [f"run.seed={seed}"])]
    checked = load(config, overrides)
    run_dir = out or Path("runs") / f"{config.stem}-seed{checked.run.seed}"
    shown = sys.stderr if json_ else sys.stdout
    with Progress(shown, checked.run) as progress:
        result = local.start(
            *(checked, run_dir.absolute(), devices, force), progress.watch, progress.say
        )
    _finish(result, checked, run_dir, shown, json_)


@app.command()
def resume(run: RunArgument, set_: SetOption = None, json_: JsonOption = False) -> None:
    """Go on with a run from its newest whole checkpoint, as if it had not been interrupted.

    Only budgets may be set: run.steps, run.time_budget_s, run.target_l2, run.target_residual.
    """
    from launch import local
    from launch.live import Progress

    config, devices = local.resumed_config(run, set_ or ())
    shown = sys.stderr if json_ else sys.stdout
    with Progress(shown, config.run) as progress:
        result = local.resume(config, run.absolute(), devices, progress.watch, progress.say)
    _finish(result, config, run, shown, json_)


@app.command()
def report(run: RunArgument) -> None:
    """Draw the figures of a run and write its page, report.html."""
    from distgram import report as reports

    print(reports.report(run))


@app.command()
def compare(
    runs: RunsArgument,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Where compare.html goes.")
    ] = Path("compare"),
) -> None:
    """Compare runs: mean and standard deviation over the seeds, and their convergence."""
    from distgram import report as reports

    rows = reports.summary(runs)
    page = reports.compare(runs, out)
    for row in rows:
        table = Table(show_header=False, box=None)
        for name, text in zip(reports.HEADER, reports.cells(row), strict=True):
            table.add_row(name, text)
        _console(sys.stdout).print(table, "")
    print(page)


def _finish(result: Result, config: Config, run_dir: Path, shown: TextIO, as_json: bool) -> None:
    """Say how the run ended, and exit with its code."""
    from launch.ending import ending

    code, said = ending(result, config, run_dir)
    for line in said:
        print(line, file=shown, flush=True)
    if as_json:
        print(json.dumps({key: _json(value) for key, value in result.values().items()}))
    raise typer.Exit(code)


def _json(value: Any) -> Any:
    """JSON has neither nan nor infinity: they become null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _console(out: TextIO) -> Console:
    console = Console(file=out)
    return console if console.is_terminal else Console(file=out, width=200)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code. A user's error is one sentence on stderr."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that has no λ gets a question mark
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    log, handler = logging.getLogger("distgram"), logging.StreamHandler()
    handler.setFormatter(logging.Formatter("distgram: %(message)s"))
    log.addHandler(handler)
    log.propagate = False
    try:
        app(args=None if argv is None else list(argv), prog_name="distgram")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except Exception as error:
        from launch.local import USER_ERRORS

        if not isinstance(error, USER_ERRORS):
            raise
        print(f"distgram: {_sentence(error)}", file=sys.stderr)
        return 2
    finally:
        log.removeHandler(handler)
        log.propagate = True
    return 0


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror.lower()}."
    return " ".join(str(error).split())


if __name__ == "__main__":
    raise SystemExit(main())
