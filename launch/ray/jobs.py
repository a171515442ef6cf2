"""Runs as jobs of a Ray cluster, through its Jobs API: submit, find, resume.

A job's metadata says how it was submitted, so any machine that reaches the cluster can follow it,
stop it and go on. A run is named dg-NAME-XXXXXX, as is its folder; its jobs add -1, -2, ...
"""

from __future__ import annotations

import difflib
import re
import secrets
import shlex
import shutil
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import distgram_launch
import tomli_w
from distgram_launch import folders
from distgram_launch.ray.client import check_room
from pydantic import BaseModel, ValidationError

import distgram
from distgram.config.errors import sentence
from distgram.config.schema import Config, RunTable, check, copy_files, dump, relocated
from distgram.errors import ClusterError, ConfigError, StorageError

if TYPE_CHECKING:
    from distgram_launch.ray.cluster import Request
    from ray.dashboard.modules.job.pydantic_models import JobDetails
    from ray.job_submission import JobSubmissionClient

ID = re.compile(r"(dg-([a-z0-9_-]+)-[0-9a-f]{6})(?:-(\d+))?")
PACKAGES = (distgram, distgram_launch)
_KEY = "distgram"


class Job(BaseModel, frozen=True):
    """What a job remembers of how it was submitted.

    Args:
        run: the run folder, as the cluster sees it. config: the name of the config.
        limits: the budgets of the run, None where they are not known. layout: options of
            `solve --ray`, as workers = "2".
        package: whether distgram itself is uploaded. env: environment variables of the job.
        tensorboard: whether events are written for TensorBoard.
    """

    run: str
    config: str
    limits: RunTable | None
    layout: dict[str, str | int | float]
    package: bool = False
    env: dict[str, str] = {}
    tensorboard: bool = False

    @property
    def run_id(self) -> str:
        """dg-NAME-XXXXXX."""
        return self.run.rpartition("/")[2]

    def request(self) -> Request:
        """What the run asks of the cluster.

        Raises:
            ClusterError: options of the workers that do not fit each other.
        """
        from distgram_launch.ray.cluster import request

        return request(**self.layout)  # type: ignore[arg-type]

    @contextmanager
    def environment(self, config: Config | None = None) -> Iterator[dict[str, Any]]:
        """Ray's runtime environment of a job: the config and the files that it names, distgram
        where that is asked for, and nothing else of this machine."""
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            if config is not None:
                names = copy_files(config, folder)
                text = tomli_w.dumps(dump(relocated(config, {name: name for name in names})))
                (folder / f"{self.config}.toml").write_text(text, encoding="utf-8")
            for package in PACKAGES if self.package else ():
                ignore = shutil.ignore_patterns("__pycache__")
                (source,) = package.__path__  # launch/ of a checkout arrives under its own name
                shutil.copytree(source, folder / package.__name__, ignore=ignore)
            uploaded = {"working_dir": made} if any(folder.iterdir()) else {}
            yield {"env_vars": self.env} | uploaded


def jobs(client: JobSubmissionClient) -> dict[str, tuple[JobDetails, Job]]:
    """The jobs of distgram that the cluster remembers, the oldest first."""
    found = [d for d in client.list_jobs() if d.submission_id and _KEY in (d.metadata or {})]
    found.sort(key=lambda details: details.start_time or 0)
    return {str(details.submission_id): (details, _remembered(details)) for details in found}


def _remembered(details: JobDetails) -> Job:
    """What is in the metadata, and the environment, which is not: a browser shows metadata."""
    job = Job.model_validate_json((details.metadata or {})[_KEY])
    return job.model_copy(update={"env": (details.runtime_env or {}).get("env_vars", {})})


def find(client: JobSubmissionClient, given: str) -> tuple[str, JobDetails, Job]:
    """A job by its id, or the newest job of a run by the run's id.

    Raises:
        ClusterError: there is none; the nearest id, or where to look.
    """
    there = jobs(client)
    named = [name for name, (_, job) in there.items() if given in (name, job.run_id)]
    if not named:
        close = difflib.get_close_matches(given, there, n=1, cutoff=0.0)
        hint = f"did you mean {close[0]}?" if close else "it knows no job of distgram."
        raise ClusterError(f"{given}: {client.get_address()} knows no such job: {hint}")
    return (named[-1], *there[named[-1]])


