"""The commands on jobs of a Ray cluster, from any machine that reaches it: `submit`, `watch`, `ps`,
`logs`, `stop`, `fetch`, and `resume` of a run that was submitted."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from distgram_launch import folders, options
from rich.table import Table
from typer.core import TyperGroup

from distgram.errors import ClusterError

if TYPE_CHECKING:
    from distgram_launch.show import Progress

app = typer.Typer()
RESUME = "resume-job"

IdArgument = Annotated[
    str, typer.Argument(metavar="ID", help="Take this job, or the newest job of this run.")
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="URL",
        help="Reach the cluster's dashboard at http://HOST:8265 "
        "(default: RAY_API_SERVER_ADDRESS, RAY_ADDRESS).",
    ),
]
PackageOption = Annotated[
    bool, typer.Option("--package", help="Upload distgram itself to a cluster that has none.")
]


class Commands(TyperGroup):
    """Turns `resume dg-...` into the hidden command that resumes a job: a word that begins with dg-
    is the id of a job unless it is a path."""

    def resolve_command(self, ctx, args):
        name, command, rest = super().resolve_command(ctx, args)
        if name == "resume" and any(a.startswith("dg-") and not Path(a).exists() for a in rest):
            command = self.get_command(ctx, RESUME)
        return name, command, rest


def _environment(
    env: Annotated[
        list[str] | None,
        typer.Option(
            "--env",
            metavar="NAME=VALUE",
            help="Set an environment variable of the job. The Jobs API and Ray's logs show it to "
            "all who reach the cluster: for secrets give --env-file. Repeats.",
        ),
    ] = None,
) -> dict[str, str]:
    from distgram_launch.ray.cluster import variables

    return variables(env or (), "--env")


@app.command()
@options.taking(layout=options.layout, env=_environment, overrides=options.overrides)
def submit(
    config: options.ConfigArgument,
    storage: Annotated[
        str,
        typer.Option("--storage", metavar="PATH", help="Write runs to PATH, which all hosts see."),
    ],
    address: AddressOption = None,
    package: PackageOption = False,
    tensorboard: options.TensorBoardOption = False,
    trust: options.TrustOption = False,
    *,
    layout: dict[str, Any],
    env: dict[str, str],
    overrides: list[str],
) -> None:
    """Submit a run to a Ray cluster and print the id of its first job: the run's id, then -1.

    The config is uploaded, the problem's file, what that imports, reads and names of its folder,
    and tables of data: nothing else of this machine.
    """
    from distgram_launch import local
    from distgram_launch.ray import jobs
    from distgram_launch.ray.client import cluster

    from distgram.config.schema import load
    from distgram.config.trust import check_given

    checked = load(config, overrides)
    check_given(checked.problem.file, trust)
    job = jobs.Job(
        run=jobs.new_run(storage, config.stem),
        config=config.stem,
        limits=checked.run,
        layout=layout,
        package=package,
        env=env,
        tensorboard=tensorboard,
    )
    job.request()
    checked, _ = local.checked(checked, 1)
    with cluster(address) as client:
        print(jobs.submit(client, job, checked))


@app.command(RESUME, hidden=True)
@options.taking(layout=options.layout, env=_environment)
def resume(
    given: IdArgument,
    storage: Annotated[
        str | None,
        typer.Option("--storage", metavar="PATH", help="Find the run in PATH, by its id."),
    ] = None,
    address: AddressOption = None,
    set_: options.SetOption = None,
    package: PackageOption = False,
    tensorboard: options.TensorBoardOption = False,
    *,
    layout: dict[str, Any],
    env: dict[str, str],
) -> None:
    """Go on with a run from its newest whole checkpoint, in a new job, and print the job's id.

    Every option that is not given is as in the job before. --set changes budgets only. If the
    cluster does not know the run, say with --storage where its folder is.
    """
    from distgram_launch.ray import jobs
    from distgram_launch.ray.client import cluster

    with cluster(address) as client:
        if storage is None:
            _, _, job = jobs.find(client, given)
        else:
            job = jobs.found_in(storage, given, package, env)
        job = job.model_copy(
            update={
                "layout": job.layout | layout,
                "env": job.env | env,
                "package": job.package or package,
                "tensorboard": job.tensorboard or tensorboard,
                "limits": jobs.changed(job.limits, set_ or ()),
            }
        )
        print(jobs.resume(client, job, set_ or ()))


@app.command()
def watch(
    given: Annotated[
        str,
        typer.Argument(metavar="ID|RUN", help="Take this job or run; with --web a folder too."),
    ],
    web: Annotated[
        bool, typer.Option("--web", help="Serve the page of the run to this machine's browsers.")
    ] = False,
    port: Annotated[
        int | None,
        typer.Option(
            "--port", metavar="N", min=1, max=65535, help="Serve at port N (default: a free one)."
        ),
    ] = None,
    address: AddressOption = None,
    trust: options.TrustOption = False,
) -> None:
    """Follow a job: show the table that `solve` shows, then how the job ended, and exit with the
    job's exit code."""
    if web:
        return _serve(given, port or 0, address, trust)
    if Path(given).is_dir():
        raise ClusterError(f"{given}: is a folder: `distgram watch {given} --web` shows its page.")
    if port is not None:
        raise ClusterError(f"--port {port}: needs --web.")
    from distgram_launch.ray import jobs
    from distgram_launch.ray.client import cluster
    from distgram_launch.ray.follow import exit_code, follow
    from distgram_launch.show import Progress

    from distgram.config.tables import build
    from distgram.run.setup import Limits

    with cluster(address) as client:
        name, _, job = jobs.find(client, given)
        limits = None if job.limits is None else build(job.limits, "run", Limits)
        try:
            with Progress(sys.stdout, limits) as progress:
                details = follow(client, name, _shown(progress))
        except KeyboardInterrupt:
            print(f"{name} goes on; `distgram watch {name}` follows it again", file=sys.stderr)
            raise typer.Exit(130) from None
    code = exit_code(details)
    if details.driver_exit_code is None and details.message:
        print(details.message, file=sys.stderr)
    print(f"{name}: {details.status.value.lower()}, exit code {code}", file=sys.stderr)
    raise typer.Exit(code)


