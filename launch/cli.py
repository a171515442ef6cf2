"""The command line `distgram`. It imports jax inside commands only, so that --help is at once.

Exit codes: 0 success, 1 a run that failed numerically or missed its target, 2 a user's error,
128 + n after signal n.
"""

from __future__ import annotations

import difflib
import logging
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, TextIO

import typer
from distgram_launch import options, outputs
from distgram_launch.options import ConfigArgument, DevicesOption, JsonOption, RunArgument
from distgram_launch.ray import commands
from rich.table import Table

if TYPE_CHECKING:
    from distgram_launch.ray.cluster import Request

    from distgram.config.schema import Config
    from distgram.run.ends import Result
    from distgram.store.storage import Folder

app = typer.Typer(
    cls=commands.Commands,
    help="Solve partial differential equations to machine precision with neural networks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(outputs.app)
app.add_typer(commands.app)

# The term's operator on the exact solution is wrong beyond rounding, relative to its own size.
EXACT_TOLERANCE = 1e-8


@app.command("list")
def list_() -> None:
    """Show the problems with their equations, and every name a config can choose."""
    from distgram_launch.check import choices, problems

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
@options.taking(overrides=options.overrides)
def check(
    config: ConfigArgument,
    devices: Annotated[
        int | None,
        typer.Option("--devices", metavar="N", min=1, help="Plan for N devices, here or not."),
    ] = None,
    memory_gib: Annotated[
        float | None,
        typer.Option(
            "--memory-gib", metavar="M", help="Set memory.budget_gib: GiB per device for a step."
        ),
    ] = None,
    trust: options.TrustOption = False,
    *,
    overrides: list[str],
) -> None:
    """Check a config without solving: sizes, memory, the operators on the exact solution."""
    from distgram_launch import check

    from distgram.config.schema import load
    from distgram.config.trust import check_given
    from distgram.errors import ProblemError

    limit = [] if memory_gib is None else [f"memory.budget_gib={memory_gib}"]
    checked, console = load(config, [*overrides, *limit]), options.console(sys.stdout)
    check_given(checked.problem.file, trust)
    examined = check.examine(checked, devices)
    stage = examined.stage
    for shown in check.tables(examined, checked.memory.budget_gib):
        console.print(shown, "")
    tested = list(check.operator_residuals(stage))
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
@options.taking(overrides=options.overrides, cluster=options.cluster_request)
def solve(
    config: ConfigArgument,
    out: options.OutOption = None,
    devices: DevicesOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an older run in DIR.")] = False,
    force_unsaved: Annotated[
        bool,
        typer.Option(
            "--force-unsaved", help="Replace an older run in DIR that has no whole checkpoint."
        ),
    ] = False,
    json_: JsonOption = False,
    rows: options.RowsOption = False,
    tensorboard: options.TensorBoardOption = False,
    trust: options.TrustOption = False,
    *,
    overrides: list[str],
    cluster: Request | None,
) -> None:
    """Solve the problem of a config, or of a Python file; the run folder gets all of it.

    A Python file defines `problem`; network, points and rule are then chosen, or given by options.
    """
    from distgram_launch import local
    from distgram_launch.show import showing

    from distgram.config.schema import load
    from distgram.config.trust import check_given
    from distgram.store.storage import absolute, folder

    _refuse_devices(devices, cluster)
    checked = load(config, overrides)
    check_given(checked.problem.file, trust)
    run_dir = folder(f"runs/{config.stem}-seed{checked.run.seed}" if out is None else out)
    there, replaced = absolute(run_dir), force or (force_unsaved and "unsaved")
    with showing(checked, json_, rows, tensorboard and there) as (watch, say, shown):
        if cluster:
            from distgram_launch.ray import train

            result = train.start(checked, there, cluster, replaced, watch, say)
        else:
            result = local.start(checked, there, devices, replaced, watch, say)
    _finish(result, checked, run_dir, shown, json_, rows)


@app.command()
@options.taking(cluster=options.cluster_request)
def resume(
    run: RunArgument,
    set_: options.SetOption = None,
    devices: DevicesOption = None,
    json_: JsonOption = False,
    rows: options.RowsOption = False,
    tensorboard: options.TensorBoardOption = False,
    trust: options.TrustOption = False,
    *,
    cluster: Request | None,
) -> None:
    """Go on with a run from its newest whole checkpoint, as if it had not been interrupted.

    The id of a submitted run, dg-..., in place of RUN: in a new job of its cluster, with options of
    its own: `distgram resume dg-... --help`.

    Only budgets may be set: run.tolerance, run.steps, run.time_budget_s, run.target_l2,
    run.target_residual. On another number of devices or workers the steps are equal within
    rounding only.
    """
    from distgram_launch import local
    from distgram_launch.show import showing

    from distgram.store.storage import absolute, folder

    _refuse_devices(devices, cluster)
    run_dir = folder(run)
    there = absolute(run_dir)
    with local.old_folder(there):
        config, saved = local.resumed_config(there, set_ or (), trust)
        with showing(config, json_, rows, tensorboard and there) as (watch, say, shown):
            if cluster:
                from distgram_launch.ray import train

                result = train.resume(config, there, cluster, watch, say)
            else:
                result = local.resume(config, there, devices, saved, watch, say)
    _finish(result, config, run_dir, shown, json_, rows)


def _refuse_devices(devices: int | None, cluster: Request | None) -> None:
    from distgram.errors import ClusterError

    if cluster and devices is not None:
        raise ClusterError(
            f"--devices {devices} counts devices of this process: beside --ray give --workers N "
            "and --devices-per-worker M."
        )


def _finish(
    result: Result, config: Config, run_dir: Folder, shown: TextIO, as_json: bool, as_rows: bool
) -> None:
    """Say how the run ended, and exit with its code."""
    from distgram_launch.show import ending, print_json

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
    # Orbax logs whole tracebacks of errors that it also raises; CheckpointError says them once.
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # folx logs a traceback of every error of an operator, which is told in a sentence.
    logging.getLogger().addFilter(_not_folx)
    try:
        given = None if argv is None else list(argv)
        return app(args=given, prog_name="distgram", standalone_mode=False) or 0
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except typer.TyperException as error:
        if said := misread(error):
            print(f"distgram: {said}", file=sys.stderr)
        return 2
    except Exception as error:
        from distgram.errors import UserError

        if _out_of_memory(error):
            said = "not enough memory: expected fewer points or parameters, or more devices"
            print(f"distgram: {said} ({_sentence(error)[:200]}).", file=sys.stderr)
            return 2
        if not isinstance(error, UserError | OSError):
            raise
        print(f"distgram: {_sentence(error)}", file=sys.stderr)
        return 2
    finally:
        log.removeHandler(handler)
        logging.getLogger().removeFilter(_not_folx)
        log.propagate = True


def misread(error: typer.TyperException) -> str:
    """A command line that cannot be read, in one sentence, with the nearest option of its command;
    '' where help was printed."""
    said = error.format_message() if hasattr(error, "format_message") else str(error)  # type: ignore[attr-defined]
    context, wrong = getattr(error, "ctx", None), getattr(error, "option_name", None)
    said = " ".join(said.partition(" (Possible options")[0].split()).rstrip(".")
    if not said:
        return ""
    said = re.sub(r"\. Did you", ": did you", said)
    if context and wrong:
        names = [n for p in context.command.get_params(context) for n in p.opts if n[0] == "-"]
        if close := difflib.get_close_matches(wrong, names, 1, 0.5):
            said += f": did you mean {close[0]!r}?"
    end = "" if said.endswith("?") else "."
    help_of = context.command_path if context else "distgram COMMAND"
    return f"{said[:1].lower()}{said[1:]}{end} `{help_of} -h` shows what it takes."


def _not_folx(record: logging.LogRecord) -> bool:
    return "/folx/" not in record.pathname


def _out_of_memory(error: Exception) -> bool:
    """Whether there was not enough memory, of the host or, as jax says it, of a device."""
    of_jax = type(error).__name__ in ("JaxRuntimeError", "XlaRuntimeError")
    return isinstance(error, MemoryError) or (of_jax and "RESOURCE_EXHAUSTED" in str(error))


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror.lower()}."
    return " ".join(str(error).split())


if __name__ == "__main__":
    raise SystemExit(main())
