"""The state of a run: all that a resume needs."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np
from jax import ShapeDtypeStruct
from jax.sharding import NamedSharding
from jaxtyping import Array, Float, Int

from distgram.assemble import Assembled, assemble, draw_points, place_points
from distgram.mesh import REPLICATED, pad, replicate, shard, unpad
from distgram.residual import Points
from distgram.step import initial_state


class RunState(NamedTuple):
    """All that a resume needs: parameters, the method's state, key, points, step, the best
    parameters met: their loss, and when; and the parameters of the time slabs that are solved. A
    method may go uphill; the solution is the best."""

    theta: Float[Array, " p"]
    method_state: Any
    key: Array
    points: tuple[Points, ...]
    step: Int[Array, ""]
    best_theta: Float[Array, " p"]
    best_loss: Float[Array, ""]
    best_step: Int[Array, ""]
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
        frozen=tuple(replicate(mesh, run.frozen)),
    )


def next_slab(run: Assembled, state: RunState) -> tuple[Assembled, RunState]:
    """The time slab after one that has ended, beginning with the best that was found of it."""
    frozen = (*run.frozen, np.asarray(state.best_theta))
    run = assemble(run.config, run.residual.mesh, frozen)
    return run, start(run, int(state.step))


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


def settled(run: Assembled, state: RunState, loss: float) -> RunState:
    """The state with its parameters as the best: they reach a target that the loss knows not of."""
    best_loss = replicate(run.residual.mesh, np.asarray(loss))
    return state._replace(best_theta=state.theta, best_loss=best_loss, best_step=state.step)


def stored(run: Assembled, state: RunState, lengths: list[int], solved: int = 0) -> dict[str, Any]:
    """How a checkpoint is to be read: laid out as `state` is.

    Args:
        solved: the stored number of slabs that are solved.
        lengths: the stored number of points of every term. Points that were padded for another
            mesh are read whole on every device; `relaid` then lays them out.
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


def relaid(run: Assembled, start: RunState, state: RunState) -> RunState:
    """The state with its points laid out as those of `start`: the same points, other padding."""
    mesh = run.residual.mesh
    multiple = mesh.size * run.residual.blocks

    def lay(like: Points, points: Points) -> Points:
        if len(like.x) == len(points.x):
            return points
        bare = unpad(np.asarray(points.x), np.asarray(points.sqrt_weight))
        x, sqrt_weight = pad(*bare, multiple)
        return Points(shard(mesh, x), shard(mesh, sqrt_weight))

    pairs = zip(start.points, state.points, strict=True)
    return state._replace(points=tuple(lay(a, b) for a, b in pairs))