def found_in(storage: str, given: str, package: bool, env: dict[str, str]) -> Job:
    """A run that the cluster does not know, by its folder on the storage.

    Raises:
        ClusterError: `given` is no id; this machine sees the runs there, and it is not among them.
    """
    matched = ID.fullmatch(given)
    if matched is None:
        raise ClusterError(f"{given}: expected the id of a run, dg-NAME-XXXXXX.")
    there = storage_folder(storage)
    run = f"{there}/{matched[1]}"
    try:
        limits = check(tomllib.loads((folders.found(run) / folders.CONFIG).read_text())).run
    except (ClusterError, StorageError, FileNotFoundError):
        if runs := sorted(p.name for p in Path(there).glob("dg-*")):
            raise ClusterError(f"{run}: not found: there are {', '.join(runs)}.") from None
        limits = None  # only the cluster sees it, and the job will tell whether it is there
    return Job(run=run, config=matched[2], limits=limits, layout={}, package=package, env=env)


def changed(limits: RunTable | None, overrides: Sequence[str]) -> RunTable | None:
    """The budgets of a run as a resume changes them.

    Raises:
        ConfigError: a key that is no budget, or a value that is not valid.
    """
    from distgram_launch.local import BUDGETS  # not at the top: it imports jax

    tree = limits.model_dump() if limits else {}
    for text in overrides:
        key, _, value = text.partition("=")
        if key.strip() not in BUDGETS:
            raise ConfigError(
                f"--set {key}: a resume may change {', '.join(BUDGETS)} only; for another {key} "
                "submit a new run."
            )
        try:
            tree[key.strip().removeprefix("run.")] = tomllib.loads(f"v = {value}")["v"]
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"--set {text}: expected a number.") from error
    try:
        found = RunTable.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(f"run.{sentence(error, RunTable)}") from error
    return found if limits else None


def storage_folder(storage: str) -> str:
    """A storage path without its last slash.

    Raises:
        ClusterError: neither an absolute path nor gs://.
    """
    if re.fullmatch(r"gs://[^/]+.*|/.*", storage):
        return storage.rstrip("/")
    hint = "gs://" + storage.partition("://")[2] if "://" in storage else Path(storage).absolute()
    raise ClusterError(
        f"--storage {storage!r}: expected an absolute path that every host of the cluster sees, "
        f"or gs://BUCKET/PATH; perhaps {str(hint)!r}."
    )


def new_run(storage: str, config: str) -> str:
    """The folder of a new run on a storage path."""
    name = re.sub(r"[^a-z0-9_]+", "-", config.lower()).strip("-") or "run"
    return f"{storage_folder(storage)}/dg-{name}-{secrets.token_hex(3)}"


def submit(client: JobSubmissionClient, job: Job, config: Config) -> str:
    """Submit the first job of a run; its id.

    Raises:
        ClusterError: the cluster has no room for the workers.
    """
    check_room(client, job.request())
    with job.environment(config) as env:
        return _submit(client, job, env, "solve", f"{job.config}.toml", "--out", job.run)


def resume(client: JobSubmissionClient, job: Job, overrides: Sequence[str]) -> str:
    """Submit the next job of a run; its id.

    Raises:
        ClusterError: a job of the run has not ended; the cluster has no room for the workers.
    """
    check_room(client, job.request())
    for name, (details, other) in jobs(client).items():
        if other.run == job.run and not details.status.is_terminal():
            raise ClusterError(
                f"{name} has not ended ({details.status}): `distgram watch {name}` follows it, "
                f"`distgram stop {name}` ends it."
            )
    sets = [s for text in overrides for s in ("--set", text)]
    with job.environment() as env:
        # the job's host may have no notes of whose program the run holds: who submits it says so
        return _submit(client, job, env, "resume", job.run, "--trust", *sets)


def _submit(client: JobSubmissionClient, job: Job, env: dict[str, Any], *command: str) -> str:
    earlier = [ID.fullmatch(name) for name, (_, j) in jobs(client).items() if j.run == job.run]
    number = max((int(m[3] or 0) for m in earlier if m), default=0) + 1
    options = [f"--{key.replace('_', '-')}={value}" for key, value in job.layout.items()]
    options += ["--tensorboard"] if job.tensorboard else []
    words = ["python", "-m", "distgram_launch.cli", *command, "--ray", *options, "--rows"]
    return client.submit_job(
        entrypoint=shlex.join(words),
        submission_id=f"{job.run_id}-{number}",
        runtime_env=env,
        metadata={_KEY: job.model_dump_json(exclude={"env"})},
    )
