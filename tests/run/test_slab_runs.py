"""Causal slabs: one run, one folder, one solution over all of time."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from library import resumed, rows, run, stage_of, stopped_at
from slab_runs import HEAT, changed

import distgram
from distgram.config.schema import check
from distgram.errors import SolutionError
from distgram.linalg.mesh import make_mesh
from distgram.pde.registry import get
from distgram.store.checkpoint import newest, read_thetas


@pytest.mark.slow
def test_heat_in_three_slabs_is_one_solution(tmp_path):
    """Each slab begins with the network before, so that its error, not an interpolant's, counts."""
    tree = changed(
        model={"hidden": [12, 12]},
        points={"interior": {"count": 512}},
        time={"slabs": None, "edges": [0.0, 0.3, 0.6, 1.0]},
        run={"steps": 300, "target_l2": 5e-13, "log_every": 5, "checkpoint_every": 300},
    )
    result = run(tmp_path / "run", tree)
    assert result.reason == "target" and result.l2_error is not None
    assert result.l2_error <= 1e-12
    assert [(s["begin"], s["end"], s["reason"]) for s in result.slabs or ()] == [
        (0.0, 0.3, "target"), (0.3, 0.6, "target"), (0.6, 1.0, "target"),
    ]  # fmt: skip
    with np.load(tmp_path / "run" / "solution.npz") as file:
        known = get("heat").known()
        assert np.array_equal(file["x"], known.x) and np.array_equal(file["axis_0"], known.grid[0])
        assert np.sqrt(np.mean((file["u"] - known.u) ** 2)) == result.l2_error
        assert len(file["points_interior"]) == 3 * 512
    u = distgram.load(tmp_path / "run")
    assert np.max(np.abs(u(known.x) - known.u)) < 1e-11
    x = np.linspace(0.0, 1.0, 33)
    for edge in (0.3, 0.6):
        # of two neighbouring numbers the second lies in the later slab
        sides = [np.stack([np.full(33, t), x], axis=1) for t in (np.nextafter(edge, 0), edge)]
        assert np.max(np.abs(u(sides[1]) - u(sides[0]))) < 1e-14
    # derivatives are those of each slab: the equation holds in all of them
    inside = np.stack([np.repeat([0.1, 0.45, 0.9], 33), np.tile(x, 3)], axis=1)
    residual = u.partial(inside, 0) - 0.25 * u.partial(inside, 1, 2)
    assert np.max(np.abs(residual)) < 1e-9


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """Two slabs of four steps, uninterrupted."""
    folder = tmp_path_factory.mktemp("slabs") / "run"
    assert run(folder, HEAT).reason == "step budget"
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("asked_at", [3, 4, 6])
def test_resumed_equals_uninterrupted(tmp_path, whole, asked_at):
    """Stopped at the end of slab 1, between the slabs, and within slab 2."""
    folder = tmp_path / "run"
    stopped = stopped_at(folder, HEAT, asked_at)
    assert stopped.reason == "stop requested" and stopped.steps == {3: 4, 4: 4, 6: 7}[asked_at]
    assert len(read_thetas(newest(folder / "checkpoints"))) == (1 if asked_at == 3 else 2)
    ended = resumed(folder, HEAT)
    assert (ended.reason, ended.steps) == ("step budget", 8)
    assert rows(folder) == rows(whole)
    assert [(r["step"], r["slab"]) for r in rows(whole)] == [(s, 1 + (s > 4)) for s in range(9)]
    thetas = [read_thetas(newest(f / "checkpoints")) for f in (folder, whole)]
    assert len(thetas[0]) == 2 and not np.array_equal(*thetas[0])
    assert np.array_equal(thetas[0], thetas[1])
    with np.load(folder / "solution.npz") as a, np.load(whole / "solution.npz") as b:
        assert np.array_equal(a["u"], b["u"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "sampling",
    [
        {"name": "rad", "every": 2},
        {"name": "leverage", "every": 3, "grow": {"budget": 200, "every": 2}},  # once a slab
    ],
)
def test_resumed_equals_uninterrupted_where_points_move_in_slabs(tmp_path, sampling):
    """Stopped within slab 1, before its last move, and within slab 2, after the first one."""
    tree = HEAT | {"sampling": sampling}
    whole = tmp_path / "whole"
    assert run(whole, tree).steps == 8
    for asked_at in (2, 6):
        folder = tmp_path / f"stopped{asked_at}"
        assert stopped_at(folder, tree, asked_at).reason == "stop requested"
        assert resumed(folder, tree).steps == 8
        assert rows(folder) == rows(whole)
        thetas = [read_thetas(newest(f / "checkpoints")) for f in (folder, whole)]
        assert np.array_equal(thetas[0], thetas[1])
        with np.load(folder / "solution.npz") as a, np.load(whole / "solution.npz") as b:
            assert all(np.array_equal(a[name], b[name]) for name in a.files)
            assert len(a["points_interior"]) == (200 if "grow" in sampling else 100)


@pytest.mark.slow
def test_a_watch_over_steps_hears_of_all_that_compiles_between_two(tmp_path):
    heard: list[bool] = []
    grown = HEAT | {"sampling": {"name": "fresh", "every": 3, "grow": {"budget": 200, "every": 2}}}
    run(tmp_path / "run", grown, alive=heard.append)
    assert heard[:4] == [True, False, False, True]  # the points grow after step 2
    assert heard.count(False) == 8  # before each step
    assert heard.count(True) == 4  # at the start, a growth, the next slab, which keeps it, the end


def test_soft_initial_values_are_those_of_the_slab_before():
    """Without a hard constraint the initial term of slab 2 aims at slab 1, not at the exact one."""
    tree = changed(
        model={"hard_constraint": False},
        points={name: {"count": 64} for name in ("interior", "initial", "boundary")},
    )
    first = stage_of(check(tree), make_mesh(1))
    assert first.slabs_left == 1
    theta = first.model.theta0 + 0.1
    second = stage_of(check(tree), make_mesh(1), frozen=[np.asarray(theta)])
    x = jnp.stack([jnp.full(5, 0.5), jnp.linspace(0, 1, 5)], axis=1)
    assert second.slabs_left == 0 and second.terms[1].name == "initial"
    assert np.array_equal(
        jax.vmap(second.terms[1].target)(x), jax.vmap(first.model.field(theta))(x)
    )


@pytest.mark.slow
def test_a_later_slab_takes_a_step_before_its_target_counts(tmp_path):
    """Else it would end with the parameters of another slab, also where that took none."""
    result = run(tmp_path / "run", changed(run={"target_l2": 1e9}))
    assert result.reason == "target" and result.slabs is not None
    assert [slab["steps"] for slab in result.slabs] == [0, 1]


@pytest.mark.slow
def test_a_stalled_slab_warns_and_the_next_one_begins(tmp_path):
    """Steps too small to change a number: no slab can make progress."""
    rule = {"name": "adam", "learning_rate": 1e-300}
    tree = changed(run={"steps": 50, "patience": 3}, rule=rule)
    said = []
    result = run(tmp_path / "run", tree, say=said.append)
    assert (result.reason, result.success, result.steps) == ("stalled", False, 8)
    assert [s["steps"] for s in result.slabs or ()] == [4, 4]
    warning = "warning: slab 1 of 2, from 0 to 0.5: stalled after 4 steps"
    assert any(line.startswith(warning) for line in said)


def test_a_run_that_ends_early_is_known_so_far(tmp_path):
    result = run(tmp_path / "run", changed(run={"steps": 10**6, "time_budget_s": 0.05}))
    assert result.reason == "time budget" and len(result.slabs or ()) == 1
    u = distgram.load(tmp_path / "run")
    assert u([[0.5, 0.5]]).shape == (1, 1)
    with pytest.raises(SolutionError, match=r"time 0\.8: the run has come to 0\.5, in slab 1 of 2"):
        u([[0.2, 0.5], [0.8, 0.5]])
    with np.load(tmp_path / "run" / "solution.npz") as file:
        assert file["x"][:, 0].max() == 0.49 and result.l2_error is not None
