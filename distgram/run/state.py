"""The state of a run: all that a resume needs."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np
from jax import ShapeDtypeStruct
from jax.sharding import NamedSharding
from jaxtyping import Array, Float, Int

from distgram.linalg.mesh import REPLICATED, pad, replicate, shard, unpad, whole
from distgram.linalg.rows import Points
from distgram.points.alarm import Alarm, heard, quiet
from distgram.run.assemble import Assembled, assemble, draw_points, place_points
from distgram.run.step import initial_state
from distgram.store.checkpoint import Checkpoints


class RunState(NamedTuple):
    """All that a resume needs: parameters, the method's state, key, points, step, and the best
    parameters met: their loss, and when. A method may go uphill; the solution is the best. Points
    may move: best_loss is on the present ones. stage: how often they have grown. frozen: the
    parameters of the time slabs that are solved."""

    theta: Float[Array, " p"]
    method_state: Any
    key: Array
    points: tuple[Points, ...]
    step: Int[Array, ""]
    best_theta: Float[Array, " p"]
    best_loss: Float[Array, ""]
    best_step: Int[Array, ""]
    stage: Int[Array, ""]
    alarm: Alarm
    frozen: tuple[Float[Array, " p"], ...]


def start(run: Assembled, step: int = 0) -> RunState:
    """The state before the first step of the run, or of a later slab, laid out on the mesh."""
    points = place_points(run, draw_points(run))
    mesh, time = run.residual.mesh, run.config.time
    warm = time is not None and time.warm_start and run.frozen
    theta = replicate(mesh, run.frozen[-1] if warm else run.model.theta0)
    return RunState(
        theta=theta,
        method_state=replicate(mesh, initial_state(run, theta, points)),
        key=replicate(mesh, jax.random.key_data(jax.random.key(run.config.run.seed))),
        points=points,
        step=replicate(mesh, np.asarray(step)),
        best_theta=theta,
        best_loss=replicate(mesh, np.asarray(np.inf)),
        best_step=replicate(mesh, np.asarray(step)),
        stage=replicate(mesh, np.asarray(run.stage)),
        alarm=replicate(mesh, quiet(len(run.terms))),
        frozen=tuple(replicate(mesh, run.frozen)),
    )


def next_slab(run: Assembled, state: RunState) -> tuple[Assembled, RunState]:
    """The time slab after one that has ended, beginning with the best that was found of it."""
    frozen = (*run.frozen, np.asarray(state.best_theta))
    run = assemble(run.given, run.residual.mesh, frozen=frozen)
    return run, start(run, int(state.step))


def key_at(state: RunState) -> list[int]:
    """The key of the run folded with the step: what is random at one step begins with it."""
    return [*np.asarray(state.key).tolist(), int(state.step)]


def after(
    run: Assembled, state: RunState, theta: Array, method_state: Any, loss: float
) -> RunState:
    """The state after a step; the best is replaced by what is better by `min_decrease`."""
    mesh = run.residual.mesh
    step = replicate(mesh, np.asarray(int(state.step) + 1))
    better = loss < (1.0 - run.config.run.min_decrease) * float(state.best_loss)
    return state._replace(
        theta=theta,
        method_state=method_state,
        step=step,
        best_theta=theta if better else state.best_theta,
        best_loss=replicate(mesh, np.asarray(loss)) if better else state.best_loss,
        best_step=step if better else state.best_step,
    )


def listening(run: Assembled, state: RunState, row: dict[str, Any]) -> RunState:
    """The state once the alarm has heard a row."""
    return state._replace(alarm=replicate(run.residual.mesh, heard(state.alarm, row)))


def settled(run: Assembled, state: RunState, loss: float) -> RunState:
    """The state with its parameters as the best: they reach a target that the loss knows not of."""
    best_loss = replicate(run.residual.mesh, np.asarray(loss))
    return state._replace(best_theta=state.theta, best_loss=best_loss, best_step=state.step)


def stored(run: Assembled, state: RunState, lengths: list[int], solved: int = 0) -> dict[str, Any]:
    """How a checkpoint is to be read: laid out as `state` is.

    Args:
        lengths: the stored number of points of every term. Points that were padded for another
            mesh are read whole on every device; `relaid` then lays them out.
        solved: the stored number of slabs that are solved.
    """

    def leaf(x: Array, n: int | None = None) -> ShapeDtypeStruct:
        if n is None or n == len(x):
            return ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)
        whole = NamedSharding(run.residual.mesh, REPLICATED)
        return ShapeDtypeStruct((n, *x.shape[1:]), x.dtype, sharding=whole)

    points = tuple(
        Points(leaf(p.x, n), leaf(p.sqrt_weight, n))  # type: ignore[arg-type]
        for p, n in zip(state.points, lengths, strict=True)
    )
    rest = state._replace(points=(), frozen=(state.theta,) * solved)
    rest = jax.tree.map(leaf, rest)
    return rest._replace(points=points)._asdict()


def bare_points(run: Assembled, state: RunState) -> dict[str, np.ndarray]:
    """The points of every term without padding, (n, d), on every process; of all time slabs so far,
    but where points move of the present one."""
    points = whole(run.residual.mesh, state.points)
    d = run.problem.dim  # what was measured stands beside the coordinates
    slabs = [[unpad(*p)[0][:, :d] for p in points]]
    if run.placement is None:
        slabs += [[x for x, _ in draw_points(run, part.problem)] for part in run.parts[:-1]]
    each = zip(run.terms, zip(*slabs, strict=True), strict=True)
    return {term.name: np.concatenate(parts) for term, parts in each}


def saved_meta(run: Assembled, state: RunState) -> dict[str, Any]:
    """What a checkpoint must say for `restored` to read its arrays."""
    lengths = [len(p.x) for p in state.points]
    return {"points": lengths, "stage": run.stage, "solved": len(run.frozen)}


def restored(
    run: Assembled, checkpoints: Checkpoints
) -> tuple[Assembled, RunState, int, dict[str, Any]]:
    """The run and the state of the newest whole checkpoint, its step and meta.

    The run is assembled again for as many points as there were and for its time slab; the points
    are laid out for this mesh: the same points, other padding.
    """
    first = start(run)

    def like(meta: dict[str, Any]) -> dict[str, Any]:
        nonlocal run, first
        if meta["stage"] != run.stage:
            run = assemble(run.given, run.residual.mesh, meta["stage"])
            first = start(run)
        return stored(run, first, meta["points"], meta["solved"])

    saved, arrays, meta = checkpoints.restore(like)
    state = relaid(run, first, RunState(**arrays))
    if state.frozen:
        frozen = [np.asarray(theta) for theta in state.frozen]
        run = assemble(run.given, run.residual.mesh, run.stage, frozen)
    return run, state, saved, meta


def relaid(run: Assembled, start: RunState, state: RunState) -> RunState:
    """The state with its points laid out as those of `start`: the same points, other padding."""
    mesh = run.residual.mesh
    multiple = mesh.size * run.residual.blocks

    def lay(like: Points, points: Points) -> Points:
        if len(like.x) == len(points.x):
            return points
        bare = unpad(np.asarray(points.x), np.asarray(points.sqrt_weight))
        x, sqrt_weight = pad(*bare, multiple, len(like.x))
        return Points(shard(mesh, x), shard(mesh, sqrt_weight))

    pairs = zip(start.points, state.points, strict=True)
    return state._replace(points=tuple(lay(a, b) for a, b in pairs))
