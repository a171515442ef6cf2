"""Causal slabs: a problem cut along time, solved piece by piece as one run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cli_runs import CLOCKS

import distgram
from distgram import recording
from distgram.assemble import assemble
from distgram.checkpoint import newest, read_thetas
from distgram.checks import check_slabs
from distgram.config import ConfigError, check, dump
from distgram.mesh import make_mesh
from distgram.operators import laplacian, partial, time_derivative, value
from distgram.problem import HardConstraint, Problem, ProblemError, Term
from distgram.regions import Box, Faces, Initial
from distgram.registry import get
from distgram.slabs import slab, slab_edges
from distgram.solution import SolutionError
from distgram.solve import Result, solve

HEAT: dict[str, Any] = {
    "problem": {"name": "heat"},
    "model": {"hidden": [6], "features": "normalize", "hard_constraint": True},
    "points": {"interior": {"count": 100}},
    "time": {"slabs": 2},
    "run": {"steps": 4, "log_every": 1, "checkpoint_every": 2, "held_out": 64},
}
BOX = Box((1.0, -1.0), (3.0, 1.0))  # times from 1 to 3


def changed(**tables) -> dict[str, Any]:
    return HEAT | {name: HEAT.get(name, {}) | table for name, table in tables.items()}


def run(folder: Path, tree: dict[str, Any], resume=False, watch=lambda row: None) -> Result:
    config = check(tree)
    if not resume:
        recording.start(folder, dump(config))
    return solve(config, make_mesh(1), folder, resume=resume, watch=watch)


def rows(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in CLOCKS} for line in lines]


# -- the cut --------------------------------------------------------------------------------------


def moving(x):
    """Boundary values that move:  u = t x  at x = -1 and x = 1."""
    return x[:1] * x[1:]


def distance(x):
    return (x[:1] - 1) * (1 - x[1:]) * (1 + x[1:])


def diffusion(initial=(value,), sides=((1, 0), (1, 1))) -> Problem:
    names = [f"initial{i}" for i in range(len(initial))]
    terms = [Term(n, d, d(moving), Initial(BOX)) for n, d in zip(names, initial, strict=True)]
    return Problem(
        "diffusion",
        BOX,
        (
            Term(
                "interior",
                lambda u: lambda x: partial(u, 0)(x) - laplacian(u, (1,))(x),
                moving,
                BOX,
            ),
            *terms,
            Term("boundary", value, moving, Faces(BOX, sides)),
        ),
        constraint=HardConstraint(moving, distance, (*names, "boundary")),
        time=0,
    )


def test_a_hard_constraint_goes_on_from_the_solution_before():
    """g_k = v at t_k to the last bit, and with l_k the moving boundary values at all times."""
    problem = diffusion()
    before = lambda x: moving(x) + distance(x) * jnp.sin(3 * x[1:] + x[:1])  # noqa: E731
    hard = slab(problem, 1.5, 2.25, before).constraint
    assert hard is not None
    x = np.linspace(-1.0, 1.0, 9)
    start = jnp.asarray(np.stack([np.full(9, 1.5), x], axis=1))
    assert np.array_equal(jax.vmap(hard.lift)(start), jax.vmap(before)(start))
    assert np.array_equal(jax.vmap(hard.distance)(start), np.zeros((9, 1)))
    for t in (1.5, 1.7, 2.25):
        for side in (-1.0, 1.0):
            at = jnp.array([t, side])
            assert abs(hard.lift(at) - moving(at)) < 1e-15 and hard.distance(at) == 0.0
    # what a step needs of it: derivatives of the network before, exact
    at, there = jnp.array([2.0, 0.3]), jnp.array([1.5, 0.3])
    curved = [float(laplacian(f, (1,))(p)[0]) for f, p in ((hard.lift, at), (before, there))]
    assert curved[0] == pytest.approx(curved[1], rel=1e-13)
    assert float(partial(hard.lift, 0)(at)[0]) == pytest.approx(0.3, rel=1e-13)


def test_initial_terms_take_their_operator_of_the_solution_before():
    """An equation of second order in time begins with u and u_t."""
    problem = replace(diffusion(initial=(value, time_derivative)), constraint=None)
    before = lambda x: jnp.sin(x[:1] * x[1:])  # noqa: E731
    part = slab(problem, 2.0, 3.0, before)
    x = jnp.array([2.0, 0.4])
    targets = {t.name: t.target(x) for t in part.terms}
    assert targets["initial0"] == jnp.sin(0.8)
    assert float(targets["initial1"][0]) == pytest.approx(0.4 * np.cos(0.8), rel=1e-14)
    assert targets["boundary"] == moving(x)
    latest = {t.name: t.region.sample(64, 0)[:, 0].max() for t in part.terms}
    assert latest["initial0"] == latest["initial1"] == 2.0 < latest["boundary"] <= 3.0
    assert all(t.region.sample(64, 0)[:, 0].min() >= 2.0 for t in part.terms)
    assert slab(problem, 1.0, 2.0, None).terms[1].target is problem.terms[1].target


def test_what_is_known_is_cut_without_overlap():
    whole = get("heat")
    edges = slab_edges(whole, [0.0, 0.35, 0.6, 1.0])
    parts = [slab(whole, a, b, None) for a, b in zip(edges[:-1], edges[1:], strict=True)]
    known, pieces = whole.known(), [part.known() for part in parts]
    assert np.array_equal(known.x, np.concatenate([p.x for p in pieces]))
    assert np.array_equal(known.u, np.concatenate([p.u for p in pieces]))
    assert [len(p.grid[0]) for p in pieces] == [35, 25, 41]


def test_equal_slabs_end_where_time_ends():
    assert slab_edges(diffusion(), 3) == (1.0, 1 + 2 / 3, 1 + 4 / 3, 3.0)


@pytest.mark.parametrize(
    "tables, error",
    [
        ({"time": {"slabs": None, "edges": [0.0, 0.4, 0.9]}}, r"time\.edges.*from 0\.0 to 1\.0"),
        ({"time": {"slabs": None, "edges": [0.0, 0.6, 0.4, 1.0]}}, r"time\.edges.*each.* larger"),
        ({"time": {"slabs": 2, "edges": [0.0, 1.0]}}, "exactly one of 'slabs' and 'edges'"),
        ({"time": {"slabs": 0}}, r"time\.slabs = 0"),
        ({"run": {"steps": 0}}, r"run\.steps = 0 with \[time\]"),
        ({"problem": {"name": "laplace5d"}}, "'laplace5d' has no time"),
        (
            {"points": {"interior": {"count": 100, "sampler": "grid"}, "initial": {"count": 9}}},
            "points.initial: the hard constraint",
        ),
        (
            {"points": {"interior": {"count": 101, "sampler": "grid"}}},
            r"slab 1 of 2, from 0 to 0\.5: points\.interior.*grid",
        ),
    ],
)
def test_what_cannot_be_cut_is_refused_before_any_solving(tables, error):
    with pytest.raises((ConfigError, ProblemError, ValueError), match=error):
        assemble(check(changed(**tables)), make_mesh(1))


def test_a_problem_that_cannot_be_cut():
    whole = diffusion(sides=((1, 0), (1, 1), (0, 1)))
    with pytest.raises(ProblemError, match="'boundary'.*cannot cut it.*got Faces"):
        slab(whole, 1.0, 2.0, None)
    with pytest.raises(ProblemError, match="'initial1', which prescribes more than u"):
        slab(diffusion(initial=(value, time_derivative)), 1.0, 2.0, None)
    with pytest.raises(ProblemError, match="slab 2 of 2, from 2 to 3: never"):
        check_slabs(diffusion(), (1.0, 2.0, 3.0), _refuse_late)


def _refuse_late(part: Problem) -> None:
    if part.domain.lower[0] == 2.0:
        raise ProblemError("never")


# -- the run --------------------------------------------------------------------------------------


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

    def ask(row):
        if row["step"] == asked_at:
            (folder / recording.STOP).touch()

    stopped = run(folder, HEAT, watch=ask)
    assert stopped.reason == "stop requested" and stopped.steps == {3: 4, 4: 4, 6: 7}[asked_at]
    assert len(read_thetas(newest(folder / "checkpoints"))) == (1 if asked_at == 3 else 2)
    recording.clear_stop(folder)
    ended = run(folder, HEAT, resume=True)
    assert (ended.reason, ended.steps) == ("step budget", 8)
    assert rows(folder) == rows(whole)
    assert [(r["step"], r["slab"]) for r in rows(whole)] == [(s, 1 + (s > 4)) for s in range(9)]
    thetas = [read_thetas(newest(f / "checkpoints")) for f in (folder, whole)]
    assert len(thetas[0]) == 2 and not np.array_equal(*thetas[0])
    assert np.array_equal(thetas[0], thetas[1])
    with np.load(folder / "solution.npz") as a, np.load(whole / "solution.npz") as b:
        assert np.array_equal(a["u"], b["u"])


def test_soft_initial_values_are_those_of_the_slab_before():
    """Without a hard constraint the initial term of slab 2 aims at slab 1, not at the exact one."""
    tree = changed(
        model={"hard_constraint": False},
        points={name: {"count": 64} for name in ("interior", "initial", "boundary")},
    )
    first = assemble(check(tree), make_mesh(1))
    assert first.slabs_left == 1
    theta = first.model.theta0 + 0.1
    second = assemble(check(tree), make_mesh(1), frozen=[np.asarray(theta)])
    x = jnp.stack([jnp.full(5, 0.5), jnp.linspace(0, 1, 5)], axis=1)
    assert second.slabs_left == 0 and second.terms[1].name == "initial"
    assert np.array_equal(
        jax.vmap(second.terms[1].target)(x), jax.vmap(first.model.field(theta))(x)
    )


@pytest.mark.slow
def test_a_stalled_slab_warns_and_the_next_one_begins(tmp_path):
    """Steps too small to change a number: no slab can make progress."""
    rule = {"name": "adam", "learning_rate": 1e-300}
    tree = changed(run={"steps": 50, "patience": 3}, rule=rule)
    config, said = check(tree), []
    recording.start(tmp_path / "run", dump(config))
    result = solve(config, make_mesh(1), tmp_path / "run", say=said.append)
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
