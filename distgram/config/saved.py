"""A run folder as a solution."""

from __future__ import annotations

import os
from dataclasses import fields
from typing import Any

import numpy as np
from flax import nnx

from distgram.config import schema
from distgram.config.build import setup as build_setup
from distgram.config.schema import Config
from distgram.config.tables import build, table_of
from distgram.config.trust import check as check_trust
from distgram.errors import ConfigError, RunError, SolutionError
from distgram.linalg.precision import set_precision
from distgram.net.mlp import MLP
from distgram.net.network import Network
from distgram.net.unknown import Unknown
from distgram.pde.problem import Problem
from distgram.run.ends import Result
from distgram.run.setup import Pose, Setup, Slabs
from distgram.run.solution import Solution, solution_of
from distgram.run.stage import build_base, build_parts, first_edges
from distgram.store import folder, storage
from distgram.store.checkpoint import STEP, meta_of, newest, of_step, read_thetas
from distgram.store.record import read_record
from distgram.store.storage import Folder

# Of a run, beside the numbers of its checkpoints.
INITIAL, FINAL = "initial", "final"


def load(
    run_dir: str | os.PathLike[str],
    step: int | str = FINAL,
    *,
    problem: Problem | Pose | None = None,
    network: Network | nnx.Module | None = None,
    trust: bool = False,
) -> Solution:
    """The solution of a run folder, whatever devices it was found on. It sets jax to float64.

    Where the problem is a file of the folder, that file is a program, and is executed.

    Args:
        step: 'final', the best parameters met up to the newest whole checkpoint; 'initial', those
            the run began with; or a number, those of the checkpoint of that step.
        problem: of a run that was started from Python, whose folder does not hold it.
        network: likewise, where it is not an MLP.
        trust: whether to execute a problem file that no solve of this user's, on this machine, has
            written.

    Raises:
        TrustError: there is such a file, and `trust` is not given.
        ConfigError: no config.toml in it. CheckpointError: no whole checkpoint, or none of `step`.
        SolutionError: another word for a step. RunError: `problem` or `network` is needed.
    """
    set_precision()
    place = storage.absolute(storage.folder(run_dir))
    tree = read_tree(place)
    check_trust(place, None if schema.from_python(tree) else tree["problem"].get("file"), trust)
    setup = setup_of(tree, str(place), problem, network)
    whole = setup.with_values()
    thetas = _parameters(place / folder.CHECKPOINTS, step)
    edges = _edges(place / folder.CHECKPOINTS, step) or first_edges(setup, whole)
    parts = build_parts(setup, whole, build_base(setup, whole), thetas[:-1], edges)
    record = read_record(place)
    known = {f.name for f in fields(Result)}
    result = None
    if step == FINAL and record.result:
        found: dict[str, Any] = {"error_estimate": None}  # older versions made none
        found |= {k: v for k, v in record.result.items() if k in known}
        try:
            result = Result(**found)
        except TypeError as error:
            raise RunError(
                f"{place / folder.RESULT}: not the result of a run: {error}: move it away."
            ) from error
    return solution_of(setup, whole, parts, thetas, result, record, tree)


def read_config(run_dir: Folder) -> Config:
    """The config of a run folder, with the copies of files that the folder holds.

    Raises:
        ConfigError: no config.toml in it.
    """
    config = schema.load(run_dir / folder.CONFIG)
    copies = {name: run_dir / name for name in schema.files(config)}
    return schema.relocated(config, {n: str(p) for n, p in copies.items() if p.is_file()})


def read_tree(run_dir: Folder) -> dict[str, Any]:
    """The tables of a run folder's config, with the copies of files that the folder holds.

    Raises:
        ConfigError: no config.toml in it, or no TOML.
    """
    tree = schema.read(run_dir / folder.CONFIG)
    return tree if schema.from_python(tree) else schema.dump(read_config(run_dir))


def setup_of(
    tree: dict[str, Any],
    where: str,
    problem: Problem | Pose | None = None,
    network: Network | nnx.Module | None = None,
) -> Setup:
    """The setup that tables describe; where the run was started from Python, with the objects that
    only Python has.

    Args:
        where: what the tables are of, for errors.
    """
    if not schema.from_python(tree):
        return build_setup(schema.check(tree))
    if problem is None:
        raise RunError(
            f"{where}: this run was started from Python: expected problem=..., what it solved."
        )
    model, time = dict(tree.get("model", {})), tree.get("time")
    hard = model.pop("hard_constraint", False)
    if network is None and "network" in model:
        raise RunError(
            f"{where}: its network is a {model['network']}: expected network=..., such a network."
        )
    try:
        mlp = table_of(MLP)(**({} if "network" in model else model))
        unknown = {
            name: build(table_of(Unknown)(**table), f"unknown.{name}")
            for name, table in tree.get("unknown", {}).items()
        }
        slabs = None if time is None else build(table_of(Slabs)(**time), "time")
        seed = int(tree["run"]["seed"])
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{where}: not the tables that distgram.solve writes: {error}."
        ) from error
    return Setup(
        problem,
        network or build(mlp, "model"),
        slabs=slabs,
        unknown=unknown,
        hard_constraint=hard,
        seed=seed,
    )


def _edges(checkpoints: Folder, step: int | str) -> tuple[float, ...]:
    """The instants between which the time slabs lie at a step; none where that is the setup's."""
    if step == INITIAL:
        return ()
    at = newest(checkpoints) if step == FINAL else of_step(checkpoints, int(step))
    return tuple(meta_of(at).get("edges", ()))


def _parameters(checkpoints: Folder, step: int | str) -> tuple[np.ndarray, ...]:
    """The parameters of every time slab up to a step; none before the first."""
    if step == INITIAL:
        return ()
    if step == FINAL:
        return tuple(read_thetas(newest(checkpoints)))
    if not STEP.fullmatch(str(step)):
        raise SolutionError(f"step {step!r}: expected {INITIAL!r}, {FINAL!r} or a number.")
    return tuple(read_thetas(of_step(checkpoints, int(step)), "theta"))
