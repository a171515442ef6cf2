"""What is chosen for a problem of which nothing else is said, and time slabs that are cut."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import stages
from library import run

import distgram as dg
from distgram.config import schema
from distgram.config.build import setup
from distgram.errors import ConfigError, DiagnosisError, ExportError
from distgram.linalg.mesh import make_mesh
from distgram.net.mlp import MLP, stretched
from distgram.pde.problem import HardConstraint
from distgram.pde.registry import get
from distgram.run import automatic, halving, hooks
from distgram.run.clock import Clock
from distgram.run.ends import Judge, Moment, unmoved
from distgram.run.estimate import handed_on
from distgram.run.setup import Setup, Slabs
from distgram.run.slabs import halved
from distgram.run.stage import build_stage
from distgram.run.state import start

TREE = {"problem": {"name": "heat"}, "run": {"steps": 12, "log_every": 2, "checkpoint_every": 4}}


TINY: dict = {
    "network": MLP((5, 5), features="periodic"),
    "points": {"interior": 60, "initial": 16},
}


def cut(**slabs) -> Setup:
    return Setup(
        get("kdv"),
        network=MLP((5, 5), features="periodic"),
        points={"interior": 60, "initial": 16},
        slabs=Slabs(4, **slabs),
    )


def test_a_toml_or_a_python_file_with_a_problem_alone_leaves_all_to_the_solver(tmp_path):
    path = tmp_path / "heat.toml"
    path.write_text('[problem]\nname = "heat"\n')
    config = schema.load(path)
    assert config.automatic
    found, chosen = setup(config), automatic.choices(get("heat"))
    assert all(getattr(found, key) == value for key, value in chosen.items())
    again = schema.check(schema.dump(config))
    assert again.automatic and setup(again).network == setup(config).network
    assert not schema.load(path, ["model.hidden=[4]"]).automatic


def test_automatic_beside_a_table_of_what_it_chooses_is_refused():
    with pytest.raises(ConfigError, match="automatic = true, and model is given"):
        schema.check(TREE | {"automatic": True, "model": {"hidden": [4]}})


def test_choices_follow_the_problem():
    kdv, poisson = (automatic.choices(get(name)) for name in ("kdv", "poisson10d"))
    assert kdv["network"].features == "periodic" and kdv["slabs"] is not None
    assert poisson["network"].features == "normalize" and poisson["slabs"] is None
    assert all(draw.count >= 1 for draw in poisson["points"].values())


def test_solve_with_nothing_but_a_problem_takes_the_choices():
    solution = dg.solve(get("heat"), steps=2, progress=False)
    assert solution.setup.network == automatic.choices(get("heat"))["network"]
    assert solution.result is not None and len(solution.result.slabs or ()) == 1
    fixed = dg.solve(get("heat"), network=MLP((4,)), steps=1, progress=False)
    assert fixed.setup.slabs is None and not fixed.setup.balance


@pytest.mark.parametrize("devices", [1, 4])
def test_balance_gives_all_rows_of_the_jacobian_one_size(devices):
    stage = stages.stage("wave", devices, network=MLP((6, 6)), points={
        "interior": 64, "initial": 32, "boundary": 32})  # fmt: skip
    factors = automatic.balance(stage)
    assert min(factors.values()) == 1.0
    stage = stage.balanced(factors)
    theta, points = stage.model.theta0, stage.points()

    def trace(i):
        rows = stage.residual.only(i).block(theta, (points[i],))
        return jnp.sum(rows[:, :-1] ** 2)

    traces = np.array([float(trace(i)) for i in range(3)])
    np.testing.assert_allclose(traces, traces[0], rtol=1e-12)


def test_what_is_reported_stays_in_the_weights_of_the_problem():
    """Balanced or not, the first row has the same residuals: those at θ₀."""
    given = dict(network=MLP((6, 6)), points={"interior": 64, "initial": 32, "boundary": 32})
    rows = [
        dg.solve(get("wave"), **given, balance=b, steps=1, progress=False).history[0]
        for b in (False, True)
    ]
    for name, value in rows[0]["terms"].items():
        assert rows[1]["terms"][name] == pytest.approx(value, rel=1e-12)


def test_all_slabs_compile_as_the_first():
    first = build_stage(cut(), make_mesh(1))
    second = first.next_slab(np.asarray(first.model.theta0) + 0.1)
    shorter = second.halved(np.asarray(second.model.theta0))
    assert second.compiles_as(first) and shorter.compiles_as(first)
    assert not build_stage(replace(cut(), seed=1), make_mesh(1)).compiles_as(first)


@pytest.mark.parametrize("devices", [1, 4])
def test_the_shared_system_is_that_of_the_slab(devices):
    """Rows of the shared function at what a slab holds fixed: those of the slab's own problem."""
    first = build_stage(cut(), make_mesh(devices))
    theta = np.asarray(first.model.theta0) + 0.1
    later = first.next_slab(theta).next_slab(2.0 * theta)
    points, at = later.points(), jnp.asarray(3.0 * theta)

    @jax.jit
    def losses(system, theta, points):
        return system.rows(theta, points).term_losses()

    shared = losses(later.residual, at, points)
    own = []
    for term, placed in zip(later.terms, points, strict=True):
        r = jax.vmap(term.residual(later.model.field(at)))(placed.x)
        own.append(jnp.sum((placed.sqrt_weight[:, None] * r) ** 2))
    np.testing.assert_allclose(shared, own, rtol=1e-12)
    t = later.problem.domain.lower[0]
    assert t == 0.5 and later.interval == (0.5, 0.75)


