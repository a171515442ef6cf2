"""The loop: one jitted step after another, until a named reason ends it. Read it top to bottom."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from distgram.assemble import assemble, draw_points
from distgram.checkpoint import Checkpoints
from distgram.config import Config, RunConfig, dump
from distgram.measure import Measure
from distgram.precision import set_precision
from distgram.recording import Recorder
from distgram.rules import StepInfo
from distgram.signals import caught_signals
from distgram.state import RunState, after, settled, start
from distgram.step import Seen, make_step

SUCCESS = ("target", "precision floor", "step budget", "time budget")

# Steps without progress at the precision floor after which a run ends there.
FLOOR_STEPS = 8


@dataclass(frozen=True)
class Result:
    """How a run ended. Residuals are weighted mean squares, L2 errors rms over the reference."""

    problem: str
    rule: str
    P: int
    S: int
    devices: int
    steps: int
    seconds: float
    compile_seconds: float
    mean_square_residual: float
    heldout_residual: float
    l2_error: float | None
    relative_l2_error: float | None
    reason: str
    run_dir: str
    signal: int | None = None

    @property
    def success(self) -> bool:
        """Whether the run did what it was asked to."""
        return self.reason in SUCCESS

    def values(self) -> dict[str, Any]:
        """What result.json holds: everything but the number of the signal."""
        return {key: value for key, value in asdict(self).items() if key != "signal"}


def solve(
    config: Config,
    mesh: Mesh,
    run_dir: Path,
    *,
    resume: bool = False,
    watch: Callable[[dict[str, Any]], None] = lambda row: None,
    say: Callable[[str], None] = lambda line: None,
) -> Result:
    """Solve the problem of a config on a mesh, leaving everything in the run folder.

    Args:
        run_dir: an absolute path: the folder of this run, made by `recording.start`.
        resume: go on from the newest whole checkpoint in run_dir.
        watch: called with each row of metrics. say: called with a line worth reading.

    Raises:
        the errors of `assemble`, before any computing; CheckpointError where storage fails.
    """
    say(set_precision())
    run = assemble(config, mesh)
    limits = config.run
    state = start(run)
    checkpoints = Checkpoints(run_dir / "checkpoints")
    seconds, saved = 0.0, -1
    if resume:
        saved, restored, meta = checkpoints.restore(state._asdict())
        state, seconds = RunState(**restored), meta["seconds"]
        say(f"resumed at step {saved} after {seconds:.1f} s of solving")
    say(
        f"{run.problem.name} by {config.rule.name}: P = {run.model.p}, S = {run.size}, "
        f"{mesh.size} device(s), {run.residual.blocks} row block(s) a device"
    )
    measure = Measure(run)
    recorder = Recorder(run_dir, int(state.step))
    about = {"config": dump(config), "devices": mesh.size}
    info: StepInfo | None = None
    seen: Seen | None = None
    row: dict[str, Any] = {}
    reason: str | None = None

    with caught_signals() as caught:
        began = time.perf_counter()
        args = (state.theta, state.method_state, state.points)
        step = jax.jit(make_step(run)).lower(*args).compile()
        measure.compile(state.theta, state.points)
        compile_seconds = time.perf_counter() - began
        began = time.perf_counter() - seconds
        while True:
            seconds = time.perf_counter() - began
            at = int(state.step)
            reason = _reason(state, info, seen, limits, seconds, caught)
            if reason == "target" and info is not None and info.loss < state.best_loss:
                state = settled(run, state, float(info.loss))
            if reason or at % limits.log_every == 0 or at == 1:
                row = {"step": at, "seconds": seconds} | measure(state.theta, state.points)
                row |= _of_step(info)
                if reason != "signal" and (shown := _target(row, limits)):
                    reason = shown  # a target counts at the last step of a budget too
                    if reason == "target":
                        state = settled(run, state, row["mean_square_residual"])
                if at > saved or not resume:
                    recorder.metrics(row)
                watch(row)
            if seen is not None and info is not None:
                if reason or at == 1 or at % limits.spectra_every == 0:
                    recorder.spectrum(at, seen, info, _cutoff(info, config.rule.name))
            if (reason or at % limits.checkpoint_every == 0) and at > saved:
                if reason != "non-finite":
                    recorder.flush()
                    checkpoints.save(at, state._asdict(), about | {"seconds": seconds})
                    recorder.config(about["config"])
                    saved = at
            if reason:
                break
            theta, method_state, took, seen = step(state.theta, state.method_state, state.points)
            info = took
            state = after(run, state, theta, method_state, float(took.loss))

    row |= measure(state.best_theta, state.points)
    result = Result(
        problem=run.problem.name,
        rule=config.rule.name,
        P=run.model.p,
        S=run.size,
        devices=mesh.size,
        steps=int(state.step),
        seconds=seconds,
        compile_seconds=compile_seconds,
        mean_square_residual=row["mean_square_residual"],
        heldout_residual=row["heldout_residual"],
        l2_error=row["l2_error"],
        relative_l2_error=row["relative_l2_error"],
        reason=reason,
        run_dir=str(run_dir),
        signal=caught[0] if reason == "signal" else None,
    )
    points = {t.name: x for t, (x, _) in zip(run.terms, draw_points(run), strict=True)}
    recorder.finish(result.values(), measure.solution(state.best_theta, state.points), points)
    checkpoints.close()
    return result


def _reason(
    state: RunState,
    info: StepInfo | None,
    seen: Seen | None,
    limits: RunConfig,
    seconds: float,
    caught: list[int],
) -> str | None:
    """Why the run ends here, or None: it goes on. Every process comes to the same answer."""
    if info is not None and seen is not None:
        loss = float(info.loss)
        if not math.isfinite(loss) or not bool(jnp.all(jnp.isfinite(seen.singular_values))):
            return "non-finite"
        if bool(info.converged) or (limits.target_residual and loss <= limits.target_residual):
            return "target"
        waited = int(state.step) - int(state.best_step)
        at_floor = float(state.best_loss) <= float(seen.floor)
        if at_floor and waited >= min(FLOOR_STEPS, limits.patience):
            return "precision floor"
        if waited >= limits.patience:
            return "stalled"
    if caught:
        return "signal"
    if int(state.step) >= limits.steps:
        return "step budget"
    if limits.time_budget_s is not None and seconds >= limits.time_budget_s:
        return "time budget"
    return None


def _target(row: dict[str, Any], limits: RunConfig) -> str | None:
    """'target' once the L2 error is what was asked for, 'non-finite' where there is none."""
    if not math.isfinite(row["mean_square_residual"]):
        return "non-finite"
    wanted, error = limits.target_l2, row["l2_error"]
    return "target" if wanted is not None and error is not None and error <= wanted else None


def _of_step(info: StepInfo | None) -> dict[str, Any]:
    """The part of a metrics row that says what the last step did."""
    if info is None:
        return {"rank": None, "regularization": None, "step_size": None, "accepted": None}
    return {
        "rank": int(info.rank) if int(info.rank) >= 0 else None,
        "regularization": float(info.regularization),
        "step_size": float(info.step_size),
        "accepted": bool(info.accepted),
    }


def _cutoff(info: StepInfo, rule: str) -> float:
    """The cutoff on the singular values; for Tikhonov's λ, where its factor is 1/2: √λ."""
    value = float(info.regularization)
    return math.sqrt(value) if rule == "adaptive_ratio" else value