def _serve(given: str, port: int, address: str | None, trust: bool) -> None:
    """Serve the page of a run until Ctrl-C. `given` is a run folder on this machine, or a job."""
    from distgram_launch import web
    from distgram_launch.ray import jobs
    from distgram_launch.ray.client import cluster

    def until_stopped(source: web.Source) -> None:
        with web.Server(source, port) as server:
            print(f"{server.url} shows {source.title}; Ctrl-C ends it", flush=True)
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                print()

    if Path(given).is_dir():
        return until_stopped(web.Folder(Path(given).absolute(), trust))
    found = False
    try:
        with cluster(address) as client:
            name, _, job = jobs.find(client, given)
            found = True
            until_stopped(web.FollowedJob(client, name, job, trust))
    except ClusterError as error:
        if found:
            raise
        raise ClusterError(
            f"{given}: neither a run folder on this machine nor the id of a job that can be "
            f"followed ({str(error).rstrip('.')})."
        ) from error


def _shown(progress: Progress) -> Callable[[str], None]:
    """The function that shows one line of a job's log: it adds a row of metrics to the table and
    prints any other line of the run above the table."""
    from distgram_launch.ray.follow import row_of

    begun = False

    def show(line: str) -> None:
        nonlocal begun
        kind, _, text = line.partition(" ")
        if kind == "@row":
            if (row := row_of(text)) is not None:
                progress.watch(row)
        elif begun and kind != "@result":
            progress.say(line)
        # the lines up to this one are Ray's own
        begun = begun or line.startswith("Running entrypoint for job")

    return show


