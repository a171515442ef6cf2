"""Moving points in a run: resumed bitwise, the same on any mesh, growing, refused clearly."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from cli_runs import CLOCKS, TINY, metrics
from distgram.points.placements import at_stage, last_stage
from distgram.points.placing import Placing
from library import stage_of

from distgram.config.schema import check
from distgram.errors import ProblemError
from distgram.linalg.mesh import make_mesh
from distgram.run.state import bare_points, relaid, start
from distgram.store.checkpoint import newest, read_theta

MOVING = TINY + "[sampling]\nevery = 3\n"
TREE: dict[str, Any] = {
    "problem": {"name": "laplace2d"},
    "model": {"hidden": [6]},
    "points": {"interior": {"count": 50}, "boundary": {"count": 21}},
}


def points(run) -> dict[str, np.ndarray]:
    with np.load(run / "solution.npz") as file:
        return {k: file[k] for k in file.files if k.startswith("points_")}


def values(run) -> dict[str, Any]:
    result = json.loads((run / "result.json").read_text())
    return {k: v for k, v in result.items() if k not in (*CLOCKS, "run_dir")}


@pytest.mark.slow
@pytest.mark.parametrize(
    "sampling",
    [
        'name = "leverage"',
        'name = "rar"\ngrow = { budget = 280, every = 3 }',  # 140 points; the resume is after it
    ],
)
def test_resumed_equals_uninterrupted_where_points_move(folder, sampling):
    config = folder.write("moving.toml", MOVING + sampling)
    one, two = folder.path / "one", folder.path / "two"
    solve = ("solve", config, "--devices", 1, "--set", "rule.patience=2", "--out")
    assert folder.call(*solve, one).code == 0
    assert folder.call(*solve, two, "--set", "run.steps=5").code == 0
    assert folder.call("resume", two, "--set", "run.steps=6").code == 0
    a, b = (read_theta(newest(run / "checkpoints")) for run in (one, two))
    assert np.array_equal(a, b)
    for name, x in points(one).items():
        assert np.array_equal(x, points(two)[name])
    rows = {row["step"]: row for row in metrics(two)}
    assert all(rows[row["step"]] == row for row in metrics(one))
    assert values(one) == values(two)
    assert values(one)["S"] == (280 if "grow" in sampling else 140)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rad", "rar", "r3", "leverage", "greedy"])
def test_the_same_points_on_eight_devices_as_on_one(name):
    config = check(TREE | {"sampling": {"name": name}})
    found = []
    for devices in (1, 8):
        run = stage_of(config, make_mesh(devices))
        state = Placing(run)(start(run))
        found.append(bare_points(run, state))
        assert all(len(p.x) % devices == 0 for p in state.points)
    for term, count in (("interior", 50), ("boundary", 21)):
        a, b = (points[term] for points in found)
        assert np.array_equal(a, b) and len(a) == (count if name != "rar" else len(a))


def test_points_that_are_still_to_come_keep_their_room_on_another_mesh():
    config = check(TREE | {"sampling": {"name": "rar"}})
    eight, three = (stage_of(config, make_mesh(n)) for n in (8, 3))
    before, like = start(eight), start(three)
    after = relaid(three, like, before)
    assert [p.x.shape for p in after.points] == [p.x.shape for p in like.points]
    for name, x in bare_points(eight, before).items():
        assert len(x) == {"interior": 25, "boundary": 11}[name]
        assert np.array_equal(bare_points(three, after)[name], x)


def test_growth_is_staged_up_to_the_budget():
    grow = {"budget": 300, "factor": 2.0}
    config = check(TREE | {"sampling": {"name": "fresh", "grow": grow}})
    run = stage_of(config, make_mesh(1))
    assert last_stage(config, run.terms) == 2  # 71, 142, 284
    assert [p.count for p in at_stage(config, run.terms, 2).points.values()] == [200, 84]
    placing, state = Placing(run), start(run)
    assert not placing.due(0) and placing.due(20) and not placing.due(30)
    assert not placing.grows(state)  # the alarm is quiet
    loud = state._replace(alarm=state.alarm._replace(raised=np.array([False, True])))
    assert placing.grows(loud)
    larger, state = placing.grown(loud)
    assert larger.size == 142 and [len(x) for x in bare_points(larger, state).values()] == [100, 42]
    assert int(state.stage) == 1 and np.isfinite(float(state.best_loss))
    assert not Placing(larger).grows(state)  # not before the alarm has heard a row of it
    last = Placing(stage_of(config, make_mesh(1), stage=2))
    assert not last.grows(loud)


def test_a_move_judges_the_best_parameters_on_the_new_points():
    run = stage_of(check(TREE | {"sampling": {"name": "fresh"}}), make_mesh(1))
    state = start(run)
    worse = state.theta + 0.5
    losses = run.residual.losses
    for theta, best in ((worse, state.theta), (state.theta, worse)):
        moved = Placing(run)(state._replace(theta=theta, best_theta=best))
        both = np.asarray(losses(np.stack([theta, best]), moved.points))
        assert float(moved.best_loss) == pytest.approx(both.min(), rel=1e-13)
        assert np.array_equal(moved.best_theta, [theta, best][int(np.argmin(both))])
        rule = moved.method_state[0]
        assert float(rule.reference) == pytest.approx(both[0], rel=1e-13) and rule.waited == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"sampling": {"name": "leverage"}, "rule": {"name": "adam"}},
            "which rule 'adam' does not",
        ),
        ({"points__sampler": "grid"}, "points.interior.sampler = 'grid'"),
        ({"points__focus": {"axis": 0, "center": 0.5, "width": 0.1, "fraction": 0.5}}, "focus"),
        ({"sampling": {"name": "rad", "grow": {"budget": 141}}}, "expected at least 142"),
    ],
)
def test_what_cannot_move_is_refused(change, words):
    tree = {k: v for k, v in change.items() if "__" not in k}
    extra = {k.split("__")[1]: v for k, v in change.items() if "__" in k}
    interior = {"interior": {"count": 49} | extra, "boundary": {"count": 22}}
    config = check(TREE | {"sampling": {"name": "rad"}, "points": interior} | tree)
    with pytest.raises(ProblemError, match=words.replace(".", r"\.")):
        stage_of(config, make_mesh(1))
