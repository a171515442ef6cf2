"""`distgram.solve`: objects in, a solution out."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from flax import nnx
from jax.sharding import Mesh

from distgram.errors import RunError
from distgram.linalg.factorization import Factorization
from distgram.linalg.mesh import make_mesh
from distgram.linalg.precision import set_precision
from distgram.net.network import Network
from distgram.net.unknown import Unknown
from distgram.pde.problem import Problem
from distgram.points.adaptive.placement import Placement
from distgram.points.draw import Draw
from distgram.rules.rule import Method
from distgram.run import automatic
from distgram.run.hooks import Listener
from distgram.run.progress import ProgressLine
from distgram.run.setup import Limits, Memory, Pose, Schedule, Setup, Slabs, describe
from distgram.run.solution import Solution
from distgram.run.solve import run
from distgram.run.stage import build_stage
from distgram.store import folder, storage
from distgram.store.read import flat


def solve(
    problem: Problem | Pose,
    *,
    tolerance: float | None = None,
    network: Network | nnx.Module | None = None,
    points: Mapping[str, int | Draw] | None = None,
    rule: Method | None = None,
    factorization: Factorization | None = None,
    placement: Placement | None = None,
    slabs: Slabs | None = None,
    unknown: Mapping[str, Unknown] | None = None,
    hard_constraint: bool = False,
    balance: bool | None = None,
    steps: int | None = None,
    limits: Limits = Setup.limits,
    schedule: Schedule = Setup.schedule,
    memory: Memory = Setup.memory,
    seed: int = Setup.seed,
    run_dir: str | os.PathLike[str] | None = None,
    resume: bool = False,
    force: bool = False,
    mesh: Mesh | None = None,
    progress: bool = True,
) -> Solution:
    """Solve a problem. Given nothing else, network, points, rule, slabs and weights are chosen for
    it (`distgram.run.automatic`); given any of network, points, rule, placement, slabs, unknown,
    hard_constraint or balance, the others have the fixed defaults of `Setup`.

        square = dg.Box((0, 0), (1, 1))
        problem = dg.Problem(square, {
            "interior": dg.Term(lambda u: dg.laplacian(u), -1.0, square),
            "edge": dg.Dirichlet(0.0, square.boundary),
        })
        u = dg.solve(problem, network=dg.MLP([20, 20]), steps=100)
        u([0.5, 0.5])

    Args:
        problem, network, points, rule, factorization, placement, slabs, unknown, hard_constraint,
            limits, schedule, memory, seed: of `Setup`.
        tolerance: the estimate of the relative L2 error to end at, in place of `limits.tolerance`.
        steps: most steps, in place of `limits.steps`.
        run_dir: a folder, also gs://, for rows, checkpoints and solution; None: all in memory.
        resume: go on from the newest whole checkpoint in run_dir, bitwise as if the run had not
            been interrupted; only limits may differ. force: replace an older run in run_dir.
        mesh: the devices, of `make_mesh`; None: all of them.
        progress: whether a line in the terminal, or in the notebook, shows how the run goes.

    Raises:
        UserError: of what is wrong, before any computing.
    """
    set_precision()
    given: dict[str, Any] = {
        "network": network,
        "points": points,
        "rule": rule,
        "placement": placement,
        "slabs": slabs,
        "unknown": unknown,
        "balance": balance,
    }
    given = {key: value for key, value in given.items() if value is not None}
    if not given and not hard_constraint and isinstance(problem, Problem):
        given = automatic.choices(problem)
    setup = Setup(
        problem,
        factorization=factorization,
        hard_constraint=hard_constraint,
        limits=limits,
        schedule=schedule,
        memory=memory,
        seed=seed,
        **given,
    )
    for name, limit in (("steps", steps), ("tolerance", tolerance)):
        if limit is not None:
            setup = replace(setup, limits=replace(setup.limits, **{name: limit}))
    mesh = mesh or make_mesh()
    described, place, alone = describe(setup), None, nullcontext()
    if run_dir is not None:
        place = storage.absolute(storage.folder(run_dir))
        if resume:
            _check_same(place, described)
            alone = folder.sole_job(place)
        else:
            # Points are drawn here once, and drawn again by the run: a count that a region cannot
            # give is refused before the folder is made, and nobody has to remove a folder.
            build_stage(setup, mesh).check_draws()
            alone = folder.new(place, described, force)
    elif resume:
        raise RunError("solve(resume=True): expected run_dir, the folder of the run to go on with.")
    with folder.by_first_process(alone), ProgressLine(setup.limits, progress) as shown:
        if place is not None and resume:
            _check_same(place, described)  # again: another job may have gone on meanwhile
            folder.clear_stop(place)
        listener = Listener(row=shown.row, say=shown.say)
        return run(
            setup, mesh, run_dir=place, resume=resume, described=described, listener=listener
        )


def _check_same(run_dir: storage.Folder, described: dict[str, Any]) -> None:
    """Check that a run folder is that of the same setup, but for its limits.

    Raises:
        RunError: it is none, or of another setup: with the first key that differs.
    """
    path = run_dir / folder.CONFIG
    if not path.is_file():
        raise RunError(f"solve(run_dir={str(run_dir)!r}, resume=True): no run is there to go on.")
    try:
        before, now = flat(tomllib.loads(path.read_text(encoding="utf-8"))), flat(described)
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path}: not valid TOML: {error}.") from error
    limits = {f"run.{name}" for name in Limits.__dataclass_fields__}
    for key in sorted(set(before) | set(now)):
        if key not in limits and before.get(key) != now.get(key):
            raise RunError(
                f"solve(run_dir={str(run_dir)!r}, resume=True): {key} is {now.get(key)!r}, and was "
                f"{before.get(key)!r}: expected the same setup but for its limits."
            )
