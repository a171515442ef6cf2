"""Why a run ends, judged by every process and agreed on by all of them; and how it has ended.

A run whose time is not cut is one slab.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from signal import SIGTERM
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Array, Float

from distgram.errors import ReplicaError
from distgram.linalg.mesh import gather
from distgram.linalg.spectrum import SpectrumSummary
from distgram.pde.problem import Problem
from distgram.rules.rule import StepInfo
from distgram.run.clock import Clock
from distgram.run.setup import Limits
from distgram.run.state import State

# Of several reasons, on one process or on different ones, the last in this order counts.
REASONS = (
    *("time budget", "step budget", "stop requested", "signal"),
    *("time share", "stalled", "precision floor", "tolerance", "target", "non-finite"),
)
SUCCESS = (
    *("target", "tolerance", "precision floor", "step budget", "time budget", "time share"),
    "stop requested",
)

# Ends that someone asked for: what the last row shows does not change them.
ASKED = ("signal", "stop requested")

# Estimate of the relative error above which nothing counts as solved.
UNSOLVED = 0.1

# A term whose residual after as many steps is still above this share of what it began with, and no
# negligible part of what all began with, has not moved.
SETTLED_STEPS, FALLEN, PART = 50, 0.5, 1e-6

# Steps without progress at the precision floor after which a run ends there.
FLOOR_STEPS = 8


class Agreed(NamedTuple):
    """What all processes hold to: the reason to end here or None, seconds, the signal or 0, and the
    seconds that are left."""

    reason: str | None
    seconds: float
    signal: int
    left: float = math.inf


def agree(
    reason: str | None,
    seconds: float,
    signal: int,
    theta: Float[Array, " p"],
    step: int,
    left: float = math.inf,
) -> Agreed:
    """One decision from what every process has judged: clocks, signals and files differ by process.

    Of the reasons the last in REASONS counts, of the clocks that of the first process.

    Raises:
        ReplicaError: θ, replicated, is not the same to the last bit on every process.
    """
    mine = -1 if reason is None else REASONS.index(reason)
    if jax.process_count() == 1:
        return Agreed(reason, seconds, signal, left)
    every = gather([mine, seconds, signal, left, zlib.crc32(np.asarray(theta).tobytes())])
    agreed = int(every[:, 0].max())
    named = None if agreed < 0 else REASONS[agreed]
    differ = np.flatnonzero(every[:, 4] != every[0, 4])
    if named != "non-finite" and differ.size:
        raise ReplicaError(
            f"step {step}: the parameters of process(es) {differ.tolist()} are not those of "
            "process 0 to the last bit: expected hosts of one kind (CPU, GPU, libraries); the "
            "last checkpoint is whole."
        )
    return Agreed(named, float(every[0, 1]), int(every[:, 2].max()), float(every[0, 3]))


def preempted(step: int) -> bool:
    """Whether a process of jax.distributed was told to go (SIGTERM): at one step, true on all."""
    return multihost_utils.reached_preemption_sync_point(step)


@dataclass
class Moment:
    """The moment after a step: what the step did, None before the first; and what is found out of
    it on the way.

    Args:
        info, spectrum: of the step. begun: the step at which the run, or its time slab, began.
        slab: the number of time slabs before this one.
        reason: why the run, or the slab, ends here. seconds: of solving so far. signal: the number
            of the signal that was received, or 0. left: seconds that the run, or the slab, still
            has. row: what was measured, where it was. own: the estimate of the relative error of
            a time slab by itself, as far as the row has one.
        grow: whether the points are to become more. halve: whether the time slab is to be cut.
    """

    info: StepInfo | None = None
    spectrum: SpectrumSummary | None = None
    begun: int = 0
    slab: int = 0
    reason: str | None = None
    seconds: float = 0.0
    signal: int = 0
    left: float = math.inf
    row: dict[str, Any] | None = None
    own: float | None = None
    grow: bool = False
    halve: bool = False


@dataclass
class Judge:
    """Decides after every step whether the run ends there; the same on every process.

    Args:
        caught: signals received. asked_to_stop: whether someone asked the run to end.
        deadline: the elapsed seconds at which a time slab has had its share of the budget.
        share: what part of all time the end of this slab is, and so of the tolerance may be spent
            there. part: what part of all time this slab is.
    """

    limits: Limits
    clock: Clock
    caught: list[int]
    asked_to_stop: Callable[[], bool]
    signal: int = 0
    deadline: float = math.inf
    share: float = 1.0
    part: float = 1.0

    def __call__(self, state: State, moment: Moment) -> None:
        """Set reason, seconds and signal of the moment after a step."""
        here, at, seconds = state.step - moment.begun, state.step, self.clock.seconds
        signal = self.caught[0] if self.caught else SIGTERM if preempted(at) else 0
        self.signal = self.signal or signal
        asked = "signal" if self.signal else "stop requested" if self.asked_to_stop() else None
        reason = of_step(state, moment, self.limits) or asked
        elapsed = self.clock.elapsed
        reason = reason or of_budget(here, self.limits, elapsed)
        if reason is None and elapsed >= self.deadline:
            reason = "time share"
        self.agree(reason, state, moment, seconds)

    def see_row(self, state: State, moment: Moment, row: dict[str, Any]) -> str | None:
        """Take a row of metrics into account; the reason that the row gives. A target counts at the
        last step of a budget too, and not against what someone asked for."""
        taken = state.step > moment.begun or moment.slab == 0  # a later slab takes a step
        seen = None
        if taken and moment.reason not in ASKED:
            seen = of_row(row, self.limits, self.share)
            if seen is None and self.within(moment):
                seen = "tolerance"
        self.agree(seen or moment.reason, state, moment, moment.seconds)
        return seen

    def within(self, moment: Moment) -> bool:
        """Whether a slab by itself uses up no more of the tolerance than its part."""
        wanted, own = self.limits.tolerance, moment.own
        return wanted is not None and own is not None and own <= self.part * wanted

    def agree(self, reason: str | None, state: State, moment: Moment, seconds: float) -> None:
        """Let all processes hold to one reason, clock and signal."""
        budget = math.inf if self.limits.time_budget_s is None else self.limits.time_budget_s
        left = min(budget, self.deadline) - self.clock.elapsed
        agreed = agree(reason, seconds, self.signal, state.theta, state.step, left)
        moment.reason, moment.seconds, moment.signal, moment.left = agreed
        self.signal = agreed.signal


def of_step(state: State, moment: Moment, limits: Limits) -> str | None:
    """The reason to end that the last step gives, None: there is none."""
    info, spectrum = moment.info, moment.spectrum
    if info is None or spectrum is None:
        return None
    loss = float(info.loss)
    finite = all(np.isfinite(np.asarray(a)).all() for a in (state.theta, spectrum.singular_values))
    if not math.isfinite(loss) or not finite:
        return "non-finite"
    if bool(info.converged):
        return "target"
    if limits.target_residual is not None and loss <= limits.target_residual:
        return "target"
    waited = state.step - state.best_step
    at_floor = state.best_loss <= float(spectrum.floor)
    if at_floor and waited >= min(FLOOR_STEPS, limits.stall_steps):
        return "precision floor"
    creeps = state.step - state.fallen_step >= 10 * limits.stall_steps
    return "stalled" if waited >= limits.stall_steps or creeps else None


def of_budget(step: int, limits: Limits, seconds: float) -> str | None:
    """The budget that is spent, None: neither is. seconds: since the start, compilation too."""
    if limits.max_steps is not None and step >= limits.max_steps:
        return "step budget"
    if limits.time_budget_s is not None and seconds >= limits.time_budget_s:
        return "time budget"
    return None


def of_row(row: dict[str, Any], limits: Limits, share: float = 1.0) -> str | None:
    """'target' once the L2 error is what was asked for, 'tolerance' once the estimate of it is
    within a share of what was, 'non-finite' where there is none."""
    if not math.isfinite(row["mean_square_residual"]):
        return "non-finite"
    for reason, wanted, error in (
        ("target", limits.target_l2, row["l2_error"]),
        ("tolerance", limits.tolerance and share * limits.tolerance, row["error_estimate"]),
    ):
        if wanted is not None and error is not None and error <= wanted:
            return reason
    return None


# How a slab ends and the next one begins, the worst first; any other reason ends the run.
SLAB_ENDS = ("stalled", "step budget", "time share", "precision floor", "tolerance", "target")
KEYS = ("error", "size")  # of a slab: rms of the estimated error, and of the solution
SHOWN = ("seconds", "mean_square_residual", "heldout_residual", "l2_error", "overfitted")


@dataclass(frozen=True)
class Result:
    """How a run ended. Residuals are weighted mean squares, L2 errors rms over the reference.

    Of a run in time slabs they are those of all slabs so far: the residuals means over time.
    `slabs` then tells how each of them ended.

    tolerance: the relative L2 error that was asked for. error_estimate: the estimate of it, made
    without a solution (`run.estimate`). unmoved: the terms whose residual has not fallen.
    overfitted: the terms whose held-out residual has parted from that on the points.
    seconds_by_part: the seconds of solving by what they were spent on. unknown: estimates of
    coefficients by name. errors: the relative L2 error of each of several outputs. modulo: the
    outputs that are determined up to a constant.
    """

    problem: str
    rule: str
    P: int
    S: int
    devices: int
    steps: int
    seconds: float
    compile_seconds: float
    seconds_by_part: dict[str, float]
    mean_square_residual: float
    heldout_residual: float
    l2_error: float | None
    relative_l2_error: float | None
    error_estimate: float | None
    reason: str
    overfitted: list[str]
    run_dir: str | None
    unknown: dict[str, dict[str, Any]] = field(default_factory=dict)
    signal: int | None = None
    slabs: list[dict[str, Any]] | None = None
    tolerance: float | None = None
    unmoved: list[str] = field(default_factory=list)
    errors: dict[str, float | None] = field(default_factory=dict)
    modulo: list[str] = field(default_factory=list)

    @property
    def success(self) -> bool:
        """Whether the run did what it was asked to, and nothing says that it has not solved."""
        return self.reason in SUCCESS and self.unsolved is None

    @property
    def unsolved(self) -> str | None:
        """Why the problem does not count as solved, with what may help; None: it does, as far as
        the estimate of the error and the residuals of the terms tell."""
        error, asked = self.error_estimate, self.tolerance
        if self.reason in ASKED:
            return None
        if self.unmoved:
            names = ", ".join(self.unmoved)
            return (
                f"not solved: the residual of {names} has not fallen: the other terms outweigh it; "
                "try balance, or a weight for it ([points.NAME] weight)"
            )
        if asked is not None and (error is None or error > asked):
            found = "is not known" if error is None else f"is {error:.1g}"
            return (
                f"not solved: the estimated relative error {found}, above the tolerance {asked:g}; "
                "more steps, more time, or a larger network may reach it"
            )
        timed = self.reason in ("time budget", "time share")
        if error is None and timed and self.steps >= SETTLED_STEPS:
            return (
                "not solved: the residual has fallen too little for an estimate of the error; more "
                "time, or a larger network may help"
            )
        if error is not None and error > UNSOLVED:
            return (
                f"not solved: the estimated relative error is {error:.1g}; more steps, more time, "
                "or a larger network may help"
            )
        return None

    def values(self) -> dict[str, Any]:
        """What result.json holds: all but the number of the signal; slabs and unknowns if any."""
        optional = ("slabs", "unknown", "tolerance", "unmoved", "errors", "modulo")
        left_out = ["signal", *(key for key in optional if not getattr(self, key))]
        return {key: value for key, value in asdict(self).items() if key not in left_out}


def unmoved(first: dict[str, Any] | None, last: dict[str, Any], steps: int) -> list[str]:
    """The terms that have not moved from the first row of a run to the last."""
    if first is None or steps < SETTLED_STEPS:
        return []
    whole = sum(first["terms"].values())
    return [
        name
        for name, value in last["terms"].items()
        if value > FALLEN * first["terms"].get(name, math.inf) and value > PART * whole
    ]


def slab_end(problem: Problem, row: dict[str, Any], reason: str, steps: int) -> dict[str, Any]:
    """How one slab ended, as JSON: its interval of time, reason, steps, seconds of the run so far,
    and the residuals and error of its solution.

    Args:
        problem: that of the slab. row: the metrics of its solution.
    """
    t, box = problem.time, problem.domain
    begin, end = (None, None) if t is None else (box.lower[t], box.upper[t])
    shown = {key: row[key] for key in SHOWN}
    return {"begin": begin, "end": end, "reason": reason, "steps": steps} | shown


def over_slabs(slabs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The residuals over all slabs, means over time; the estimate of the error, rms over time; the
    terms overfitted in any of them; and the reason that stands for all.

    A slab that has stalled does not end the run: the reason is then that of the worst slab, so
    that the run does not count as a success. A reason that did end it stands for itself.
    """
    lengths = [1.0 if slab["begin"] is None else slab["end"] - slab["begin"] for slab in slabs]

    def mean(key: str) -> float:
        weighted = (w / sum(lengths) * slab[key] for w, slab in zip(lengths, slabs, strict=True))
        return sum(weighted)

    reasons = [slab["reason"] for slab in slabs]
    if reasons[-1] in SLAB_ENDS:
        reasons.sort(key=SLAB_ENDS.index, reverse=True)
    residuals: dict[str, Any] = {
        key: mean(key) for key in ("mean_square_residual", "heldout_residual")
    }
    residuals["error_estimate"] = None
    if all(slab["error"] is not None for slab in slabs):
        squares = [sum(w * s[k] ** 2 for w, s in zip(lengths, slabs, strict=True)) for k in KEYS]
        residuals["error_estimate"] = math.sqrt(squares[0] / squares[1]) if squares[1] else None
    terms = dict.fromkeys(name for slab in slabs for name in slab["overfitted"])
    return residuals | {"reason": reasons[-1], "overfitted": list(terms)}


def in_words(slabs: Sequence[dict[str, Any]], count: int) -> str:
    """How the last of these slabs ended, of `count` there are; a warning where it has stalled."""
    slab, error = slabs[-1], slabs[-1]["l2_error"]
    said = (
        f"slab {len(slabs)} of {count}, from {slab['begin']:g} to {slab['end']:g}: "
        f"{slab['reason']} after {slab['steps']} steps; mean square residual "
        f"{slab['mean_square_residual']:.3g}" + ("" if error is None else f", L2 error {error:.3g}")
    )
    if slab["reason"] != "stalled":
        return said
    return f"warning: {said}; the next begins from it, and the run counts as stalled"
