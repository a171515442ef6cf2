"""The hook that cuts a time slab in half."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from distgram.run.ends import Judge, Moment
from distgram.run.stage import Stage
from distgram.run.state import State

# A time slab is not cut any more once it is shorter than this share of all time.
LEAST_SLAB = 1 / 100


@dataclass
class Halving:
    """Asks for a shorter time slab where this one does not converge, or not to the tolerance."""

    stage: Stage
    judge: Judge

    def __call__(self, state: State, moment: Moment) -> State:
        slabs, lengths = self.stage.setup.slabs, np.diff(self.stage.edges)
        if slabs is None or slabs.halve_after is None:
            return state
        long = lengths[len(self.stage.frozen)] > LEAST_SLAB * lengths.sum()
        if long and (self._falls_short(state, moment) or self._creeps(state, moment)):
            moment.halve, moment.reason = True, None
        return state

    def _falls_short(self, state: State, moment: Moment) -> bool:
        """Whether the loss has not fallen as far as it should in the first steps of the slab."""
        slabs = self.stage.setup.slabs
        assert slabs is not None
        now = state.step - moment.begun == slabs.halve_after
        high = state.best_loss > slabs.fall * state.first_loss
        return now and high and moment.reason in (None, "time share")

    def _creeps(self, state: State, moment: Moment) -> bool:
        """Whether the loss rests above the tolerance, and as much time is left as the slab has
        taken."""
        slabs, limits = self.stage.setup.slabs, self.stage.setup.limits
        assert slabs is not None and slabs.halve_after is not None
        if limits.tolerance is None or moment.row is None or self.judge.within(moment):
            return False
        rests = state.step - state.fallen_step >= slabs.halve_after and moment.reason is None
        taken = moment.seconds / max(state.step, 1) * (state.step - moment.begun)
        return (rests or moment.reason == "stalled") and moment.left >= taken
