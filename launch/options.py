"""The arguments and options that several commands share, groups of them, and the console.

A group of options is a function of their values: `taking(name=group)` gives a command the options
of the group, and calls the command with what the group makes of them.
"""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer
from rich.console import Console

from distgram.errors import ClusterError, ConfigError

if TYPE_CHECKING:
    from distgram_launch.ray.cluster import Request

ConfigArgument = Annotated[
    Path,
    typer.Argument(
        metavar="CONFIG", help="Read a TOML file, or a Python file that defines `problem`."
    ),
]
RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="Use this run folder, a path or gs://BUCKET/PATH.")
]
OutOption = Annotated[
    str | None,
    typer.Option(
        "--out",
        metavar="DIR",
        help="Write the run folder DIR, a path or gs://BUCKET/PATH (default: runs/CONFIG-seedN).",
    ),
]
DevicesOption = Annotated[
    int | None,
    typer.Option("--devices", metavar="N", help="Use N devices of this process (default: all)."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Set a key of the config, as in run.steps=100. Repeats."
    ),
]
TensorBoardOption = Annotated[
    bool, typer.Option("--tensorboard", help="Write RUN/tensorboard as well, for TensorBoard.")
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print the result as JSON, the last line of the output.")
]
TrustOption = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Run the problem file of the folder, a program, though no solve of yours on this "
        "machine has written it.",
    ),
]
RowsOption = Annotated[
    bool,
    typer.Option("--rows", help="Print on stdout only lines `@row JSON`, then `@result JSON`."),
]


def taking(**groups: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command, or a group, the options of groups in place of arguments of their names."""

    def give(command: Callable[..., Any]) -> Callable[..., Any]:
        for name in (*groups, "return"):  # of a type that is only imported for type checkers
            command.__annotations__.pop(name, None)
        own = inspect.signature(command, eval_str=True).parameters
        options = {
            n: inspect.signature(group, eval_str=True).parameters for n, group in groups.items()
        }

        @functools.wraps(command)
        def wrapped(**values: Any) -> Any:
            made = {
                name: group(**{key: values.pop(key) for key in options[name]})
                for name, group in groups.items()
            }
            return command(**values, **made)

        every = [p for p in own.values() if p.name not in groups]
        every += [p for group in options.values() for p in group.values()]
        every = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in every]
        wrapped.__signature__ = inspect.Signature(every)  # type: ignore[attr-defined]
        wrapped.__annotations__ = {p.name: p.annotation for p in every}
        return wrapped

    return give


def overrides(
    steps: Annotated[
        int | None, typer.Option("--steps", metavar="N", help="Set run.steps: take at most N.")
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option("--tolerance", metavar="T", help="Set run.tolerance: end at this error."),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option("--seed", metavar="N", help="Set run.seed: draw network and points from it."),
    ] = None,
    points: Annotated[
        list[str] | None,
        typer.Option(
            "--points", metavar="TERM=N", help="Set points.TERM.count: draw N points. Repeats."
        ),
    ] = None,
    hidden: Annotated[
        str | None,
        typer.Option(
            "--hidden", metavar="N,N...", help="Set model.hidden: the widths of the layers."
        ),
    ] = None,
    set_: SetOption = None,
) -> list[str]:
    """Overrides of a config's keys, those of --set first.

    Raises:
        ConfigError: --points without a term. What the values mean is left to the config's check.
    """
    found = [*(set_ or ())]
    for key, value in (("steps", steps), ("tolerance", tolerance), ("seed", seed)):
        found += [] if value is None else [f"run.{key}={value}"]
    for text in points or ():
        term, _, count = text.partition("=")
        if not (term and count):
            raise ConfigError(f"--points {text!r}: expected TERM=N, as in interior=2048.")
        found.append(f"points.{term}.count={count}")
    return found if hidden is None else [*found, f"model.hidden=[{hidden}]"]


def layout(
    workers: Annotated[
        str | None,
        typer.Option(
            "--workers",
            metavar="N|MIN:MAX",
            help="Start N Ray workers, one per host; of MIN:MAX one on every host that is there.",
        ),
    ] = None,
    devices_per_worker: Annotated[
        int | None,
        typer.Option(
            "--devices-per-worker",
            metavar="M",
            min=1,
            help="Give each worker M CPU devices (default: 1).",
        ),
    ] = None,
    gpus_per_worker: Annotated[
        int | None,
        typer.Option("--gpus-per-worker", metavar="G", min=1, help="Give each worker G GPUs."),
    ] = None,
    tpu: Annotated[
        str | None,
        typer.Option("--tpu", metavar="TYPE", help="Use TPU hosts of this generation, as in v6e."),
    ] = None,
    topology: Annotated[
        str | None,
        typer.Option("--topology", metavar="AxB", help="Use TPU slices of this shape, as in 4x4."),
    ] = None,
    heartbeat: Annotated[
        int | None,
        typer.Option(
            "--heartbeat",
            metavar="S",
            min=5,
            help="Give up a worker after S s of silence (default: 30).",
        ),
    ] = None,
    watchdog: Annotated[
        float | None,
        typer.Option(
            "--watchdog",
            metavar="S",
            min=1,
            help="Give up a step after S s and 20 times the longest step before it (default: 120).",
        ),
    ] = None,
    max_failures: Annotated[
        int | None,
        typer.Option(
            "--max-failures",
            metavar="N",
            min=0,
            help="Restart workers N times at most (default: 5).",
        ),
    ] = None,
    env_file: Annotated[
        str | None,
        typer.Option(
            "--env-file",
            metavar="PATH",
            help="Read NAME=VALUE lines from a file of the cluster's hosts when the run starts. "
            "The values, as secrets, stand in no log and no API.",
        ),
    ] = None,
) -> dict[str, Any]:
    """What is given of a run's workers."""
    return {key: value for key, value in locals().items() if value is not None}


@taking(layout=layout)
def cluster_request(
    ray: Annotated[
        bool,
        typer.Option(
            "--ray", help="Run on the Ray cluster of --address, or on one started on this machine."
        ),
    ] = False,
    address: Annotated[
        str | None,
        typer.Option(
            "--address",
            metavar="ADDR",
            help="Join the cluster at HOST:6379 or auto (default: RAY_ADDRESS).",
        ),
    ] = None,
    *,
    layout: dict[str, Any],
) -> "Request | None":
    """What a run asks of a Ray cluster; None: it is to run in this process.

    Raises:
        ClusterError: options that do not fit each other.
    """
    given: dict[str, Any] = layout if address is None else layout | {"address": address}
    if not ray:
        if given:
            raise ClusterError(f"--{next(iter(given)).replace('_', '-')} needs --ray.")
        return None
    try:
        from distgram_launch.ray.cluster import request
    except ImportError as error:
        raise ClusterError(f"--ray: {error}: expected Ray, pip install 'distgram[ray]'.") from error
    return request(**given)


def console(out: TextIO) -> Console:
    """For tables: as wide as the terminal, or 200 columns in a file."""
    there = Console(file=out)
    return there if there.is_terminal else Console(file=out, width=200)
