"""The loop, from top to bottom: rows, spectrum, rule, step, one after another, until a named reason
ends the run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.stages import Traced
from jaxtyping import Array, Float

from distgram.linalg.held_out import reconstruction_errors
from distgram.linalg.mesh import REPLICATED, replicate
from distgram.linalg.precision import set_precision
from distgram.linalg.rows import Objective, Points, Residual
from distgram.linalg.spectrum import Spectrum, SpectrumSummary, no_spectrum
from distgram.rules.baselines.baseline import Baseline
from distgram.rules.rule import Rule, StepInfo
from distgram.run.automatic import balance, solved_with
from distgram.run.clock import Clock
from distgram.run.ends import SLAB_ENDS, Judge
from distgram.run.halving import Halving
from distgram.run.hooks import (
    SILENT,
    Checkpointing,
    Listener,
    Measuring,
    Recording,
    Session,
    completed_triangle,
)
from distgram.run.measure import Measure
from distgram.run.moving import Moving, with_more_points
from distgram.run.setup import Setup
from distgram.run.signals import caught_signals
from distgram.run.solution import Solution
from distgram.run.stage import Stage, build_stage
from distgram.run.state import State, restored, start
from distgram.run.trace import trace
from distgram.store.folder import sole_writer
from distgram.store.storage import Folder

Step = Callable[
    [Residual, Float[Array, " p"], Any, tuple[Points, ...]],
    tuple[Float[Array, " p"], Any, StepInfo, SpectrumSummary],
]


def natural_gradient_step(stage: Stage) -> Step:
    """A step of a rule: (residual system, θ, state, points) -> (θ, state, what the step did, what
    it saw)."""
    rule, factorization = stage.setup.rule, stage.factorization
    assert isinstance(rule, Rule)
    factorize: Any = factorization.linear_model if rule.regularizes else factorization
    validation = stage.validation(rule.validation) if rule.validation else None

    def step(residual, theta, state, points):
        rule_state, warm = state
        rows = residual.rows(theta, points)  # [J | r], streamed and sharded, never whole
        spectrum, warm = factorize(rows, lambda at: rule.needs(at, theta, rule_state), warm)
        if validation is not None and isinstance(spectrum, Spectrum):
            errors = reconstruction_errors(residual.rows(theta, validation), spectrum)
            spectrum = spectrum._replace(validation_errors=errors)
        seen = spectrum.summary(theta)  # singular values, RCE_n, the precision floor
        theta, rule_state, info = rule.step(spectrum, rows.trials, theta, rule_state)
        everywhere = NamedSharding(residual.mesh, REPLICATED)
        return lax.with_sharding_constraint((theta, (rule_state, warm), info, seen), everywhere)

    return step


def objective_step(stage: Stage) -> Step:
    """A step of a baseline, which sees the mean square residual only."""
    baseline = stage.setup.rule
    assert isinstance(baseline, Baseline)

    def step(residual, theta, state, points):
        theta, state, info = baseline.step(Objective(residual, points), theta, state)
        return theta, state, info, no_spectrum()

    return step


def traced_step(stage: Stage, state: State) -> Traced:
    """The step of a stage, traced for the shapes of a state.

    Raises:
        RuleError: a step that does not keep the types of its state, or that cannot be traced.
    """
    make = natural_gradient_step if stage.setup.rule.uses_spectrum else objective_step
    everywhere = NamedSharding(stage.mesh, REPLICATED)  # of each result a copy on every device
    step = jax.jit(make(stage), out_shardings=everywhere)
    first = stage.residual, state.theta, state.method, state.points
    return trace(stage.setup.rule, step, *first)


def compiled_step(stage: Stage, state: State) -> Step:
    """The same, compiled."""
    return traced_step(stage, state).lower().compile()


class Compiled(NamedTuple):
    """What is compiled for one stage, and serves those that compile as it does."""

    stage: Stage
    step: Step
    measure: Measure
    moving: Moving

    @classmethod
    def of(cls, stage: Stage, state: State, clock: Clock) -> Compiled:
        """Compiled for the shapes of a state."""
        traced = traced_step(stage, state)
        step, triangle = traced.lower().compile(), traced.out_info[3].triangle
        measure, moving = Measure(stage), Moving(stage, clock)
        measure.compile(state.theta, state.points)
        moving.compile(state)
        if triangle is not None:  # of a step that does without singular values
            completed_triangle(replicate(stage.mesh, np.zeros(triangle.shape)))
        return cls(stage, step, measure, moving)

    def serving(self, stage: Stage) -> tuple[Step, Measure, Moving]:
        """Step, measure and moving points of another stage."""
        return self.step, self.measure.serving(stage), self.moving.serving(stage)


def run(
    setup: Setup,
    mesh: Mesh,
    *,
    run_dir: Folder | None = None,
    resume: bool = False,
    described: dict[str, Any] | None = None,
    listener: Listener = SILENT,
) -> Solution:
    """Solve a setup on a mesh.

    Every process of the mesh calls it with the same arguments; all of them take every decision
    alike, and the first one writes.

    Args:
        run_dir: an absolute path or gs://: the folder of this run, made by `store.folder.new`,
            shared by all processes; None: all stays in memory.
        resume: go on from the newest whole checkpoint in run_dir.
        described: the setup in words, for the checkpoints.
        listener: is told how the run goes.

    Raises:
        the errors of `build_stage`, before any computing; CheckpointError where storage fails;
        ReplicaError where processes hold different parameters.
    """
    listener.say(set_precision())
    stage = build_stage(setup, mesh)
    with caught_signals() as caught, sole_writer(run_dir):
        session = Session.open(run_dir, described or {}, listener)
        meta = None
        if session.checkpoints is not None and resume:
            stage, state, meta = restored(stage, session.checkpoints)
        else:
            if setup.balance:
                stage = stage.balanced(balance(stage))
            state = start(stage)  # θ₀, the rule's state, and the points drawn
        session.begin(stage, meta)
        listener.say(solved_with(setup))
        judge = Judge(setup.limits, session.clock, caught, session.asked_to_stop)
        moment, compiled = None, None
        listener.alive(True)
        while True:  # stages: time slabs, growth of the points
            with session.clock.pause():
                if compiled is None or not stage.compiles_as(compiled.stage):
                    compiled = Compiled.of(stage, state, session.clock)
                step, measure, moving = compiled.serving(stage)
                hooks = (
                    Measuring(session, judge, stage, measure),
                    Halving(stage, judge),
                    Recording(session, stage),
                    Checkpointing(session, stage),
                    moving,
                )
            if moment is None:  # the run, or a slab, begins
                moment = session.moment()
                judge.deadline, judge.share = session.deadline(stage), stage.share
                judge.part = stage.part
                judge(state, moment)
                for hook in hooks:
                    state = hook(state, moment)
            while not (moment.reason or moment.grow or moment.halve):
                listener.alive(False)
                theta, method, info, spectrum = step(
                    stage.residual, state.theta, state.method, state.points
                )
                state = state.after(theta, method, float(info.loss), setup.limits.min_decrease)
                session.clock.lap("steps")
                moment = session.moment(info, spectrum)
                judge(state, moment)
                for hook in hooks:  # measure, record, checkpoint, move points
                    state = hook(state, moment)
            listener.alive(True)
            if moment.grow:
                with session.clock.pause():
                    stage, state = with_more_points(stage, state)
                    moment.grow = False
                listener.say(f"step {state.step}: the points grow to S = {stage.size}")
            elif moment.halve:
                with session.clock.pause():
                    shorter = stage.halved(np.asarray(state.best_theta))
                    state, moment = start(shorter, state, stage), None
                    stage, session.begun = shorter, state.step
                begin, end = stage.edges[len(stage.frozen) :][:2]
                listener.say(f"the loss does not fall: the slab from {begin:g} now ends at {end:g}")
            elif moment.reason in SLAB_ENDS and stage.slabs_left:
                session.end_slab(measure, stage, state, moment)
                with session.clock.pause():
                    later = stage.next_slab(np.asarray(state.best_theta))
                    state, moment = start(later, state, stage), None
                    stage, session.begun = later, state.step
            else:
                return session.finish(measure, stage, state, moment)
