"""`distgram watch`, `logs`, `stop`, `ps` and `fetch`: what goes on with jobs, from any machine."""

from __future__ import annotations

import functools
import json
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from distgram_launch.options import console
from distgram_launch.submit_commands import RESUME, AddressOption, IdArgument, app
from rich.table import Table
from typer.core import TyperGroup

from distgram.errors import ClusterError

if TYPE_CHECKING:
    from distgram_launch.live import Progress


class Commands(TyperGroup):
    """`resume dg-...` is a command of its own: that is a job, and no run folder."""

    def resolve_command(self, ctx, args):
        name, command, rest = super().resolve_command(ctx, args)
        if name == "resume" and any(a.startswith("dg-") and not Path(a).exists() for a in rest):
            command = self.get_command(ctx, RESUME)
        return name, command, rest


@app.command()
def watch(
    given: Annotated[
        str, typer.Argument(metavar="ID|RUN", help="A job's or run's id; with --web also a folder.")
    ],
    web: Annotated[
        bool, typer.Option("--web", help="Serve the page of the run, to this machine only.")
    ] = False,
    port: Annotated[
        int | None, typer.Option("--port", metavar="N", min=1, max=65535, help="For --web.")
    ] = None,
    address: AddressOption = None,
) -> None:
    """Follow a job: the table that `solve` shows, then how it ended. The exit code is its own."""
    if web:
        return _serve(given, port or 0, address)
    if Path(given).is_dir():
        raise ClusterError(f"{given}: is a folder: `distgram watch {given} --web` shows its page.")
    if port is not None:
        raise ClusterError(f"--port {port}: needs --web.")
    from distgram_launch import jobs
    from distgram_launch.job_client import cluster
    from distgram_launch.job_follow import exit_code, follow
    from distgram_launch.live import Progress

    from distgram.config.tables import build
    from distgram.run.setup import Limits

    with cluster(address) as client:
        name, _, job = jobs.find(client, given)
        try:
            with Progress(sys.stdout, build(job.limits, "run", Limits)) as progress:
                details = follow(client, name, _shown(progress))
        except KeyboardInterrupt:
            print(f"{name} goes on; `distgram watch {name}` follows it again", file=sys.stderr)
            raise typer.Exit(130) from None
    code = exit_code(details)
    if details.driver_exit_code is None and details.message:
        print(details.message, file=sys.stderr)
    print(f"{name}: {details.status.value.lower()}, exit code {code}", file=sys.stderr)
    raise typer.Exit(code)


def _serve(given: str, port: int, address: str | None) -> None:
    """Serve the page of a run until Ctrl-C: of a folder here, else of a job."""
    from distgram_launch import jobs, web
    from distgram_launch.job_client import cluster

    def until_stopped(source: web.Source) -> None:
        with web.Server(source, port) as server:
            print(f"{server.url} shows {source.title}; Ctrl-C ends it", flush=True)
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                print()

    if Path(given).is_dir():
        return until_stopped(web.Folder(Path(given)))
    found = False
    try:
        with cluster(address) as client:
            name, _, job = jobs.find(client, given)
            found = True
            until_stopped(web.FollowedJob(client, name, job))
    except ClusterError as error:
        if found:
            raise
        raise ClusterError(
            f"{given}: neither a run folder on this machine nor the id of a job that can be "
            f"followed ({str(error).rstrip('.')})."
        ) from error


def _shown(progress: Progress) -> Callable[[str], None]:
    """Rows of metrics go to the table, what the run itself says above it."""
    begun = False

    def show(line: str) -> None:
        nonlocal begun
        kind, _, text = line.partition(" ")
        if kind == "@row":
            progress.watch(json.loads(text))
        elif begun and kind != "@result":
            progress.say(line)
        begun = begun or line.startswith("Running entrypoint for job")  # before it speaks Ray

    return show


@app.command()
def logs(
    given: IdArgument,
    worker: Annotated[
        int | None, typer.Option("--worker", metavar="K", min=0, help="That of one worker.")
    ] = None,
    following: Annotated[bool, typer.Option("--follow", "-f", help="Until the job ends.")] = False,
    address: AddressOption = None,
) -> None:
    """Print the whole log of a job: what started it and what it said."""
    from distgram_launch import jobs
    from distgram_launch.job_client import cluster
    from distgram_launch.job_follow import follow
    from distgram_launch.run_files import perform

    if worker is not None and following:
        raise ClusterError(f"--worker {worker} --follow: only the log of the job can be followed.")
    with cluster(address) as client:
        name, _, job = jobs.find(client, given)
        if worker is not None:
            with job.environment() as env:
                text = perform(client, env, job.run, "read", f"logs/rank-{worker}.log")
            print(text.decode(errors="replace"), end="")
        elif following:
            follow(client, name, print)
        else:
            print(client.get_job_logs(name), end="")


@app.command()
def stop(
    given: IdArgument,
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="S", min=0, help="So long it may take to save.")
    ] = 120.0,
    address: AddressOption = None,
) -> None:
    """Ask a run to save its state and end; stop its job if it has not after the timeout."""
    from distgram_launch import job_follow, jobs
    from distgram_launch.job_client import cluster

    with cluster(address) as client:
        name, details, job = jobs.find(client, given)
        if details.status.is_terminal():
            print(f"{name} has ended: {details.status.value.lower()}")
            return
        details = job_follow.stop(client, name, job, timeout)
        result = job_follow.result(client, name)
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
    from distgram_launch import jobs
    from distgram_launch.job_client import cluster

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
    console(sys.stdout).print(table)


@app.command()
def fetch(
    given: Annotated[str, typer.Argument(metavar="ID|gs://RUN", help="A run's id, or its folder.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="A new folder; runs/<run's id>.")
    ] = None,
    address: AddressOption = None,
) -> None:
    """Copy the run folder of a job, or one on gs://, to this machine; prints where it is."""
    from distgram_launch import jobs, run_files
    from distgram_launch.job_client import cluster

    if given.startswith("gs://"):
        folder = out or Path("runs") / given.rstrip("/").rpartition("/")[2]
        run_files.fetch(given, folder)
    else:
        with cluster(address) as client:
            _, _, job = jobs.find(client, given)
            folder = out or Path("runs") / job.run_id
            with job.environment() as env:
                there = not run_files.seen_from_here(job.run)
                packed = functools.partial(run_files.perform, client, env, job.run, "pack")
                run_files.fetch(job.run, folder, packed if there else None)
    print(folder)
