"""A run on the devices of this process: checked whole before its folder is made, then solved."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any

import jax
from jax.sharding import Mesh

from distgram.config import trust
from distgram.config.build import setup, with_files_beside
from distgram.config.saved import own_files
from distgram.config.schema import Config, copy_files, dump, files, load, problem_copy, relocated
from distgram.errors import CheckpointError, ConfigError, ProblemError, RunError, UserError
from distgram.linalg.mesh import make_mesh
from distgram.linalg.precision import set_precision
from distgram.run.ends import Result
from distgram.run.hooks import Listener
from distgram.run.solve import run
from distgram.run.stage import Stage, build_stage
from distgram.store import checkpoint, folder, storage
from distgram.store.folder import Force
from distgram.store.read import flat
from distgram.store.storage import Folder

# What a resume may change: when the run ends, and nothing of the way there.
BUDGETS = (
    "run.tolerance",
    "run.steps",
    "run.time_budget_s",
    "run.target_l2",
    "run.target_residual",
)

Watch = Callable[[dict[str, Any]], None]
Say = Callable[[str], None]


def devices_here(devices: int | None) -> Mesh:
    """A mesh over the devices of this process, all of them by default; jax set to float64.

    Raises:
        ConfigError: more devices than there are.
    """
    set_precision()
    try:
        return make_mesh(devices)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def prepare(config: Config, devices: int | None) -> Stage:
    """Everything a run needs, built and checked; nothing is written.

    Raises:
        what `build_stage` and drawing raise; ConfigError: more devices than there are.
    """
    mesh = devices_here(devices)
    stage = build_stage(setup(config), mesh)
    stage.check_draws()
    return stage


def start(
    config: Config,
    run_dir: Folder,
    devices: int | None,
    force: Force,
    watch: Watch,
    say: Say,
) -> Result:
    """Solve a config in a new run folder."""
    folder.check_new(run_dir, force)
    config, mesh = checked(config, devices)
    with new_folder(config, config, run_dir, force) as own:
        return _solve(own, config, mesh, run_dir, False, watch, say)


def checked(config: Config, devices: int | None) -> tuple[Config, Mesh]:
    """A new run, built once for its errors: its config with all files that its problem needs, of
    which the copies are tried as well, and its mesh.

    Raises:
        as `prepare`; ProblemError: the copies lack a file.
    """
    mesh = prepare(config, devices).mesh
    config = with_files_beside(config)
    if config.problem.file is not None:
        _check_copies(config, devices)
    return config, mesh


@contextmanager
def new_folder(config: Config, written: Config, run_dir: Folder, force: Force) -> Iterator[Config]:
    """Make the folder of a new run, with copies of the files that `schema.files` names. Inside, no
    other job uses it. The config of the copies, which are what runs, from the first step on.

    Args:
        config: of the user's files. written: what config.toml is to hold.

    Raises:
        as `folder.new`.
    """
    place = storage.of(run_dir)
    texts = {name: storage.folder(source).read_bytes() for name, source in files(config).items()}
    with folder.new(run_dir, dump(written), force):
        for name, text in texts.items():
            place.make((run_dir / name).parent)
            place.write(run_dir / name, text)
        own = relocated(config, {name: str(run_dir / name) for name in texts})
        program = own.problem.file
        if program is not None:
            trust.remember(run_dir, program)
        try:
            yield own
        finally:
            if program is not None:  # it may have written beside itself
                trust.remember(run_dir, program)


def _check_copies(config: Config, devices: int | None) -> None:
    """Check that the copies of a problem's files are enough, before a folder is made or replaced.

    Raises:
        ProblemError: they are not.
    """
    with tempfile.TemporaryDirectory(prefix="distgram-copies-") as made:
        copies = copy_files(config, Path(made))
        try:
            prepare(relocated(config, {n: str(path) for n, path in copies.items()}), devices)
        except UserError as error:
            raise ProblemError(
                f"{error} A run executes its own copy of {config.problem.file}: expected "
                "problem.files to name what that needs of its folder."
            ) from error


@contextmanager
def old_folder(run_dir: Folder) -> Iterator[None]:
    """Inside, no other job uses a run folder: what is read of it from here on is what it holds.

    Raises:
        RunError: no run folder. StorageError: another job is going on in it.
    """
    storage.of(run_dir).reach(run_dir)
    storage.check_path(run_dir)
    if not (run_dir / folder.CONFIG).is_file():
        raise RunError(
            f"{run_dir}: is no run folder (no config.toml in it): expected one that "
            "`distgram solve --out` has made."
        )
    with folder.sole_job(run_dir):
        yield


def resumed_config(
    run_dir: Folder, overrides: Sequence[str], trusted: bool = False
) -> tuple[Config, int]:
    """The config with which a run goes on, and the number of devices it was on.

    Args:
        trusted: whether a problem file may be executed that is not this user's own.

    Raises:
        TrustError: there is such a file, and `trusted` is not given.
        CheckpointError: no whole checkpoint, or none of a run. ConfigError: an override that is no
        budget, or a config or problem file that is not the one of the checkpoint.
    """
    path = run_dir / folder.CONFIG
    keys = [text.partition("=")[0].strip() for text in overrides]
    for key in keys:
        if key not in BUDGETS:
            raise ConfigError(
                f"--set {key}: a resume may change {', '.join(BUDGETS)} only; for another {key} "
                f"start a new run: `distgram solve {path} --set {key}=VALUE --out NEW_FOLDER`."
            )
    meta = checkpoint.read_meta(run_dir / folder.CHECKPOINTS)
    if not {"config", "devices"} <= set(meta):
        raise CheckpointError(
            f"{run_dir}: expected the state of a run; Solution.save keeps the solution only."
        )
    now, then = flat(dump(load(path))), flat(meta["config"])
    for key in (*now, *(k for k in then if k not in now)):
        if key.endswith(".file") and key in now and key in then:
            continue  # it may have moved: what it holds is compared below
        if key not in keys and now.get(key) != then.get(key):
            remedy = f"give --set {key}=VALUE" if key in BUDGETS else "start a new run for another"
            raise ConfigError(
                f"{path}: {key} is {_said(now, key)}, but {_said(then, key)} in the newest "
                f"checkpoint: put it back, or {remedy}."
            )
    config = load(path, overrides)
    for name, file in files(config).items():
        mine, copy = storage.folder(file), run_dir / name
        if mine.is_file() and copy.is_file() and mine.read_bytes() != copy.read_bytes():
            raise ConfigError(
                f"{_key_of(name, config)} = {file!r} has changed since the run began: put it back "
                f"(the run keeps a copy in {copy}), or start a new run."
            )
    own = own_files(config, run_dir)
    if own.problem.file is not None:
        trust.check(run_dir, own.problem.file, trusted)
    return config, meta["devices"]


def _key_of(name: str, config: Config) -> str:
    """The key that names a file, by the name of its copy."""
    if not name.startswith(f"{folder.PROBLEM}/"):
        return f"data.{PurePath(name).stem[5:]}.file"
    return "problem.file" if name == problem_copy(config) else "problem.files"


def resume(
    config: Config, run_dir: Folder, devices: int | None, saved: int, watch: Watch, say: Say
) -> Result:
    """Go on from the newest whole checkpoint.

    Args:
        devices: how many to use; None: the `saved` number of the checkpoint, or all where there
            are fewer.
    """
    set_precision()
    own = own_files(config, run_dir)
    mesh = prepare(own, devices or min(saved, jax.device_count())).mesh
    folder.clear_stop(run_dir)
    return _solve(own, config, mesh, run_dir, True, watch, say)


def _solve(
    own: Config,
    config: Config,
    mesh: Mesh,
    run_dir: Folder,
    resume: bool,
    watch: Watch,
    say: Say,
) -> Result:
    """Run the config of a folder's own files; what is told of it is the user's config."""
    listener = Listener(row=watch, say=say)
    try:
        solution = run(
            *(setup(own), mesh),
            run_dir=run_dir,
            resume=resume,
            described=dump(config),
            listener=listener,
        )
    except BrokenPipeError:
        raise
    except OSError as error:
        raise RunError(
            f"{run_dir}: the run could not be recorded ({error.strerror or error}): make room or "
            f"mend the storage, then `distgram resume {run_dir}` goes on."
        ) from error
    assert solution.result is not None
    return solution.result


def _said(values: dict[str, Any], key: str) -> str:
    return repr(values[key]) if key in values else "not set"
