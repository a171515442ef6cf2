"""What happens between two steps: measuring, recording, checkpointing, moving points.

A hook is called after every step with the state and the moment, and gives the state. The hooks of a
stage are compiled for its shapes; what outlives a stage is in the session.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from distgram.linalg.spectrum import SpectrumSummary
from distgram.linalg.tsqr import completed
from distgram.points.alarm import observe, overfitted, warning
from distgram.rules.rule import StepInfo
from distgram.run.clock import Clock
from distgram.run.ends import (
    SLAB_ENDS,
    Judge,
    Moment,
    Result,
    in_words,
    over_slabs,
    slab_end,
    unmoved,
)
from distgram.run.estimate import estimate, handed_on, keep, rms
from distgram.run.inference import stated
from distgram.run.measure import Measure, errors, errors_by_output
from distgram.run.solution import Solution, solution_of
from distgram.run.stage import Stage
from distgram.run.state import State, arrays, bare_points, key_at, meta
from distgram.store.checkpoint import Checkpoints
from distgram.store.folder import CHECKPOINTS, stop_request
from distgram.store.record import Recorder, SpectrumRecord
from distgram.store.storage import Folder

Hook = Callable[[State, Moment], State]


@dataclass(frozen=True)
class Listener:
    """Is told how a run goes.

    Args:
        row: called with each row of metrics. say: called with a line worth reading.
        alive: called with False before each step, with True before all is compiled anew.
    """

    row: Callable[[dict[str, Any]], None] = lambda row: None
    say: Callable[[str], None] = lambda line: None
    alive: Callable[[bool], None] = lambda compiling: None


SILENT = Listener()

# Singular values and RCE of the triangle of a step that did without them.
completed_triangle = jax.jit(completed)


@dataclass
class Session:
    """What a run keeps from one stage to the next.

    Args:
        recorder, checkpoints: where rows and states go; no checkpoints without a run folder.
        clock: the seconds of solving. slabs: how each time slab so far has ended.
        saved: the step of the last checkpoint, -1 before the first. begun: the step at which the
            run, or its time slab at its present length, began.
        described: the setup in words, for the checkpoints.
    """

    run_dir: Folder | None
    recorder: Recorder
    checkpoints: Checkpoints | None
    listener: Listener
    described: dict[str, Any]
    asked_to_stop: Callable[[], bool]
    clock: Clock = field(default_factory=Clock)
    slabs: list[dict[str, Any]] = field(default_factory=list)
    saved: int = -1
    begun: int = 0

    @classmethod
    def open(cls, run_dir: Folder | None, described: dict[str, Any], listener: Listener) -> Session:
        """The session of a run that starts or goes on."""
        checkpoints = None if run_dir is None else Checkpoints(run_dir / CHECKPOINTS)
        asked = stop_request(run_dir)
        return cls(run_dir, Recorder(run_dir), checkpoints, listener, described, asked)

    def moment(
        self, info: StepInfo | None = None, spectrum: SpectrumSummary | None = None
    ) -> Moment:
        """The moment after a step, or before the first."""
        return Moment(info, spectrum, self.begun, slab=len(self.slabs))

    def begin(self, stage: Stage, meta: dict[str, Any] | None) -> None:
        """Say what is being solved, and start the clock; of a run that goes on with what the meta
        of its checkpoint says."""
        here = {"devices": stage.mesh.size, "processes": jax.process_count()}
        if meta is not None:
            self.saved, self.slabs, self.begun = meta["step"], meta["slabs"], meta["begun"]
            self.listener.say(
                f"resumed at step {self.saved} after {meta['seconds']:.1f} s of solving"
            )
            if (meta["devices"], meta["processes"]) != (here["devices"], here["processes"]):
                self.listener.say(
                    f"on {layout(here)}, not the {layout(meta)} that saved it: "
                    "the steps are equal within rounding only"
                )
        self.listener.say(
            f"{stage.problem.name} by {stage.setup.rule.name}: P = {stage.model.p}, "
            f"S = {stage.size}, {layout(here)}, {stage.residual.blocks} row block(s) per device"
        )
        self.recorder.start(self.saved, (meta or {}).get("recorded"))
        self.clock = Clock() if meta is None else Clock(meta["seconds"], meta["seconds_by_part"])

    @property
    def first_row(self) -> dict[str, Any] | None:
        """The first row of the run, None where there is none."""
        rows = self.recorder.record.rows
        return rows[0] if rows else None

    def deadline(self, stage: Stage) -> float:
        """The elapsed seconds at which the time slab that begins has had its share of the time that
        is left: as much as of the interval that is left."""
        budget, edges, k = stage.setup.limits.time_budget_s, stage.edges, len(stage.frozen)
        if budget is None or len(edges) < 2:
            return math.inf
        share = (edges[k + 1] - edges[k]) / (edges[-1] - edges[k])
        now = self.clock.elapsed
        return now + share * (budget - now) if share < 1 else math.inf

    def save(self, stage: Stage, state: State, seconds: float) -> None:
        """Save a checkpoint; the rows before it come first."""
        if self.checkpoints is None:
            return
        self.recorder.flush()
        about = meta(stage, state) | {
            "config": self.described,
            "devices": stage.mesh.size,
            "processes": jax.process_count(),
            "seconds": seconds,
            "seconds_by_part": self.clock.parts,
            "slabs": self.slabs,
            "begun": self.begun,
            "recorded": self.recorder.counts(),
        }
        self.checkpoints.save(state.step, arrays(stage, state), about)
        self.recorder.config(self.described)
        self.saved = state.step

    def error(
        self, measure: Measure, own: float | None, growth: float = 1.0
    ) -> tuple[float | None, float]:
        """The estimate of the rms error at a row, of which a time slab has its own, with the error
        that it began with, grown by a factor; and the rms of the solution."""
        size = rms(measure.compared)
        before = self.slabs[-1]["error"] if self.slabs else 0.0
        return handed_on(None if own is None else own * size, before, growth), size

    def estimate(self, measure: Measure, own: float | None) -> float | None:
        """The same relative to the solution, and with nothing grown."""
        error, size = self.error(measure, own)
        return None if error is None else error / size

    def best_row(self, measure: Measure, stage: Stage, state: State, moment: Moment) -> dict:
        """The row of the best parameters, which are the solution."""
        row = (moment.row or {}) | measure(state.best_theta, state.points, key_at(stage, state))
        moment.own = own_estimate(measure, state, row)
        row |= {"error_estimate": self.estimate(measure, moment.own)}
        return row | {"overfitted": overfitted(state.alarm, row)}

    def end_slab(
        self, measure: Measure, stage: Stage, state: State, moment: Moment
    ) -> dict[str, Any]:
        """Note how a time slab, or the whole run, has ended; the row of its solution."""
        row, steps = self.best_row(measure, stage, state, moment), state.step - moment.begun
        growth = measure.growth(state.best_theta) if self.slabs else 1.0
        error, size = self.error(measure, moment.own, growth)
        slab = slab_end(stage.problem, row, str(moment.reason), steps)
        self.slabs.append(slab | {"size": size, "error": error})
        if moment.reason in SLAB_ENDS and stage.slabs_left:
            self.listener.say(in_words(self.slabs, len(self.slabs) + stage.slabs_left))
        return row

    def finish(self, measure: Measure, stage: Stage, state: State, moment: Moment) -> Solution:
        """Close the run and give its solution."""
        row = self.end_slab(measure, stage, state, moment)
        arrays = measure.solution(state.best_theta)
        compared, free = (arrays["u"], arrays.get("reference")), measure.free
        row |= over_slabs(self.slabs) | errors(*compared, free)
        names = stage.problem.output_names
        modulo = [names[i] for i in free]
        if modulo:
            self.listener.say(
                f"{', '.join(modulo)}: no term determines its mean: the solution is one of many "
                "that differ by a constant, and errors are stated without it"
            )
        result = Result(
            problem=stage.problem.name,
            rule=stage.setup.rule.name,
            P=stage.model.p,
            S=stage.size,
            devices=stage.mesh.size,
            steps=state.step,
            seconds=moment.seconds,
            compile_seconds=self.clock.paused,
            seconds_by_part=self.clock.parts,
            mean_square_residual=row["mean_square_residual"],
            heldout_residual=row["heldout_residual"],
            l2_error=row["l2_error"],
            relative_l2_error=row["relative_l2_error"],
            error_estimate=row["error_estimate"],
            reason=row["reason"],
            overfitted=row["overfitted"],
            run_dir=None if self.run_dir is None else str(self.run_dir),
            unknown=stated(stage, state.best_theta, state.points),
            signal=moment.signal if moment.reason == "signal" else None,
            slabs=self.slabs if stage.setup.slabs else None,
            tolerance=stage.setup.limits.tolerance,
            unmoved=unmoved(self.first_row, row, state.step),
            errors=errors_by_output(*compared, names, free),
            modulo=modulo,
        )
        self.recorder.finish(result.values(), arrays, bare_points(stage, state))
        if self.checkpoints is not None:
            self.checkpoints.close()
        thetas = (*stage.frozen, state.best_theta)
        return solution_of(
            *(stage.setup, stage.whole, stage.parts, thetas, result),
            *(self.recorder.record, self.described),
        )


@dataclass
class Measuring:
    """Measures the state at logged steps, and lets the judge and the alarm see the row."""

    session: Session
    judge: Judge
    stage: Stage
    measure: Measure
    loud: set[str] = field(default_factory=set)

    def __call__(self, state: State, moment: Moment) -> State:
        stage, every = self.stage, self.stage.setup.schedule.log_every
        if moment.reason == "target" and moment.info is not None:
            loss = float(moment.info.loss)
            state = state.with_best(loss) if loss < state.best_loss else state
        here = state.step - moment.begun
        if not (moment.reason or state.step % every == 0 or here <= 1):
            return state
        row = {"step": state.step, "seconds": moment.seconds}
        row |= self.measure(state.theta, state.points, key_at(stage, state))
        moment.own = own_estimate(self.measure, state, row)
        row["error_estimate"] = self.session.estimate(self.measure, moment.own)
        find_spectrum(moment)
        row |= step_values(moment)
        if stage.setup.slabs:
            row["slab"] = moment.slab + 1
        self.session.clock.lap("measuring")
        row["seconds_by_part"] = dict(self.session.clock.parts)
        if self.judge.see_row(state, moment, row) in ("target", "tolerance"):
            state = state.with_best(self.measure.loss)
        new = state.step > self.session.recorder.last and state.step % every == 0
        if new:
            state = state._replace(alarm=observe(state.alarm, row))
        if new or here == 0:  # a slab that starts warm falls little: its first moment counts
            way = keep(state.way, self.measure.compared, row["heldout_residual"] ** 0.5)
            state = state._replace(way=way)
        row["overfitted"] = overfitted(state.alarm, row)
        if set(row["overfitted"]) - self.loud:
            self.session.listener.say(warning(row))
        self.loud = set(row["overfitted"])
        moment.row = row
        return state


@dataclass
class Recording:
    """Appends rows and spectra to the record of the run."""

    session: Session
    stage: Stage

    def __call__(self, state: State, moment: Moment) -> State:
        session, setup = self.session, self.stage.setup
        if moment.row is not None:
            if state.step > session.recorder.last:
                session.recorder.row(moment.row)
            session.listener.row(moment.row)
        first = state.step - moment.begun == 1
        if moment.reason or first or state.step % setup.schedule.spectra_every == 0:
            find_spectrum(moment)
            info, seen = moment.info, moment.spectrum
            if info is not None and seen is not None and seen.singular_values.size:
                record = SpectrumRecord(
                    state.step,
                    np.asarray(seen.singular_values),
                    np.asarray(seen.rce),
                    int(info.rank),
                    float(info.cutoff),
                    int(info.r_cap),
                    int(info.r_eps),
                )
                session.recorder.spectrum(record)
        session.clock.lap("recording")
        return state


@dataclass
class Checkpointing:
    """Saves the state every so many steps, where a run or a slab begins, and at the end."""

    session: Session
    stage: Stage

    def __call__(self, state: State, moment: Moment) -> State:
        every = self.stage.setup.schedule.checkpoint_every
        if moment.reason == "non-finite" or state.step <= self.session.saved:
            return state
        if moment.reason in SLAB_ENDS and self.stage.slabs_left:
            return state  # the first moment of the next slab is saved in its place
        if moment.reason or state.step % every == 0 or state.step == moment.begun:
            self.session.save(self.stage, state, moment.seconds)
            self.session.clock.lap("checkpoints")
        return state


def own_estimate(measure: Measure, state: State, row: dict[str, Any]) -> float | None:
    """The estimate of the relative L2 error at a row; in a time slab without what it began with."""
    return estimate(state.way, measure.compared, row["heldout_residual"] ** 0.5)


def find_spectrum(moment: Moment) -> None:
    """Find the singular values of the step, and the rank of its cutoff, where it did without."""
    info, seen = moment.info, moment.spectrum
    if info is None or seen is None or seen.triangle is None:
        return
    s, rce = completed_triangle(seen.triangle)
    moment.spectrum = SpectrumSummary(s, rce, seen.floor, seen.left_out)
    moment.info = info._replace(rank=np.sum(np.asarray(s) > float(info.cutoff)))


def step_values(moment: Moment) -> dict[str, Any]:
    """The part of a metrics row that says what the last step did."""
    info = moment.info
    if info is None:
        return {"rank": None, "regularization": None, "step_size": None, "accepted": None}
    return {
        "rank": int(info.rank) if int(info.rank) >= 0 else None,
        "regularization": float(info.regularization),
        "step_size": float(info.step_size),
        "accepted": bool(info.accepted),
    }


def layout(meta: dict[str, Any]) -> str:
    """Devices, and processes where there are several, in words."""
    processes = meta["processes"]
    return f"{meta['devices']} device(s)" + (f" in {processes} processes" * (processes > 1))
