"""Moving the collocation points between two steps, and giving a run more of them."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from distgram.linalg.mesh import REPLICATED, replicate, unpad, whole
from distgram.linalg.rows import Points
from distgram.points.adaptive.placement import Placed
from distgram.points.adaptive.view import Sight, TermView, Whitening, whitening
from distgram.points.alarm import quiet
from distgram.points.draw import draw, draw_uniform, fixed_count
from distgram.rules.rule import Rule
from distgram.run.clock import Clock
from distgram.run.ends import Moment
from distgram.run.stage import Stage
from distgram.run.state import State, first_method_state, key_at, losses

# The last word of a key, beside those of draws before the first step and of held-out points.
PLACING = 2


class Moving:
    """The hook that moves the points as the placement of the setup says, or asks for more of them;
    without a placement it does nothing.

    Where points go depends on the state alone (θ, points, key, step): a resumed run moves them
    alike, every process does, and any number of devices up to rounding of the residuals.

    A loss on other points is another function. After a move the best parameters met are judged
    again: the better of them and the present ones on the new points is the best, with its loss
    there; `best_step` stays, so that only a decrease on the present points puts a stall off. The
    rule is told by `Method.moved`.
    """

    def __init__(self, stage: Stage, clock: Clock):
        self.stage, self.clock = stage, clock
        block = max(1, stage.plan.block)
        self._sights = [Sight(stage.mesh, term, block) for term in stage.terms]
        on_all = NamedSharding(stage.mesh, REPLICATED)
        self._whitening: Any = jax.jit(self._triplets, out_shardings=on_all)

    def __call__(self, state: State, moment: Moment) -> State:
        begins = state.step == moment.begun  # the points were just drawn
        if moment.reason or begins:
            return state
        if self._grows(state):
            moment.grow = True
            return state
        if not self._due(state.step):
            return state
        state = self.move(state)
        self.clock.lap("placing points")
        return state

    def serving(self, stage: Stage) -> Moving:
        """This hook for another stage of the same shapes; the compiled functions serve both."""
        moving = copy(self)
        moving.stage = stage
        return moving

    def compile(self, state: State) -> None:
        """Compile before the clock starts, by moving the points of a state that is kept."""
        if self.stage.setup.placement is not None:
            self.move(state)

    def move(self, state: State) -> State:
        """The state with its points moved."""
        stage, mesh = self.stage, self.stage.mesh

        @cache
        def triplets() -> Whitening:
            return self._whitening(stage.residual, state.theta, state.method, state.points)

        points = tuple(self._moved(i, state, triplets) for i in range(len(stage.terms)))
        both = jnp.stack([state.theta, state.best_theta])
        now, best = np.asarray(losses(stage.residual, both, points))
        rule = stage.setup.rule
        if rule.uses_spectrum:
            rule_state, warm = state.method
            method = (replicate(mesh, rule.moved(rule_state, now)), warm)
        else:
            method = rule.moved(state.method, now)
        return state._replace(
            points=points,
            method=method,
            best_theta=state.theta if now < best else state.best_theta,
            best_loss=float(np.minimum(now, best)),
        )

    def _due(self, step: int) -> bool:
        """Whether points move between a step and the next."""
        placement = self.stage.setup.placement
        if placement is None:
            return False
        return step % placement.every == 0 or self._scheduled(step)

    def _scheduled(self, step: int) -> bool:
        placement = self.stage.setup.placement
        if placement is None or placement.grow is None:
            return False
        return self.stage.growth < self.stage.last_growth and placement.grow.divides(step)

    def _grows(self, state: State) -> bool:
        """Whether the number of points grows now: on schedule, or because the alarm asks for it."""
        placement, stage = self.stage.setup.placement, self.stage
        if placement is None or placement.grow is None or stage.growth >= stage.last_growth:
            return False
        return self._scheduled(state.step) or bool(np.any(state.alarm.raised))

    def _moved(self, i: int, state: State, triplets: Callable[[], Whitening]) -> Points:
        stage, term, old = self.stage, self.stage.terms[i], state.points[i]
        wanted, placement = stage.draws[term.name], stage.setup.placement
        if placement is None or fixed_count(term) is not None:
            return old
        key = [*key_at(stage, state), i, PLACING]
        here, _ = unpad(*whole(stage.mesh, tuple(old)))
        placed = placement(
            here,
            wanted.count,
            lambda n: draw_uniform(term, n, key, wanted.sampler),
            TermView(
                self._sights[i],
                stage.residual.only(i),
                state.theta,
                triplets,
                lambda: Placed(*draw(term, wanted, key)),
            ),
            np.random.default_rng([*key, 1]),
        )
        return stage.lay_out(term, *placed, wanted.count)

    def _triplets(self, residual, theta, method, points) -> Whitening:
        rule_state, warm = method
        stage, rule = self.stage, self.stage.setup.rule
        assert isinstance(rule, Rule)

        def needs(spectrum):
            return rule.needs(spectrum, theta, rule_state)

        spectrum, _ = stage.factorization(residual.rows(theta, points), needs, warm)
        return whitening(spectrum, needs(spectrum).rank)


def with_more_points(stage: Stage, state: State) -> tuple[Stage, State]:
    """The stage with more points, and the state on these points, whose shapes are new. The alarm is
    quiet again: it has seen rows of fewer points, and one alarm asks for one growth."""
    stage = stage.next_growth()
    state = Moving(stage, Clock()).move(state)._replace(alarm=quiet(len(stage.terms)))
    if stage.setup.rule.uses_spectrum:  # what a factorization starts warm with fits its plan only
        _, warm = first_method_state(stage, state.theta, state.points)
        state = state._replace(method=(state.method[0], replicate(stage.mesh, warm)))
    return stage, state
