"""The state of a run between two steps, and how a checkpoint keeps it. `Session.save` adds what the
session knows: ends of the slabs, the step at which one began, seconds, rows recorded."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import ShapeDtypeStruct
from jax.sharding import NamedSharding
from jaxtyping import Array, Float

from distgram.errors import CheckpointError
from distgram.linalg.mesh import REPLICATED, pad, replicate, shard, unpad, whole
from distgram.linalg.rows import Objective, Points, Residual
from distgram.net.mlp import stretched
from distgram.points.alarm import Alarm, quiet
from distgram.rules.baselines.baseline import Baseline
from distgram.rules.rule import Rule
from distgram.run.estimate import Way, begin
from distgram.run.slabs import Guess
from distgram.run.stage import Stage, build_stage
from distgram.run.trace import check_state
from distgram.store.checkpoint import Checkpoints


class State(NamedTuple):
    """What a step changes: the parameters, the method's state, the points; the best parameters met,
    their loss and their step; the loss after the first step of the run; the loss last seen to fall
    to a tenth, and its step; what the alarm and the estimate of the error remember. The stage and
    the session hold the rest of a run.

    A method may go uphill; the solution is the best parameters. Points may move: best_loss is the
    loss on the present points. The scalars are numbers of the host, the same on every process.
    """

    theta: Float[Array, " p"]
    method: Any
    points: tuple[Points, ...]
    best_theta: Float[Array, " p"]
    step: int
    best_loss: float
    best_step: int
    first_loss: float
    fallen_loss: float
    fallen_step: int
    alarm: Alarm
    way: Way

    def after(self, theta: Array, method: Any, loss: float, min_decrease: float) -> State:
        """The state after a step; the best is replaced by what is better by `min_decrease`."""
        first = self.first_loss if np.isfinite(self.first_loss) else loss
        state = self._replace(theta=theta, method=method, step=self.step + 1, first_loss=first)
        if loss < 0.1 * self.fallen_loss:
            state = state._replace(fallen_loss=loss, fallen_step=state.step)
        return state.with_best(loss) if loss < (1.0 - min_decrease) * self.best_loss else state

    def with_best(self, loss: float) -> State:
        """The state with its present parameters as the best, and their loss."""
        return self._replace(best_theta=self.theta, best_loss=loss, best_step=self.step)


NUMBERS = ("best_loss", "best_step", "first_loss", "fallen_loss", "fallen_step")
ARRAYS = ("theta", "method", "points", "best_theta")


def start(stage: Stage, before: State | None = None, old: Stage | None = None) -> State:
    """The state before the first step of a run, or of a time slab, laid out on the mesh.

    Args: before, old: state and stage of the slab before, or of this slab when it was longer. A
        network that starts warm is what it was, as far on in its slab or at the same times, or what
        was found at these times in a slab that was cut: where the loss is least. λ and the like go
        on.
    """
    points, mesh, slabs = stage.points(), stage.mesh, stage.setup.slabs
    theta, method = stage.model.theta0, None
    if slabs is not None and slabs.warm_start and before is not None and old is not None:
        theta = _warm(stage, points, before, old)
        if isinstance(stage.setup.rule, Rule):
            method = stage.setup.rule.slab_begun(before.method[0])
    theta = replicate(mesh, theta)
    first = first_method_state(stage, theta, points)
    method = replicate(mesh, first if method is None else (method, first[1]))
    quiet_alarm, way = quiet(len(stage.terms)), begin(stage.problem.outputs)
    unset = float("inf")
    step, loss = (before.step, before.first_loss) if before is not None else (0, unset)
    best = unset, step
    return State(theta, method, points, theta, step, *best, loss, unset, step, quiet_alarm, way)


@jax.jit
def losses(
    residual: Residual, thetas: Float[Array, "t p"], points: tuple[Points, ...]
) -> Float[Array, " t"]:
    """Mean square residuals at several parameter vectors; compiled once for all time slabs."""
    return residual.rows(thetas[0], points).losses(thetas)


def _warm(
    stage: Stage, points: tuple[Points, ...], before: State, old: Stage
) -> Float[Array, " p"]:
    """The parameters with which a time slab starts, see `start`."""
    (first, last), axis = stage.interval, stage.problem.time
    assert axis is not None

    def same_times(theta: Any, was: float, until: float) -> Float[Array, " p"]:
        rate = (last - first) / (until - was)
        shift = rate - 1.0 + 2.0 * (first - was) / (until - was)  # of time mapped to [-1, 1]
        return stretched(old.model, jnp.asarray(theta), axis, rate, shift)

    known = [before.best_theta, same_times(before.best_theta, *old.interval)]
    known += [same_times(*g) for g in stage.guesses if g.begin <= first and last <= g.end]
    thetas = jnp.stack([jnp.asarray(np.asarray(theta)) for theta in known])
    found = np.asarray(losses(stage.residual, thetas, points))
    return thetas[int(np.argmin(np.where(np.isfinite(found), found, np.inf)))]


def first_method_state(stage: Stage, theta: Float[Array, " p"], points: tuple[Points, ...]) -> Any:
    """The state before the first step: of a rule (its own, the factorization's), of a baseline its
    own.

    Raises:
        RuleError: a state that cannot be saved.
    """
    rule = stage.setup.rule
    if isinstance(rule, Rule):
        rows = stage.residual.rows(theta, points)
        return check_state(rule, rule.init(stage.model.p)), stage.factorization.init(rows)
    assert isinstance(rule, Baseline)
    first = jax.jit(lambda system, t, p: check_state(rule, rule.init(Objective(system, p), t)))
    return first(stage.residual, theta, points)


def key_at(stage: Stage, state: State) -> list[int]:
    """The key of the run folded with the step: what is random at one step begins with it."""
    seed = stage.setup.seed
    return [seed >> 32, seed & 0xFFFFFFFF, state.step]


def arrays(stage: Stage, state: State) -> dict[str, Any]:
    """What a checkpoint holds as arrays: those of the state, and the parameters of the time slabs
    that are solved, and of those that were cut."""
    frozen = tuple(replicate(stage.mesh, theta) for theta in stage.frozen)
    guesses = tuple(replicate(stage.mesh, guess.theta) for guess in stage.guesses)
    way = replicate(stage.mesh, tuple(state.way))
    others = {"frozen": frozen, "guesses": guesses, "way": way}
    return {name: getattr(state, name) for name in ARRAYS} | others


def meta(stage: Stage, state: State) -> dict[str, Any]:
    """What a checkpoint says as JSON of stage and state: sizes, and the host's numbers. `restored`
    reads them; `Session.save` adds the session's own."""
    return {
        "points": [len(p.x) for p in state.points],
        "growth": stage.growth,
        "solved": len(stage.frozen),
        "guesses": [[guess.begin, guess.end] for guess in stage.guesses],
        "edges": list(stage.edges),
        "balance": dict(stage.balance),
        "step": state.step,
        **{key: v if np.isfinite(v := getattr(state, key)) else None for key in NUMBERS},
        "alarm": {name: np.asarray(v).tolist() for name, v in state.alarm._asdict().items()},
    }


def restored(stage: Stage, checkpoints: Checkpoints) -> tuple[Stage, State, dict[str, Any]]:
    """The stage and the state of the newest whole checkpoint, and its meta.

    The stage is built again for as many points as there were and for its time slab; the points
    are laid out for this mesh: the same points, other padding.
    """
    first = start(stage)

    def like(meta: dict[str, Any]) -> dict[str, Any]:
        nonlocal stage, first
        if not {"growth", "balance", "guesses", *NUMBERS} <= meta.keys():
            raise CheckpointError(
                "expected the state of a run, of this version of distgram; Solution.save keeps the "
                "solution only"
            )
        if meta["growth"] != stage.growth:
            stage = build_stage(stage.setup, stage.mesh, meta["growth"], before=stage)
            first = start(stage)
        return _abstract(stage, first, meta["points"], meta["solved"], len(meta["guesses"]))

    _, read, meta = checkpoints.restore(like)
    frozen = [np.asarray(theta) for theta in read.pop("frozen")]
    thetas = zip(read.pop("guesses"), meta["guesses"], strict=True)
    guesses = tuple(Guess(np.asarray(theta), *interval) for theta, interval in thetas)
    way = Way(*map(np.asarray, read.pop("way")))
    numbers: dict[str, Any] = {name: meta[name] for name in ("step", *NUMBERS)}
    numbers = {k: float("inf") if v is None else v for k, v in numbers.items()}
    read["points"] = tuple(Points(*p) for p in read["points"])
    alarm = Alarm(**{name: np.asarray(v) for name, v in meta["alarm"].items()})
    state = _relaid(stage, first, State(**read, **numbers, alarm=alarm, way=way))
    edges = tuple(meta["edges"])
    if frozen or edges != stage.edges or meta["balance"] != stage.balance:
        given = stage.setup, stage.mesh, stage.growth, frozen, edges, stage
        stage = build_stage(*given, meta["balance"])
    return replace(stage, guesses=guesses), state, meta


def bare_points(stage: Stage, state: State) -> dict[str, np.ndarray]:
    """The points of every term without padding, (n, d), on every process; of all time slabs so far,
    but where points move of the present one."""
    points = whole(stage.mesh, state.points)
    d = stage.problem.dim  # what was measured stands beside the coordinates
    slabs = [[unpad(*p)[0][:, :d] for p in points]]
    if stage.setup.placement is None:
        slabs += [[x for x, _ in stage.draw(part.problem)] for part in stage.parts[:-1]]
    each = zip(stage.terms, zip(*slabs, strict=True), strict=True)
    return {term.name: np.concatenate(parts) for term, parts in each}


def _abstract(
    stage: Stage, first: State, lengths: list[int], solved: int, cut: int
) -> dict[str, Any]:
    """How a checkpoint is to be read: laid out as `first` is.

    Args:
        lengths: the stored number of points of every term. Points that were padded for another
            mesh are read whole on every device; `_relaid` then lays them out.
        solved, cut: the stored number of slabs that are solved, and of guesses.
    """

    def leaf(x: Array, n: int | None = None) -> ShapeDtypeStruct:
        if n is None or n == len(x):
            return ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)
        on_all = NamedSharding(stage.mesh, REPLICATED)
        return ShapeDtypeStruct((n, *x.shape[1:]), x.dtype, sharding=on_all)

    points = tuple(
        Points(leaf(p.x, n), leaf(p.sqrt_weight, n))  # type: ignore[arg-type]
        for p, n in zip(first.points, lengths, strict=True)
    )
    rest = {name: jax.tree.map(leaf, getattr(first, name)) for name in ARRAYS if name != "points"}
    way = jax.tree.map(leaf, replicate(stage.mesh, tuple(first.way)))
    theta = leaf(first.theta)
    others = {"frozen": (theta,) * solved, "guesses": (theta,) * cut, "way": way}
    return rest | {"points": points} | others


def _relaid(stage: Stage, first: State, state: State) -> State:
    """The state with its points laid out as those of `first`: the same points, other padding."""
    mesh = stage.mesh
    multiple = mesh.size * stage.residual.blocks

    def lay(like: Points, points: Points) -> Points:
        if len(like.x) == len(points.x):
            return points
        bare = unpad(np.asarray(points.x), np.asarray(points.sqrt_weight))
        x, sqrt_weight = pad(*bare, multiple, len(like.x))
        return Points(shard(mesh, x), shard(mesh, sqrt_weight))

    pairs = zip(first.points, state.points, strict=True)
    return state._replace(points=tuple(lay(a, b) for a, b in pairs))