def test_a_stretched_network_is_the_same_function_at_the_same_times():
    problem = get("kdv")
    stage = stages.stage(problem, network=MLP((5, 5), features="periodic"), points={
        "interior": 8, "initial": 4})  # fmt: skip
    model, theta = stage.model, stage.model.theta0
    moved = stretched(model, theta, 0, 0.5, -0.25)
    x = jnp.asarray([0.3, 0.2])
    z = 2.0 * x[0] - 1.0  # time mapped to [-1, 1]
    there = x.at[0].set((0.5 * z - 0.25 + 1.0) / 2.0)
    np.testing.assert_allclose(model.field(moved)(x), model.field(theta)(there), rtol=1e-12)
    features = MLP((5,), features="fourier", modes=3)
    other = stages.stage(
        "heat", network=features, points={"interior": 4, "initial": 4, "boundary": 4}
    )
    assert stretched(other.model, other.model.theta0, 0, 0.5, 0.0) is other.model.theta0


def test_a_halved_slab_starts_as_what_the_longer_one_was():
    first = build_stage(cut(), make_mesh(1))
    state = start(first)
    shorter = first.halved(np.asarray(state.best_theta))
    assert shorter.interval == (0.0, 0.125) and shorter.edges[-1] == 1.0
    after = start(shorter, state, first)
    x = jnp.asarray([0.1, 0.4])
    candidates = [
        first.model.field(state.best_theta)(x),
        shorter.model.field(state.best_theta)(x),
    ]
    found = shorter.model.field(after.theta)(x)
    assert min(float(jnp.abs(found - c)[0]) for c in candidates) < 1e-12


def test_the_second_half_of_a_slab_starts_as_what_the_whole_was_there():
    """Where what the state before holds fits worse: here nothing that was learnt."""
    square = dg.Box((0.0, 0.0), (1.0, 1.0))
    terms = {
        "interior": dg.Term(lambda u: lambda x: dg.partial(u, 0)(x) - u(x), 0.0, square),
        "initial": dg.Initial(1.0, square, time=0),
    }
    problem = dg.Problem(square, terms, time=0, exact=lambda x: jnp.exp(x[0]))
    network = MLP((10,), features="normalize")
    u = dg.solve(problem, network=network, steps=40, progress=False)
    slabs = Slabs(1, halve_after=10)
    first = build_stage(Setup(problem, network=network, slabs=slabs), make_mesh(1))
    half = first.halved(u.theta)
    second = half.next_slab(np.asarray(start(half, start(first), first).theta))
    assert [guess.end for guess in second.guesses] == [1.0] and second.interval == (0.5, 1.0)
    after = start(second, start(first), half)
    x = jnp.asarray([[0.6, 0.2], [0.9, 0.7]])
    found = np.asarray(second.residual.map(second.model.field(after.theta), x))
    np.testing.assert_allclose(found, u(np.asarray(x)), rtol=1e-12)
    assert second.next_growth().guesses == second.guesses and first.guesses == ()


