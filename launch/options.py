"""The arguments and options that several commands share, and the console they print on."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer
from rich.console import Console

from distgram.errors import ClusterError

if TYPE_CHECKING:
    from distgram_launch.ray_cluster import Request

ConfigArgument = Annotated[Path, typer.Argument(metavar="CONFIG", help="A TOML file.")]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="A run folder; also gs://.")]
RunsArgument = Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.")]
OutOption = Annotated[
    str | None,
    typer.Option("--out", metavar="DIR", help="Run folder, also gs://; runs/<config>-seed<seed>."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key, as in run.steps=100."),
]
DevicesOption = Annotated[
    int | None, typer.Option("--devices", metavar="N", help="Use N devices; all by default.")
]
TensorBoardOption = Annotated[
    bool, typer.Option("--tensorboard", help="Also write RUN/tensorboard, for TensorBoard.")
]
PlannedOption = Annotated[
    int | None,
    typer.Option("--devices", metavar="N", min=1, help="Plan for N devices, here or not."),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="The last line of output is the result as JSON.")
]
RowsOption = Annotated[
    bool,
    typer.Option("--rows", help="On stdout only lines `@row JSON`, at the end `@result JSON`."),
]


def cluster_request(
    ray: Annotated[
        bool, typer.Option("--ray", help="Run on a Ray cluster: joined, or started here.")
    ] = False,
    workers: Annotated[
        str | None, typer.Option("--workers", metavar="N|MIN:MAX", help="Ray workers, one a host.")
    ] = None,
    devices_per_worker: Annotated[
        int | None,
        typer.Option("--devices-per-worker", metavar="M", min=1, help="CPU devices a worker."),
    ] = None,
    gpus_per_worker: Annotated[
        int | None, typer.Option("--gpus-per-worker", metavar="G", min=1, help="GPUs a worker.")
    ] = None,
    tpu: Annotated[
        str | None, typer.Option("--tpu", metavar="TYPE", help="TPU workers, as in v6e.")
    ] = None,
    topology: Annotated[
        str | None, typer.Option("--topology", metavar="AxB", help="Of a TPU slice, as in 4x4.")
    ] = None,
    address: Annotated[
        str | None,
        typer.Option("--address", metavar="ADDR", help="The cluster; else RAY_ADDRESS."),
    ] = None,
    heartbeat: Annotated[
        int | None,
        typer.Option("--heartbeat", metavar="S", min=5, help="Silent so long, a worker is lost."),
    ] = None,
    watchdog: Annotated[
        float | None,
        typer.Option(
            "--watchdog",
            metavar="S",
            min=1,
            help="A step may take S s, or 20 times more than any before.",
        ),
    ] = None,
    max_failures: Annotated[
        int | None,
        typer.Option("--max-failures", metavar="N", min=0, help="Restarts after failures."),
    ] = None,
) -> "Request | None":
    """What a run asks of a Ray cluster; None: it is to run in this process.

    Raises:
        ClusterError: options that do not fit each other.
    """
    given = {k: v for k, v in locals().items() if v is not None and k != "ray"}
    if not ray:
        if given:
            raise ClusterError(f"--{next(iter(given)).replace('_', '-')} needs --ray.")
        return None
    try:
        from distgram_launch.ray_cluster import request
    except ImportError as error:
        raise ClusterError(f"--ray: {error}: expected Ray, pip install 'distgram[ray]'.") from error
    return request(**given)


def with_cluster(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `cluster_request`, in place of its argument `cluster`."""
    command.__annotations__.pop("cluster")
    own = inspect.signature(command, eval_str=True).parameters.values()
    more = inspect.signature(cluster_request).parameters

    @functools.wraps(command)
    def wrapped(**values: Any) -> None:
        asked = {name: values.pop(name) for name in more}
        if asked["ray"] and values.get("devices") is not None:
            raise ClusterError(
                f"--devices {values['devices']} counts devices of this process: beside --ray give "
                "--workers N and --devices-per-worker M."
            )
        command(**values, cluster=cluster_request(**asked))

    options = [*(p for p in own if p.name != "cluster"), *more.values()]
    wrapped.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {p.name: p.annotation for p in options}
    return wrapped


def console(out: TextIO) -> Console:
    """For tables: as wide as the terminal, or 200 columns in a file."""
    there = Console(file=out)
    return there if there.is_terminal else Console(file=out, width=200)
