"""Moving the collocation points between two steps: the only place where placements meet a run."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from distgram.config.sampling import MovingConfig
from distgram.linalg.mesh import REPLICATED, replicate, unpad, whole
from distgram.linalg.rows import Points, make_points
from distgram.points.adaptive.fresh import Fresh
from distgram.points.adaptive.placement import Placed
from distgram.points.adaptive.seen import Seen, Sight, Whitening, whitening
from distgram.points.alarm import quiet
from distgram.points.draw import draw, draw_uniform, fixed_count
from distgram.points.placements import last_stage
from distgram.rules.rule import Rule
from distgram.run.assemble import Assembled, assemble
from distgram.run.state import RunState, key_at
from distgram.run.step import initial_state

# The last word of a key, beside those of draws before the first step and of held-out points.
PLACING = 2


class Placing:
    """Moves the points of a run as its `[sampling]` says; with static points it is never due.

    Where points go depends on the state alone (θ, points, key, step): a resumed run moves them
    alike, every process does, and any number of devices up to rounding of the residuals.

    A loss on other points is another function. After a move the best parameters met are judged
    again: the better of them and the present ones on the new points is the best, with its loss
    there; `best_step` stays, so that only a decrease on the present points puts a stall off. The
    rule is told by `Rule.moved`.
    """

    def __init__(self, run: Assembled):
        self.run = run
        config = run.config.sampling
        self._every = config.every if isinstance(config, MovingConfig) else None
        self._grow = config.grow if isinstance(config, MovingConfig) else None
        self._last = last_stage(run.given, run.terms)
        block = max(1, run.plan.block)
        self._sights = [Sight(run.residual, term, block) for term in run.terms]
        replicated = NamedSharding(run.residual.mesh, REPLICATED)
        self._losses: Any = jax.jit(run.residual.losses, out_shardings=replicated)
        self._whitening: Any = jax.jit(self._triplets, out_shardings=replicated)

    def due(self, at: int) -> bool:
        """Whether points move between step `at` and the next."""
        return at > 0 and (self._divides(self._every, at) or self._scheduled(at))

    def compile(self, state: RunState) -> None:
        """Compile before the clock starts, by moving the points of a state that is kept."""
        if self._every is not None:
            self(state)

    def grows(self, state: RunState) -> bool:
        """Whether they become more, at a step where they are due."""
        if self._grow is None or self.run.stage >= self._last:
            return False
        return self._scheduled(int(state.step)) or bool(np.any(np.asarray(state.alarm.raised)))

    def grown(self, state: RunState) -> tuple[Assembled, RunState]:
        """Assembled anew for more points, and the state with them: other shapes from here on. The
        alarm is quiet again: what it has heard was of fewer points."""
        mesh = self.run.residual.mesh
        run = assemble(self.run.given, mesh, self.run.stage + 1, self.run.frozen)
        heard_anew = replicate(mesh, quiet(len(run.terms)))  # one alarm asks for one growth
        state = Placing(run)(state)._replace(
            stage=replicate(mesh, np.asarray(run.stage)), alarm=heard_anew
        )
        if isinstance(run.method, Rule):  # what a factorization starts warm with fits its plan only
            _, warm = initial_state(run, state.theta, state.points)
            state = state._replace(method_state=(state.method_state[0], replicate(mesh, warm)))
        return run, state

    def __call__(self, state: RunState) -> RunState:
        """The state with its points moved."""
        run, mesh = self.run, self.run.residual.mesh

        @cache
        def triplets() -> Whitening:
            return self._whitening(state.theta, state.method_state, state.points)

        points = tuple(self._moved(i, state, triplets) for i in range(len(run.terms)))
        both = jnp.stack([state.theta, state.best_theta])
        now, best = np.asarray(self._losses(both, points))
        if isinstance(run.method, Rule):
            rule_state, warm = state.method_state
            rule_state = replicate(mesh, run.method.moved(rule_state, now))
            state = state._replace(method_state=(rule_state, warm))
        return state._replace(
            points=points,
            best_theta=state.theta if now < best else state.best_theta,
            best_loss=replicate(mesh, np.minimum(now, best)),
        )

    def _moved(self, i: int, state: RunState, triplets: Callable[[], Whitening]) -> Points:
        run, term, old = self.run, self.run.terms[i], state.points[i]
        wanted, mesh = run.config.points[term.name], run.residual.mesh
        if run.placement is None or fixed_count(term) is not None:
            return old
        key = [*key_at(state), i, PLACING]
        if isinstance(run.placement, Fresh):
            placed = Placed(*draw(term, wanted, key))  # with its focus
        else:
            here, _ = unpad(*whole(mesh, tuple(old)))
            placed = run.placement(
                here,
                wanted.count,
                lambda n: draw_uniform(term, n, key, wanted.sampler),
                Seen(self._sights[i], state.theta, triplets),
                np.random.default_rng([*key, 1]),
            )
        return make_points(mesh, term, *placed, run.residual.blocks, wanted.count)

    def _triplets(self, theta, method_state, points) -> Whitening:
        rule_state, warm = method_state
        run, method = self.run, self.run.method
        assert isinstance(method, Rule)

        def needs(spectrum):
            return method.needs(spectrum, theta, rule_state)

        spectrum, _ = run.factorization(run.residual, theta, points, needs, warm)
        return whitening(spectrum, needs(spectrum).rank)

    def _scheduled(self, at: int) -> bool:
        if self._grow is None or self.run.stage >= self._last:
            return False
        return self._divides(self._grow.every, at)

    @staticmethod
    def _divides(every: int | None, at: int) -> bool:
        return every is not None and at % every == 0