def test_halved_edges_keep_what_is_solved_and_the_end():
    edges = halved((0.0, 0.25, 0.5, 0.75, 1.0), 1)
    assert edges[:2] == (0.0, 0.25) and edges[2] == 0.375 and edges[-1] == 1.0
    assert np.diff(edges[1:]).max() <= 0.125 + 1e-12


def test_a_slab_that_does_not_fall_is_cut_and_the_run_resumes_bitwise(tmp_path, monkeypatch):
    monkeypatch.setattr(halving, "LEAST_SLAB", 0.3)  # halves become quarters, and no less

    def solve(folder, steps, resume=False):
        return dg.solve(
            get("kdv"),
            network=MLP((5, 5), features="periodic"),
            points={"interior": 60, "initial": 16},
            slabs=Slabs(2, halve_after=3, fall=1e-12),
            limits=dg.Limits(steps=steps),
            schedule=dg.Schedule(log_every=1, checkpoint_every=2),
            run_dir=folder,
            resume=resume,
            progress=False,
        )

    whole = solve(tmp_path / "whole", 4)
    slabs = whole.result.slabs
    assert len(slabs) == 4 and slabs[-1]["end"] == 1.0
    begins = [slab["begin"] for slab in slabs]
    assert begins == sorted(begins) and begins[0] == 0.0

    class Stop(Exception):
        pass

    seen = []

    def stop(self, stage, state, seconds, save=hooks.Session.save):
        save(self, stage, state, seconds)
        seen.append(state.step)
        if len(seen) == 6:
            raise Stop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hooks.Session, "save", stop)
        with pytest.raises(Stop):
            solve(tmp_path / "cut", 4)
    again = solve(tmp_path / "cut", 4, resume=True)
    assert [s["end"] for s in again.result.slabs] == [s["end"] for s in slabs]
    for a, b in zip(whole.thetas, again.thetas, strict=True):
        np.testing.assert_array_equal(a, b)
    loaded = dg.load(tmp_path / "cut", problem=get("kdv"))
    x = np.array([[0.9, 0.1], [0.05, -0.3]])
    np.testing.assert_allclose(loaded(x), whole(x), rtol=0, atol=0)


def test_a_number_of_steps_ends_a_run_unless_a_tolerance_or_a_time_does():
    assert dg.Limits().max_steps == 300 and dg.Limits(steps=7, tolerance=1e-3).max_steps == 7
    assert dg.Limits(tolerance=1e-3).max_steps is dg.Limits(time_budget_s=60.0).max_steps is None
    assert dg.Limits().stall_steps == dg.Limits(steps=7, tolerance=1e-3).stall_steps == 100
    assert dg.Limits(tolerance=1e-3).stall_steps == 400
    assert dg.Limits(tolerance=1e-3, patience=7).stall_steps == 7


@pytest.mark.parametrize(
    "change, cuts",
    [
        ({}, True),
        ({"fallen_step": 11}, False),  # the loss fell to a tenth a step less ago than it may
        ({"own": 0.9e-3}, False),  # half of time, half of the tolerance
        ({"own": 1.1e-3, "tolerance": None}, False),
        ({"left": 9.0}, False),  # 10 s were spent on the slab
        ({"fallen_step": 110, "reason": "stalled"}, True),
        ({"reason": "time budget"}, False),
        ({"row": None}, False),
    ],
)
def test_a_slab_that_rests_above_the_tolerance_is_cut(change, cuts):
    given = {"fallen_step": 10, "own": 1e-2, "tolerance": 2e-3, "left": 30.0, "row": {}} | change
    limits = dg.Limits(tolerance=given["tolerance"], time_budget_s=100.0)
    asked_for = replace(cut(), slabs=Slabs(2, halve_after=100), limits=limits)
    stage = build_stage(asked_for, make_mesh(1))
    judge = Judge(limits, Clock(), [], lambda: False, part=stage.part)
    state = start(stage)._replace(step=110, fallen_step=given["fallen_step"], best_loss=0.0)
    asked = {key: given[key] for key in ("own", "left", "row")} | {"reason": given.get("reason")}
    moment = Moment(begun=0, seconds=10.0, **asked)
    halving.Halving(stage, judge)(state, moment)
    assert moment.halve == cuts and (moment.reason is None or not cuts)


