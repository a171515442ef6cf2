"""Moving points in a run: resumed bitwise, the same on any mesh, growing, refused clearly."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from cli_runs import CLOCKS
from stages import stage

from distgram.errors import ProblemError
from distgram.net.mlp import MLP
from distgram.pde.registry import get
from distgram.points.adaptive.fresh import Fresh
from distgram.points.adaptive.greedy import Greedy
from distgram.points.adaptive.leverage import Leverage
from distgram.points.adaptive.placement import Growth
from distgram.points.adaptive.r3 import R3
from distgram.points.adaptive.rad import RAD
from distgram.points.adaptive.rar import RAR
from distgram.points.draw import Draw, Focus
from distgram.rules.adaptive_ratio import AdaptiveRatio
from distgram.rules.baselines.adam import Adam
from distgram.run.clock import Clock
from distgram.run.ends import Moment
from distgram.run.front import solve
from distgram.run.moving import Moving, with_more_points
from distgram.run.setup import Schedule
from distgram.run.state import arrays, bare_points, meta, restored, start
from distgram.store.checkpoint import Checkpoints

SMALL: dict[str, Any] = {"network": MLP([6]), "points": {"interior": 50, "boundary": 21}}


def points(solution) -> dict[str, np.ndarray]:
    return solution.record.points


def rows(solution) -> list[dict[str, Any]]:
    """The rows of metrics without what clocks say."""
    return [{k: v for k, v in row.items() if k not in CLOCKS} for row in solution.history]


@pytest.mark.slow
@pytest.mark.parametrize(
    "placement, size",
    [
        (Leverage(every=3), 71),
        (RAR(every=3, grow=Growth(142, every=3)), 142),  # the resume is after the growth
    ],
)
def test_resumed_equals_uninterrupted_where_points_move(tmp_path, placement, size):
    schedule = Schedule(log_every=2, spectra_every=3, checkpoint_every=2, held_out=64)
    setup = SMALL | {"rule": AdaptiveRatio(patience=2), "placement": placement}
    setup |= {"schedule": schedule, "progress": False}
    one = solve(get("laplace2d"), steps=6, **setup)
    solve(get("laplace2d"), steps=5, run_dir=tmp_path / "run", **setup)
    two = solve(get("laplace2d"), steps=6, run_dir=tmp_path / "run", resume=True, **setup)
    assert np.array_equal(one.theta, two.theta)
    assert points(one).keys() == points(two).keys()
    for name, x in points(one).items():
        assert np.array_equal(x, points(two)[name])
    resumed = {row["step"]: row for row in rows(two)}
    assert all(resumed[row["step"]] == row for row in rows(one))
    assert one.result is not None and two.result is not None
    assert one.result.S == two.result.S == size
    assert one.error == two.error


@pytest.mark.slow
@pytest.mark.parametrize("placement", [RAD(), RAR(), R3(), Leverage(), Greedy()])
def test_the_same_points_on_eight_devices_as_on_one(placement):
    found = []
    for devices in (1, 8):
        run = stage(devices=devices, placement=placement, **SMALL)
        state = Moving(run, Clock()).move(start(run))
        found.append(bare_points(run, state))
        assert all(len(p.x) % devices == 0 for p in state.points)
    for term, count in (("interior", 50), ("boundary", 21)):
        a, b = (points[term] for points in found)
        assert np.array_equal(a, b) and len(a) == (count if placement.name != "rar" else len(a))


def test_points_that_are_still_to_come_keep_their_room_on_another_mesh(tmp_path):
    eight, three = (stage(devices=n, placement=RAR(), **SMALL) for n in (8, 3))
    before, like = start(eight), start(three)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(0, arrays(eight, before), meta(eight, before))
    checkpoints.close()
    _, after, _ = restored(three, Checkpoints(tmp_path))
    assert [p.x.shape for p in after.points] == [p.x.shape for p in like.points]
    for name, x in bare_points(eight, before).items():
        assert len(x) == {"interior": 25, "boundary": 11}[name]
        assert np.array_equal(bare_points(three, after)[name], x)


def test_growth_is_staged_up_to_the_budget():
    """71 points, 142, 284; 568 would be too many."""
    run = stage(placement=Fresh(grow=Growth(300)), **SMALL)
    moving, state = Moving(run, Clock()), start(run)
    assert run.last_growth == 2

    def after(state, moving=moving):
        moment = Moment()
        return moving(state, moment), moment.grow

    for step in (0, 30):  # the points were just drawn; not a multiple of 20
        quiet = state._replace(step=step)
        assert after(quiet) == (quiet, False)
    moved, grows = after(state._replace(step=20))  # the alarm is quiet
    assert not grows and not np.array_equal(moved.points[0].x, state.points[0].x)
    loud = state._replace(step=20, alarm=state.alarm._replace(raised=np.array([False, True])))
    assert after(loud) == (loud, True)
    larger, state = with_more_points(run, loud)
    assert larger.growth == 1 and larger.size == 142
    assert [len(x) for x in bare_points(larger, state).values()] == [100, 42]
    assert np.isfinite(state.best_loss)
    assert not after(state, Moving(larger, Clock()))[1]  # not before the alarm has seen a row of it
    last = larger.next_growth()
    assert [wanted.count for wanted in last.draws.values()] == [200, 84]
    louder = start(last)._replace(step=20, alarm=loud.alarm)
    assert not after(louder, Moving(last, Clock()))[1]


def test_a_move_judges_the_best_parameters_on_the_new_points():
    run = stage(placement=Fresh(), **SMALL)
    state, moving = start(run), Moving(run, Clock())
    worse = state.theta + 0.5
    for theta, best in ((worse, state.theta), (state.theta, worse)):
        moved = moving.move(state._replace(theta=theta, best_theta=best))
        rows = run.residual.rows(theta, moved.points)
        both = np.asarray(rows.losses(jnp.stack([theta, best])))
        assert moved.best_loss == pytest.approx(both.min(), rel=1e-13)
        assert np.array_equal(moved.best_theta, [theta, best][int(np.argmin(both))])
        rule, _ = moved.method
        assert float(rule.reference) == pytest.approx(both[0], rel=1e-13) and rule.waited == 0


FOCUS = Focus(axis=0, center=0.5, width=0.1, fraction=0.5)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"placement": Leverage(), "rule": Adam()}, r"sampling\.name = 'leverage'"),
        ({"points": {"interior": Draw(49, "grid")}}, r"points\.interior\.sampler = 'grid'"),
        ({"points": {"interior": Draw(49, focus=FOCUS)}}, r"points\.interior\.focus"),
        ({"placement": RAD(grow=Growth(140))}, r"sampling\.grow\.budget = 140"),
    ],
)
def test_what_cannot_move_is_refused(change, key):
    asked = SMALL["points"] | change.get("points", {})
    with pytest.raises(ProblemError, match=f"^{key}"):
        stage(**{"placement": RAD(), **SMALL, **change, "points": asked})
