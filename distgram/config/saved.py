"""`distgram.load`: from a run folder to its Solution."""

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

# Names of two steps for `load(step=...)`, where a number is that of a checkpoint.
INITIAL, FINAL = "initial", "final"


def load(
    run_dir: str | os.PathLike[str],
    step: int | str = FINAL,
    *,
    problem: Problem | Pose | None = None,
    network: Network | nnx.Module | None = None,
    trust: bool = False,
) -> Solution:
    """The solution that a run folder holds, on this machine's devices. `load` sets jax to float64.

    If the folder holds a problem file, `load` executes it as a program.

    Args:
        step: 'final' takes the best parameters met up to the newest whole checkpoint, 'initial'
            the parameters with which the run began, a number those of the checkpoint of that step.
        problem: what the run solved, needed if it was started from Python.
        network: the network of the run, needed if it was started from Python and is not an MLP.
        trust: whether to execute a problem file that was not written by a solve of this user on
            this machine.

    Raises:
        TrustError: the folder holds such a file, and `trust` is not given.
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
    """The config of a run folder; its paths point to the copies that the folder holds.

    Raises:
        ConfigError: no config.toml in it.
    """
    return own_files(schema.load(run_dir / folder.CONFIG), run_dir)


def own_files(config: Config, run_dir: Folder) -> Config:
    """The config of the copies that a run folder holds, which are what runs."""
    copies = {name: run_dir / name for name in schema.files(config)}
    return schema.relocated(config, {n: str(p) for n, p in copies.items() if p.is_file()})


def read_tree(run_dir: Folder) -> dict[str, Any]:
    """The tables of a run folder's config; their paths point to the copies that the folder holds.

    Raises:
        ConfigError: config.toml is missing, or is not TOML.
    """
    tree = schema.read(run_dir / folder.CONFIG)
    return tree if schema.from_python(tree) else schema.dump(read_config(run_dir))


def setup_of(
    tree: dict[str, Any],
    where: str,
    problem: Problem | Pose | None = None,
    network: Network | nnx.Module | None = None,
) -> Setup:
    """The setup that the tables of a run folder describe.

    Args:
        where: the folder, for errors. problem, network: objects that the tables of a run started
            from Python cannot describe.

    Raises:
        RunError: `problem` or `network` is needed. ConfigError: the tables are not those of a run.
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
    """The edges of the time slabs that the checkpoint of a step records; () if it records none, and
    those of the setup hold."""
    if step == INITIAL:
        return ()
    at = newest(checkpoints) if step == FINAL else of_step(checkpoints, int(step))
    return tuple(meta_of(at).get("edges", ()))


def _parameters(checkpoints: Folder, step: int | str) -> tuple[np.ndarray, ...]:
    """The parameters of every time slab up to a step; () for 'initial'."""
    if step == INITIAL:
        return ()
    if step == FINAL:
        return tuple(read_thetas(newest(checkpoints)))
    if not STEP.fullmatch(str(step)):
        raise SolutionError(f"step {step!r}: expected {INITIAL!r}, {FINAL!r} or a number.")
    return tuple(read_thetas(of_step(checkpoints, int(step)), "theta"))
