"""`distgram submit`, and `distgram resume` of a run that was submitted."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer
from distgram_launch import options

from distgram.errors import ClusterError

app = typer.Typer()
RESUME = "resume-job"

IdArgument = Annotated[
    str, typer.Argument(metavar="ID", help="A run's id, for its newest job, or a job's.")
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="URL",
        help="The cluster's dashboard, http://HOST:8265; else RAY_API_SERVER_ADDRESS, RAY_ADDRESS.",
    ),
]
StorageOption = typer.Option("--storage", metavar="PATH", help="Where runs go; all hosts see it.")
EnvOption = Annotated[
    list[str] | None,
    typer.Option("--env", metavar="NAME=VALUE", help="An environment variable of the job."),
]
PackageOption = Annotated[
    bool, typer.Option("--package", help="Upload distgram itself: the cluster has none.")
]


def _with_layout(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of the workers, those given as its argument `layout`."""
    own = inspect.signature(command, eval_str=True).parameters
    more = {
        name: p
        for name, p in inspect.signature(options.cluster_request).parameters.items()
        if name not in ("ray", "address")
    }

    @functools.wraps(command)
    def wrapped(**values: Any) -> None:
        asked = {name: values.pop(name) for name in more}
        command(**values, layout={k: v for k, v in asked.items() if v is not None})

    kept = [p for p in own.values() if p.name != "layout"]
    wrapped.__signature__ = inspect.Signature([*kept, *more.values()])  # type: ignore[attr-defined]
    return wrapped


@app.command()
@_with_layout
def submit(
    config: options.ConfigArgument,
    storage: Annotated[str, StorageOption],
    address: AddressOption = None,
    set_: options.SetOption = None,
    env: EnvOption = None,
    package: PackageOption = False,
    tensorboard: options.TensorBoardOption = False,
    *,
    layout: dict[str, Any],
) -> None:
    """Submit a run to a Ray cluster; prints the id of its first job, which is the run's id and -1.

    The config and the problem's file are uploaded, nothing else of this machine.
    """
    from distgram_launch import jobs, local
    from distgram_launch.job_client import cluster

    from distgram.config.schema import load

    checked = load(config, set_ or ())
    job = jobs.Job(
        run=jobs.new_run(storage, config.stem),
        config=config.stem,
        limits=checked.run,
        layout=layout,
        package=package,
        env=_environment(env),
        tensorboard=tensorboard,
    )
    job.request()
    local.prepare(checked, 1)
    with cluster(address) as client:
        print(jobs.submit(client, job, checked))


@app.command(RESUME, hidden=True)
@_with_layout
def resume(
    given: IdArgument,
    storage: Annotated[str | None, StorageOption] = None,
    address: AddressOption = None,
    set_: options.SetOption = None,
    env: EnvOption = None,
    package: PackageOption = False,
    tensorboard: options.TensorBoardOption = False,
    *,
    layout: dict[str, Any],
) -> None:
    """Go on with a run from its newest whole checkpoint, in a new job; prints its id.

    All is as in the job before, but for what is given. Only budgets may be set. On a cluster that
    does not know the run, --storage says where its folder is.
    """
    from distgram_launch import jobs
    from distgram_launch.job_client import cluster

    with cluster(address) as client:
        more = _environment(env)
        if storage is None:
            _, _, job = jobs.find(client, given)
        else:
            job = jobs.found_in(client, storage, given, package, more)
        job = job.model_copy(
            update={
                "layout": job.layout | layout,
                "env": job.env | more,
                "package": job.package or package,
                "tensorboard": job.tensorboard or tensorboard,
                "limits": jobs.changed(job.limits, set_ or ()),
            }
        )
        print(jobs.resume(client, job, set_ or ()))


def _environment(given: list[str] | None) -> dict[str, str]:
    """NAME -> VALUE."""
    parts = {text: text.partition("=") for text in given or ()}
    for text, (name, equals, _) in parts.items():
        if not equals or not name.isidentifier():
            raise ClusterError(f"--env {text!r}: expected NAME=VALUE.")
    return {name: value for name, _, value in parts.values()}