def test_errors_are_handed_on_from_slab_to_slab():
    assert handed_on(0.1, 0.2, 3.0) == pytest.approx(0.7)
    assert handed_on(0.1, 0.2, 0.5) == pytest.approx(0.3)
    assert handed_on(None, 0.2, 1.0) is None and handed_on(0.1, None, 1.0) is None


def test_a_term_that_has_not_fallen_is_named():
    first = {"terms": {"interior": 1e4, "initial": 0.5}}
    last = {"terms": {"interior": 1e-6, "initial": 0.5}}
    assert unmoved(first, last, 100) == ["initial"]
    assert unmoved(first, last, 10) == []
    assert unmoved(first, {"terms": {"interior": 1e-6, "initial": 1e-7}}, 100) == []


def test_a_run_is_no_success_where_its_error_is_above_what_was_asked():
    solution = dg.solve(get("heat"), network=MLP((4,)), steps=2, tolerance=1e-9, progress=False)
    result = solution.result
    assert result is not None and not result.success
    assert "not solved" in str(result.unsolved) and "1e-09" in str(result.unsolved)
    ended = replace(result, tolerance=None, error_estimate=0.5)
    assert "is 0.5" in str(ended.unsolved)
    assert replace(ended, error_estimate=1e-3).unsolved is None
    timed = replace(ended, error_estimate=None, reason="time budget")
    assert timed.unsolved is None and "too little" in str(replace(timed, steps=99).unsolved)


def test_soft_slabs_of_a_problem_whose_transform_they_could_not_go_on_from(tmp_path):
    """Its transform holds a velocity, which a slab does not hand on: without it the run ends well,
    and its folder can be read."""
    box = dg.Box((0, 0), (1, 1))
    terms = {
        "interior": dg.Term(lambda u: lambda x: dg.partial(u, 0, 2)(x), 0.0, box),
        "initial": dg.Term(dg.value, 1.0, box.start()),
        "velocity": dg.Term(lambda u: dg.partial(u, 0), 0.0, box.start()),
    }
    constraint = HardConstraint(jnp.ones_like, lambda x: x[:1] ** 2, ("initial", "velocity"))
    problem = dg.Problem(box, terms, exact=1.0, time=0, constraint=constraint)
    points = {"interior": 20, "initial": 5, "velocity": 5}
    solution = dg.solve(
        problem,
        network=MLP((4,)),
        points=points,
        slabs=Slabs(2),
        steps=2,
        run_dir=tmp_path / "run",
        progress=False,
    )
    assert solution.result is not None and len(solution.result.slabs or ()) == 2
    assert (tmp_path / "run" / "result.json").is_file()
    x = np.array([[0.9, 0.5]])
    np.testing.assert_array_equal(dg.load(tmp_path / "run", problem=problem)(x), solution(x))


def test_a_first_slab_alone_is_no_network_for_all_of_time(tmp_path):
    solution = dg.solve(get("kdv"), **TINY, slabs=Slabs(2), steps=1, progress=False)
    first = replace(solution, parts=solution.parts[:1], thetas=solution.thetas[:1])
    with pytest.raises(ExportError, match="one network for all of time"):
        first.export("safetensors", tmp_path)
    whole = dg.solve(get("kdv"), **TINY, slabs=Slabs(1), steps=1, progress=False)
    whole.export("jax", tmp_path)


def test_kernels_of_a_run_whose_time_is_in_one_piece(tmp_path):
    from distgram.report.sections import diagnose

    def solved(slabs: int) -> Path:
        tree = {"problem": {"name": "heat"}, "model": {"hidden": [4]}, "run": {"steps": 2}}
        tree |= {"points": {name: {"count": 9} for name in ("interior", "initial", "boundary")}}
        run(tmp_path / str(slabs), tree | {"time": {"slabs": slabs}})
        return tmp_path / str(slabs)

    picture, _ = diagnose(solved(1), ["ntk"], ["final"], [0.5, 0.5], make_mesh(1))
    assert picture.is_file()
    with pytest.raises(DiagnosisError, match="2 time slabs"):
        diagnose(solved(2), ["ntk"], ["final"], [0.5, 0.5], make_mesh(1))
