"""Why a run ends: judged by every process, agreed on by all of them."""

from __future__ import annotations

import math
import zlib
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Array, Float

from distgram.config.schema import RunConfig
from distgram.errors import ReplicaError
from distgram.linalg.mesh import gather
from distgram.rules.rule import StepInfo
from distgram.run.state import RunState
from distgram.run.step import Seen

# Of several reasons, on one process or on different ones, the last in this order counts.
REASONS = (
    *("time budget", "step budget", "stop requested", "signal"),
    *("stalled", "precision floor", "target", "non-finite"),
)
SUCCESS = ("target", "precision floor", "step budget", "time budget", "stop requested")

# Steps without progress at the precision floor after which a run ends there.
FLOOR_STEPS = 8


class Agreed(NamedTuple):
    """What all processes hold to: the reason to end here or None, seconds, the signal or 0."""

    reason: str | None
    seconds: float
    signal: int


def agree(
    reason: str | None, seconds: float, signal: int, theta: Float[Array, " p"], step: int
) -> Agreed:
    """One decision from what every process has judged: clocks, signals and files differ by process.

    Of the reasons the last in REASONS counts, of the clocks that of the first process.

    Raises:
        ReplicaError: θ, replicated, is not the same to the last bit on every process.
    """
    mine = -1 if reason is None else REASONS.index(reason)
    if jax.process_count() == 1:
        return Agreed(reason, seconds, signal)
    every = gather([mine, seconds, signal, zlib.crc32(np.asarray(theta).tobytes())])
    agreed = int(every[:, 0].max())
    named = None if agreed < 0 else REASONS[agreed]
    differ = np.flatnonzero(every[:, 3] != every[0, 3])
    if named != "non-finite" and differ.size:
        raise ReplicaError(
            f"step {step}: the parameters of process(es) {differ.tolist()} are not those of "
            "process 0 to the last bit: expected hosts of one kind (CPU, GPU, libraries); the "
            "last checkpoint is whole."
        )
    return Agreed(named, float(every[0, 1]), int(every[:, 2].max()))


def preempted(step: int) -> bool:
    """Whether a process of jax.distributed was told to go (SIGTERM): at one step, true on all."""
    return multihost_utils.reached_preemption_sync_point(step)


def of_step(
    state: RunState, info: StepInfo | None, seen: Seen | None, limits: RunConfig
) -> str | None:
    """The reason to end that the last step gives, None: there is none."""
    if info is None or seen is None:
        return None
    loss = float(info.loss)
    finite = all(np.isfinite(np.asarray(a)).all() for a in (state.theta, seen.singular_values))
    if not math.isfinite(loss) or not finite:
        return "non-finite"
    if bool(info.converged) or (limits.target_residual and loss <= limits.target_residual):
        return "target"
    waited = int(state.step) - int(state.best_step)
    at_floor = float(state.best_loss) <= float(seen.floor)
    if at_floor and waited >= min(FLOOR_STEPS, limits.patience):
        return "precision floor"
    return "stalled" if waited >= limits.patience else None


def of_budget(step: int, limits: RunConfig, seconds: float) -> str | None:
    """The budget that is spent, None: neither is."""
    if step >= limits.steps:
        return "step budget"
    if limits.time_budget_s is not None and seconds >= limits.time_budget_s:
        return "time budget"
    return None


def of_row(row: dict[str, Any], limits: RunConfig) -> str | None:
    """'target' once the L2 error is what was asked for, 'non-finite' where there is none."""
    if not math.isfinite(row["mean_square_residual"]):
        return "non-finite"
    wanted, error = limits.target_l2, row["l2_error"]
    return "target" if wanted is not None and error is not None and error <= wanted else None