@app.command()
def logs(
    given: IdArgument,
    worker: Annotated[
        int | None,
        typer.Option("--worker", metavar="K", min=0, help="Print the log of worker K instead."),
    ] = None,
    following: Annotated[
        bool, typer.Option("--follow", "-f", help="Print what comes until the job ends.")
    ] = False,
    address: AddressOption = None,
) -> None:
    """Print the log of a job, from its start.

    The log of a worker is read from the run folder, which this machine must see. The log of a
    worker of a run on gs:// is among Ray's logs of its host, which the dashboard shows.
    """
    from distgram_launch.ray import jobs
    from distgram_launch.ray.client import cluster
    from distgram_launch.ray.follow import follow

    if worker is not None and following:
        raise ClusterError(f"--worker {worker} --follow: only the log of the job can be followed.")
    with cluster(address) as client:
        name, _, job = jobs.find(client, given)
        if worker is not None:
            print(_worker_log(job.run, worker), end="")
        elif following:
            follow(client, name, print)
        else:
            print(client.get_job_logs(name), end="")


def _worker_log(run: str, worker: int) -> str:
    if run.startswith("gs://"):
        raise ClusterError(f"--worker {worker}: the dashboard shows the workers of a run on gs://.")
    folder = folders.found(run) / "logs"
    path = folder / f"rank-{worker}.log"
    if not path.exists():
        there = sorted(p.name for p in folder.glob("*.log"))
        hint = f"there are {', '.join(there)}" if there else "there is nothing yet"
        raise ClusterError(f"{path}: not found: {hint}.")
    return path.read_bytes().decode(errors="replace")


@app.command()
def stop(
    given: IdArgument,
    timeout: Annotated[
        float,
        typer.Option(
            "--timeout", metavar="S", min=0, help="Wait S s for the run to save (default: 120)."
        ),
    ] = 120.0,
    address: AddressOption = None,
) -> None:
    """Ask a run to save its state and end; stop its job if it has not after the timeout."""
    from distgram_launch.ray import follow, jobs
    from distgram_launch.ray.client import cluster

    with cluster(address) as client:
        name, details, job = jobs.find(client, given)
        if details.status.is_terminal():
            print(f"{name} has ended: {details.status.value.lower()}")
            return
        details = follow.stop(client, name, job, timeout)
        result = follow.result(client, name)
    if details.status.value == "STOPPED":
        print(
            f"{name}: stopped; it had not begun, or did not save within {timeout:g} s: "
            f"`distgram resume {job.run_id}` goes on from its newest checkpoint, if there is one"
        )
        raise typer.Exit(1)
    if not result:
        print(f"{name}: it failed before it could save: `distgram logs {name}` tells why")
        raise typer.Exit(1)
    said = f"{result['reason']} at step {result['steps']}"
    print(f"{name}: {said}; `distgram resume {job.run_id}` goes on")


@app.command()
def ps(address: AddressOption = None) -> None:
    """List the jobs that the cluster remembers, the oldest first."""
    from distgram_launch.ray import jobs
    from distgram_launch.ray.client import cluster

    columns = ("id", "status", "exit code", "workers", "submitted", "seconds", "run folder")
    table = Table(*columns, box=None)
    with cluster(address) as client:
        for name, (details, job) in jobs.jobs(client).items():
            began, ended = details.start_time or 0, details.end_time or time.time() * 1e3
            table.add_row(
                name,
                details.status.value.lower(),
                "" if details.driver_exit_code is None else str(details.driver_exit_code),
                str(job.layout.get("workers", 1)),
                datetime.fromtimestamp(began / 1e3).isoformat(" ", "minutes"),
                f"{(ended - began) / 1e3:.0f}",
                job.run,
            )
    options.console(sys.stdout).print(table)


@app.command()
def fetch(
    given: Annotated[
        str, typer.Argument(metavar="ID|gs://RUN", help="Take this run, by its id or its folder.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="DIR", help="Write the new folder DIR (default: runs/RUN'S ID)."
        ),
    ] = None,
    address: AddressOption = None,
) -> None:
    """Copy the run folder of a job, or one on gs://, to a folder here; prints where it is.

    Its storage has to be seen from this machine: a path that is mounted here as well, or gs://.
    """
    from distgram_launch.ray import jobs
    from distgram_launch.ray.client import cluster

    run = given.rstrip("/")
    if out is not None:
        folders.check_new(out)
    if not run.startswith("gs://"):
        with cluster(address) as client:
            run = jobs.find(client, given)[2].run
    folder = out or Path("runs") / run.rpartition("/")[2]
    folders.fetch(run, folder)
    print(folder)
