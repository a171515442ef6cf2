"""The state of a run: all that a resume needs."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from distgram.assemble import Assembled, draw_points, place_points
from distgram.mesh import replicate
from distgram.residual import Points
from distgram.step import initial_state


class RunState(NamedTuple):
    """All that a resume needs: parameters, the method's state, key, points, step, and the best
    parameters met: their loss, and when. A method may go uphill; the solution is the best."""

    theta: Float[Array, " p"]
    method_state: Any
    key: Array
    points: tuple[Points, ...]
    step: Int[Array, ""]
    best_theta: Float[Array, " p"]
    best_loss: Float[Array, ""]
    best_step: Int[Array, ""]


def start(run: Assembled) -> RunState:
    """The state before the first step, laid out on the mesh."""
    points = place_points(run, draw_points(run))
    mesh = run.residual.mesh
    theta = replicate(mesh, run.model.theta0)
    return RunState(
        theta=theta,
        method_state=replicate(mesh, initial_state(run, theta, points)),
        key=replicate(mesh, jax.random.key_data(jax.random.key(run.config.run.seed))),
        points=points,
        step=replicate(mesh, np.asarray(0)),
        best_theta=theta,
        best_loss=replicate(mesh, np.asarray(np.inf)),
        best_step=replicate(mesh, np.asarray(0)),
    )


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
