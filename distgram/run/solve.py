"""The loop: one jitted step after another, until a named reason ends it. Read it top to bottom."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from signal import SIGTERM
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding

from distgram.config.schema import Config, dump
from distgram.linalg.mesh import REPLICATED
from distgram.linalg.precision import set_precision
from distgram.points.alarm import overfitted, warning
from distgram.points.placing import Placing
from distgram.rules.rule import StepInfo
from distgram.run.assemble import Assembled, assemble
from distgram.run.clock import Clock
from distgram.run.ends import SLAB_ENDS, Result, in_words, over_slabs, slab_end
from distgram.run.inference import stated
from distgram.run.measure import Measure, errors
from distgram.run.reasons import agree, of_budget, of_row, of_step, preempted
from distgram.run.signals import caught_signals
from distgram.run.state import (
    RunState,
    after,
    bare_points,
    key_at,
    listening,
    next_slab,
    restored,
    saved_meta,
    settled,
    start,
)
from distgram.run.step import Seen, Step, make_step, step_values
from distgram.store import storage
from distgram.store.checkpoint import Checkpoints
from distgram.store.recording import STOP, Recorder, sole_writer
from distgram.store.storage import Folder

# Ends that someone asked for: what the last row shows does not change them.
ASKED = ("signal", "stop requested")


def solve(
    config: Config,
    mesh: Mesh,
    run_dir: Folder,
    *,
    resume: bool = False,
    watch: Callable[[dict[str, Any]], None] = lambda row: None,
    say: Callable[[str], None] = lambda line: None,
    alive: Callable[[bool], None] = lambda compiling: None,
) -> Result:
    """Solve the problem of a config on a mesh, leaving everything in the run folder.

    Every process of the mesh calls it with the same arguments; all of them take every decision
    alike, and the first one writes.

    Args:
        run_dir: an absolute path or gs://: the folder of this run, made by `recording.start`,
            shared by all processes.
        resume: go on from the newest whole checkpoint in run_dir.
        watch: called with each row of metrics. say: called with a line worth reading.
        alive: called with False before each step, with True before all is compiled anew.

    Raises:
        the errors of `assemble`, before any computing; CheckpointError where storage fails;
        ReplicaError where processes hold different parameters.
    """
    say(set_precision())
    run = assemble(config, mesh)
    limits = config.run
    checkpoints = Checkpoints(run_dir / "checkpoints")
    about: dict[str, Any] = {"config": dump(config), "devices": mesh.size}
    about |= {"processes": jax.process_count()}
    clock, seconds, saved, slabs, signal = Clock(), 0.0, -1, [], 0
    if not resume:
        state = start(run)
    else:
        run, state, saved, meta = restored(run, checkpoints)
        clock = Clock(meta.get("seconds_by_part"))
        seconds, slabs = meta["seconds"], meta["slabs"]
        say(f"resumed at step {saved} after {seconds:.1f} s of solving")
        if (meta["devices"], meta.get("processes", 1)) != (mesh.size, jax.process_count()):
            say(
                f"on {_layout(about)}, not the {_layout(meta)} that saved it: "
                "the steps are equal within rounding only"
            )
    say(
        f"{run.problem.name} by {config.rule.name}: P = {run.model.p}, S = {run.size}, "
        f"{_layout(about)}, {run.residual.blocks} row block(s) a device"
    )
    first = jax.process_index() == 0
    asked_to_stop = storage.of(run_dir).appears(run_dir / STOP) if first else bool
    info: StepInfo | None = None
    seen: Seen | None = None
    row: dict[str, Any] = {}
    loud: set[str] = set()

    with caught_signals() as caught, sole_writer(run_dir):
        recorder = Recorder(run_dir, saved)
        began = time.perf_counter()
        step, measure, placing = _compiled(run, state)
        compile_seconds = time.perf_counter() - began
        began = time.perf_counter() - seconds
        clock.start()
        while True:
            alive(False)
            at, seconds = int(state.step), time.perf_counter() - began
            here = at - sum(slab["steps"] for slab in slabs)  # steps in this time slab
            signal = signal or (caught[0] if caught else SIGTERM if preempted(at) else 0)
            asked = "signal" if signal else "stop requested" if asked_to_stop() else None
            reason = of_step(state, info, seen, limits) or asked or of_budget(here, limits, seconds)
            reason, seconds, signal = agree(reason, seconds, signal, state.theta, at)
            if reason == "target" and info is not None and info.loss < state.best_loss:
                state = settled(run, state, float(info.loss))
            if reason or at % limits.log_every == 0 or here == 1:
                row = {"step": at, "seconds": seconds} | measure(
                    state.theta, state.points, key_at(state)
                )
                row |= step_values(info) | ({"slab": len(slabs) + 1} if config.time else {})
                clock.lap("measuring")
                row |= {"seconds_by_part": dict(clock.parts)}
                # a target counts at the last step of a budget too; a later slab takes a step
                shown = None if reason in ASKED or (slabs and not here) else of_row(row, limits)
                reason = agree(shown or reason, seconds, signal, state.theta, at).reason
                if shown == "target":
                    state = settled(run, state, row["mean_square_residual"])
                if at > saved and at % limits.log_every == 0:
                    state = listening(run, state, row)
                row["overfitted"] = overfitted(state.alarm, row)
                if at > saved:
                    recorder.metrics(row)
                if set(row["overfitted"]) - loud:
                    say(warning(row))
                loud = set(row["overfitted"])
                watch(row)
            if seen is not None and info is not None:
                if reason or here == 1 or at % limits.spectra_every == 0:
                    recorder.spectrum(at, seen, info, _cutoff(info, config.rule.name))
            more = reason in SLAB_ENDS and run.slabs_left > 0
            if more:  # the next time slab begins where this one ends
                row = row | measure(state.best_theta, state.points, key_at(state))
                row |= {"overfitted": overfitted(state.alarm, row)}
                slabs.append(slab_end(run.problem, row, str(reason), here))
                say(in_words(slabs, len(slabs) + run.slabs_left))
                paused = time.perf_counter()
                alive(True)
                run, state = next_slab(run, state)
                step, measure, placing = _compiled(run, state)
                paused = time.perf_counter() - paused
                began, compile_seconds = began + paused, compile_seconds + paused
                clock.start()
                info, seen, loud = None, None, set()
            if (reason or at % limits.checkpoint_every == 0) and at > saved:
                if reason != "non-finite":
                    recorder.flush()
                    about |= saved_meta(run, state) | {"seconds": seconds, "slabs": slabs}
                    about |= {"seconds_by_part": clock.parts}
                    checkpoints.save(at, state._asdict(), about)
                    recorder.config(about["config"])
                    saved = at
            clock.lap("recording")
            if more:
                continue
            if reason:
                break
            due = here > 0 and placing.due(at)  # not where a slab begins, with points just drawn
            if due and placing.grows(state):
                paused = time.perf_counter()
                alive(True)
                run, state = placing.grown(state)
                say(f"step {at}: the points grow to S = {run.size}")
                step, measure, placing = _compiled(run, state)
                paused = time.perf_counter() - paused
                began, compile_seconds = began + paused, compile_seconds + paused
                clock.start()
            elif due:
                state = placing(state)
                clock.lap("placing points")
            theta, method_state, took, seen = step(state.theta, state.method_state, state.points)
            info = took
            state = after(run, state, theta, method_state, float(took.loss))
            clock.lap("steps")

    row = row | measure(state.best_theta, state.points, key_at(state))
    row |= {"overfitted": overfitted(state.alarm, row)}
    slabs.append(slab_end(run.problem, row, reason, here))
    solution = measure.solution(state.best_theta)
    row |= over_slabs(slabs) | errors(solution["u"], solution.get("reference"))
    result = Result(
        problem=run.problem.name,
        rule=config.rule.name,
        P=run.model.p,
        S=run.size,
        devices=mesh.size,
        steps=int(state.step),
        seconds=seconds,
        compile_seconds=compile_seconds,
        seconds_by_part=clock.parts,
        mean_square_residual=row["mean_square_residual"],
        heldout_residual=row["heldout_residual"],
        l2_error=row["l2_error"],
        relative_l2_error=row["relative_l2_error"],
        reason=row["reason"],
        overfitted=row["overfitted"],
        run_dir=str(run_dir),
        unknown=stated(run, state.best_theta, state.points),
        signal=signal if reason == "signal" else None,
        slabs=slabs if config.time else None,
    )
    recorder.finish(result.values(), solution, bare_points(run, state))
    checkpoints.close()
    return result


def _compiled(run: Assembled, state: RunState) -> tuple[Step, Measure, Placing]:
    """The step of a run, what measures it and what moves its points, for the shapes of a state."""
    whole = NamedSharding(run.residual.mesh, REPLICATED)  # of each result a copy on every device
    step = jax.jit(make_step(run), out_shardings=whole)
    step = step.lower(state.theta, state.method_state, state.points).compile()
    measure, placing = Measure(run), Placing(run)
    measure.compile(state.theta, state.points)
    placing.compile(state)
    return step, measure, placing


def _layout(meta: dict[str, Any]) -> str:
    """Devices, and processes where there are several, in words."""
    processes = meta.get("processes", 1)
    return f"{meta['devices']} device(s)" + (f" in {processes} processes" * (processes > 1))


def _cutoff(info: StepInfo, rule: str) -> float:
    """The cutoff on the singular values; for Tikhonov's λ, where its factor is 1/2: √λ."""
    value = float(info.regularization)
    return math.sqrt(value) if rule == "adaptive_ratio" else value
