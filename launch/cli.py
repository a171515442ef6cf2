"""The command line `distgram`. It imports jax inside commands only, so that --help is at once.

Exit codes: 0 success, 1 a run that failed numerically or missed its target, 2 a user's error,
128 + n after signal n.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, TextIO

import typer
from distgram_launch import job_commands, options, output_commands, page_commands, usage
from distgram_launch.options import (
    ConfigArgument,
    DevicesOption,
    JsonOption,
    RunArgument,
    SetOption,
)
from rich.table import Table

if TYPE_CHECKING:
    from distgram_launch.ray_cluster import Request

    from distgram.config.schema import Config
    from distgram.run.ends import Result
    from distgram.store.storage import Folder

app = typer.Typer(
    cls=job_commands.Commands,
    help="Solve partial differential equations to machine precision with neural networks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(page_commands.app)
app.add_typer(job_commands.app)
app.add_typer(output_commands.app)

# The term's operator on the exact solution is wrong beyond rounding, relative to its own size.
EXACT_TOLERANCE = 1e-8


@app.command("list")
def list_() -> None:
    """Show the problems with their equations, and every name a config can choose."""
    from distgram_launch.describe import choices, problems

    console = options.console(sys.stdout)
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
    devices: options.PlannedOption = None,
    memory_gib: Annotated[
        float | None, typer.Option("--memory-gib", metavar="M", help="memory.budget_gib.")
    ] = None,
) -> None:
    """Check a config without solving: sizes, memory, the operators on the exact solution."""
    from distgram_launch import planner
    from distgram_launch.describe import operator_residuals

    from distgram.config.schema import load
    from distgram.errors import ProblemError

    limit = [] if memory_gib is None else [f"memory.budget_gib={memory_gib}"]
    checked, console = load(config, [*(set_ or ()), *limit]), options.console(sys.stdout)
    examined = planner.examine(checked, devices)
    stage = examined.stage
    for shown in planner.tables(examined, checked.memory.budget_gib):
        console.print(shown, "")
    tested = list(operator_residuals(stage))
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
                f"problem {stage.problem.name!r}, term {name!r}: the exact solution leaves a "
                f"residual of rms {rms:.2e}: the operator, the target or that solution is wrong."
            )


@app.command()
@options.with_cluster
def solve(
    config: ConfigArgument,
    out: options.OutOption = None,
    seed: Annotated[int | None, typer.Option("--seed", metavar="N", help="run.seed.")] = None,
    set_: SetOption = None,
    devices: DevicesOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an older run in DIR.")] = False,
    json_: JsonOption = False,
    rows: options.RowsOption = False,
    tensorboard: options.TensorBoardOption = False,
    cluster: Request | None = None,
) -> None:
    """Solve the problem of a config; everything it gives goes to a run folder."""
    from distgram_launch.live import showing

    from distgram.config.schema import load
    from distgram.store.storage import absolute, folder

    overrides = [*(set_ or ()), *([] if seed is None else [f"run.seed={seed}"])]
    checked = load(config, overrides)
    run_dir = folder(out or f"runs/{config.stem}-seed{checked.run.seed}")
    there = absolute(run_dir)
    with showing(checked, json_, rows, tensorboard and there) as (watch, say, shown):
        if cluster:
            from distgram_launch import ray_train

            result = ray_train.start(checked, there, cluster, force, watch, say)
        else:
            from distgram_launch import local

            result = local.start(checked, there, devices, force, watch, say)
    _finish(result, checked, run_dir, shown, json_, rows)


@app.command()
@options.with_cluster
def resume(
    run: RunArgument,
    set_: SetOption = None,
    devices: DevicesOption = None,
    json_: JsonOption = False,
    rows: options.RowsOption = False,
    tensorboard: options.TensorBoardOption = False,
    cluster: Request | None = None,
) -> None:
    """Go on with a run from its newest whole checkpoint, as if it had not been interrupted.

    The id of a submitted run, dg-..., in place of RUN: in a new job of its cluster, with options of
    its own: `distgram resume dg-... --help`.

    Only budgets may be set: run.steps, run.time_budget_s, run.target_l2, run.target_residual. On
    another number of devices or workers the steps are equal within rounding only.
    """
    from distgram_launch import local
    from distgram_launch.live import showing

    from distgram.store.storage import absolute, folder

    run_dir = folder(run)
    there = absolute(run_dir)
    config, saved = local.resumed_config(run_dir, set_ or ())
    with showing(config, json_, rows, tensorboard and there) as (watch, say, shown):
        if cluster:
            from distgram_launch import ray_train

            result = ray_train.resume(config, there, cluster, watch, say)
        else:
            result = local.resume(config, there, devices, saved, watch, say)
    _finish(result, config, run_dir, shown, json_, rows)


def _finish(
    result: Result, config: Config, run_dir: Folder, shown: TextIO, as_json: bool, as_rows: bool
) -> None:
    """Say how the run ended, and exit with its code."""
    from distgram_launch.ending import ending
    from distgram_launch.live import print_json

    code, said = ending(result, config, run_dir)
    for line in said:
        print(line, file=shown, flush=True)
    if as_json or as_rows:
        print_json("@result " if as_rows else "", result.values())
    raise typer.Exit(code)


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
        given = None if argv is None else list(argv)
        return app(args=given, prog_name="distgram", standalone_mode=False) or 0
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except typer.TyperException as error:
        if said := usage.sentence(error):
            print(f"distgram: {said}", file=sys.stderr)
        return 2
    except Exception as error:
        from distgram_launch.local import USER_ERRORS

        if not isinstance(error, USER_ERRORS):
            raise
        print(f"distgram: {_sentence(error)}", file=sys.stderr)
        return 2
    finally:
        log.removeHandler(handler)
        log.propagate = True


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror.lower()}."
    return " ".join(str(error).split())


if __name__ == "__main__":
    raise SystemExit(main())
