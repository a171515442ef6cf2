"""Following a job to its end: its log line by line, its exit code, and the request to stop."""

from __future__ import annotations

import asyncio
import json
import shlex
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distgram_launch import folders
from distgram_launch.ray.jobs import Job

from distgram.errors import ClusterError
from distgram.store.read import check_row

if TYPE_CHECKING:
    from ray.dashboard.modules.job.pydantic_models import JobDetails
    from ray.job_submission import JobSubmissionClient

# A log that says nothing for so long is asked for anew: its connection may be dead.
SILENT_SECONDS = 60
# So long the cluster may be out of reach before a command that follows a job gives up.
LOST_SECONDS = 60
# A run that starts removes an older request to stop, so that it has to be asked again.
ASK_SECONDS = 10
JOB_SECONDS = 120  # for a small job to end


def follow(client: JobSubmissionClient, name: str, say: Callable[[str], None]) -> JobDetails:
    """Say every line of a job's log, once, until the job ends; how it ended.

    Raises:
        ClusterError: the cluster has been out of reach for LOST_SECONDS.
    """
    import aiohttp
    import requests

    said = 0  # lines; a log that is asked for anew comes from its beginning

    async def tail() -> str:
        """Say the lines that are new; what stands behind the last of them."""
        nonlocal said
        count, rest = 0, ""
        chunks = client.tail_job_logs(name)
        try:
            while True:
                chunk = await asyncio.wait_for(anext(chunks, None), SILENT_SECONDS)
                if chunk is None:
                    return rest
                *lines, rest = (rest + chunk).split("\n")
                for line in lines:
                    count += 1
                    if count > said:
                        said = count
                        say(line)
        finally:
            await chunks.aclose()  # type: ignore[attr-defined]

    lost: float | None = None  # since when the cluster has not answered
    while True:
        rest = ""
        try:
            rest = asyncio.run(tail())
        except BrokenPipeError:  # of `say`
            raise
        except (TimeoutError, RuntimeError, OSError, aiohttp.ClientError):
            pass  # the job's state tells whether this matters
        try:
            details = client.get_job_info(name)
        except (RuntimeError, requests.RequestException) as error:
            lost = lost or time.monotonic()
            if time.monotonic() - lost > LOST_SECONDS:
                raise ClusterError(
                    f"{name}: the cluster has not answered for {LOST_SECONDS} s; the run may go "
                    f"on: `distgram watch {name}` follows it again."
                ) from error
        else:
            lost = None
            if details.status.is_terminal():
                if rest:
                    say(rest)
                return details
        time.sleep(1.0)


def row_of(text: str) -> dict[str, Any] | None:
    """The row of metrics of a line `@row JSON`, without its first word; None: it is none."""
    try:
        return check_row(json.loads(text), "a row of the log")
    except (ValueError, RecursionError):
        return None


def exit_code(details: JobDetails) -> int:
    """That of the run; 143 for a job that was stopped, 1 for one that Ray itself failed."""
    code = details.driver_exit_code
    if code is not None:
        return 128 - code if code < 0 else code
    return {"SUCCEEDED": 0, "STOPPED": 143}.get(details.status.value, 1)


def result(client: JobSubmissionClient, name: str) -> dict[str, Any]:
    """The result of a run that has ended, {} where it came to none."""
    lines = client.get_job_logs(name).splitlines()
    found = [line for line in lines if line.startswith("@result ")]
    return json.loads(found[-1].removeprefix("@result ")) if found else {}


def stop(client: JobSubmissionClient, name: str, job: Job, timeout: float) -> JobDetails:
    """Ask a run to save and end; stop its job where it does not within `timeout` seconds.

    A run that has not begun has nothing to save: its job is stopped at once.
    """
    until, asked = time.monotonic() + timeout, float("-inf")
    details = client.get_job_info(name)
    while not details.status.is_terminal() and time.monotonic() < until:
        if time.monotonic() - asked > ASK_SECONDS:
            asked = time.monotonic()
            if details.status.value == "PENDING" or not _ask(client, job):
                break
        time.sleep(0.5)
        details = client.get_job_info(name)
    if not details.status.is_terminal():
        client.stop_job(name)
        details = _ended(client, name, LOST_SECONDS)
    return details


def _ask(client: JobSubmissionClient, job: Job) -> bool:
    """Ask a run to save and end, from here where its folder is seen, else by a small job on the
    cluster; False where the run has not begun.

    Raises:
        ClusterError: the small job could not ask.
    """
    if folders.seen_from_here(job.run):
        return folders.ask_to_stop(Path(job.run))
    name = f"dghelper-{uuid.uuid4().hex[:12]}"
    command = shlex.join(["python", "-m", folders.__name__, job.run])
    with job.environment() as env:
        client.submit_job(entrypoint=command, runtime_env=env, submission_id=name)
    try:
        details = _ended(client, name, JOB_SECONDS)
    except ClusterError:
        client.stop_job(name)
        raise
    client.delete_job(name)
    if details.driver_exit_code not in (0, folders.NOT_BEGUN):
        raise ClusterError(f"{job.run}: `{command}` failed on the cluster: {details.message}")
    return details.driver_exit_code == 0


def _ended(client: JobSubmissionClient, name: str, seconds: float) -> JobDetails:
    """How a job ended that is about to end.

    Raises:
        ClusterError: it has not within so many seconds.
    """
    until = time.monotonic() + seconds
    while not (details := client.get_job_info(name)).status.is_terminal():
        if time.monotonic() > until:
            raise ClusterError(
                f"{name}: the cluster did not end it within {seconds:g} s: `ray job logs {name}` "
                "may tell why."
            )
        time.sleep(0.25)
    return details
