"""`distgram.solve` from Python: objects in, a solution out."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from tomllib import loads
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cli_runs import CLOCKS, environment
from flax import nnx
from library import run

import distgram as dg
from distgram.config import schema
from distgram.errors import (
    CheckpointError,
    ConfigError,
    ModelError,
    PlanError,
    ProblemError,
    RegionError,
    RunError,
    SolutionError,
    UserError,
)
from distgram.linalg.mesh import make_mesh
from distgram.run import automatic, front
from distgram.store.checkpoint import newest, read_meta, read_thetas

ROOT = Path(__file__).parents[2]

HELMHOLTZ = """
import distgram as dg
import jax.numpy as jnp

k, square = 2.0, dg.Box((0, 0), (1, 1))
def exact(x):
    return jnp.sin(jnp.pi * x[0]) * jnp.sin(2 * jnp.pi * x[1])
problem = dg.Problem(square, {
    "interior": dg.Term(lambda u: lambda x: dg.laplacian(u)(x) + k**2 * u(x),
                        lambda x: (k**2 - 5 * jnp.pi**2) * exact(x), square),
    "edge": dg.Dirichlet(0.0, square.boundary),
}, exact=exact)
u = dg.solve(problem, network=dg.MLP([24]), points={"interior": 300, "edge": 120}, steps=200)
"""
RULE = """
class Halving(dg.Rule):
    '''The least-squares step, halved until the loss is least.'''
    def init(self, p):
        return ()
    def step(self, spectrum, losses_at, theta, state):
        cutoff = 1e-4 * spectrum.s[0]
        kept = spectrum.s > cutoff
        direction, sizes = spectrum.direction(1.0 * kept), 0.5 ** jnp.arange(12)
        losses = losses_at(theta - sizes[:, None] * direction)
        best = jnp.argmin(losses)
        info = dg.StepInfo(losses[best], kept.sum(), cutoff**2, sizes[best], True)
        return theta - sizes[best] * direction, state, info
u = dg.solve(problem, rule=Halving(), network=dg.MLP([16]), points=points, steps=40)
"""
NNX = """
class Net(nnx.Module):
    def __init__(self, width, rngs):
        kind = dict(rngs=rngs, param_dtype=jnp.float64)
        self.first = nnx.Linear(2, width, **kind)
        self.last = nnx.Linear(width, 1, **kind)
    def __call__(self, x):
        return self.last(jnp.tanh(self.first(x)))
u = dg.solve(problem, network=Net(16, nnx.Rngs(0)), points=points, steps=60)
"""
INVERSE = """
line = dg.Box((0,), (1,))
x = np.linspace(0, 1, 30)[:, None]
def decay(rate):
    return dg.Problem(line, {
        "decay": dg.Term(lambda u: lambda x: dg.partial(u, 0)(x) + rate * u(x), 0.0, line),
        "data": dg.measured(x, np.exp(-2 * x)),
    })
u = dg.solve(decay, unknown={"rate": dg.Unknown(1.0, positive=True)}, network=dg.MLP([8]),
             points={"decay": 64}, steps=60)
"""


@pytest.fixture(scope="module", autouse=True)
def one_device():
    """Eight forced devices on two cores wait for each other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(front, "make_mesh", lambda: make_mesh(1))
        yield


def lines(script: str) -> int:
    """The number of lines of a script that are not empty."""
    return sum(bool(line.strip()) for line in script.splitlines())


def played(script: str, **known: Any) -> Any:
    """u of a script, as a cell of a notebook that knows these names."""
    here = {"dg": dg, "jax": jax, "jnp": jnp, "np": np, "nnx": nnx} | known
    exec(compile(script, "cell", "exec"), here)
    return here["u"]


def exact(x):
    return jnp.sin(jnp.pi * x[0]) * jnp.sin(jnp.pi * x[1])


SQUARE = dg.Box((0, 0), (1, 1))
POINTS = {"interior": 120, "edge": 60}


def poisson(**changes: Any) -> dg.Problem:
    """-Δu = 2π² u*, u = u* = sin πx sin πy on the border."""
    terms = {
        "interior": dg.Term(dg.laplacian, lambda x: -2 * jnp.pi**2 * exact(x), SQUARE),
        "edge": dg.Dirichlet(0.0, SQUARE.boundary),
    }
    return dg.Problem(SQUARE, terms, **({"exact": exact} | changes))


def tiny(problem: Any = None, **options: Any) -> dg.Solution:
    """Six steps, everything seen."""
    given: dict[str, Any] = {
        "network": dg.MLP([8]),
        "points": POINTS,
        "steps": 6,
        "schedule": dg.Schedule(log_every=1, spectra_every=1, checkpoint_every=2, held_out=64),
        "progress": False,
    }
    return dg.solve(problem or poisson(), **(given | options))


def timeless(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows without what clocks say."""
    return [{k: v for k, v in row.items() if k not in CLOCKS} for row in rows]


@pytest.fixture(scope="module")
def six() -> dg.Solution:
    """A run in memory. Not to be changed."""
    return tiny()


# -- what a person writes -------------------------------------------------------------------------


@pytest.mark.slow
def test_helmholtz_on_a_square_in_a_dozen_lines():
    assert lines(HELMHOLTZ) <= 15
    u = played(HELMHOLTZ)
    assert u.error < 1e-6 and u.result.success and u.result.run_dir is None
    x = np.random.default_rng(0).random((50, 2))
    exact = np.sin(np.pi * x[:, :1]) * np.sin(2 * np.pi * x[:, 1:])
    assert np.max(np.abs(u(x) - exact)) < 1e-5


def test_a_rule_of_ones_own():
    assert lines(RULE) <= 15
    u = played(RULE, problem=poisson(), points=POINTS)
    assert u.result.rule == "Halving" and u.described["rule"] == {"name": "Halving"}
    assert u.error < 1e-3
    spectrum = u.spectra[-1]
    assert spectrum.cutoff == pytest.approx(1e-4 * spectrum.singular_values[0], rel=1e-12)
    assert spectrum.rank == np.sum(spectrum.singular_values > spectrum.cutoff)


def test_a_network_of_ones_own():
    assert lines(NNX) <= 15
    u = played(NNX, problem=poisson(), points=POINTS)
    assert u.result.P == 4 * 16 + 1 and u.error < 1e-3
    assert u.described["model"]["network"] == "Net"


def test_data_and_an_unknown_coefficient():
    assert lines(INVERSE) <= 15
    u = played(INVERSE)
    assert u.coefficients["rate"] == pytest.approx(2.0, rel=1e-5)
    assert u.result.unknown["rate"]["value"] == u.coefficients["rate"]
    assert u.history[-1]["unknown"]["rate"] == pytest.approx(2.0, rel=1e-3)
    assert np.max(np.abs(u([[0.5]]) - np.exp(-1.0))) < 1e-4
    assert u.residual("decay", [[0.3]]).shape == (1, 1)


class Twofold(dg.Network):
    """A network for whatever problem comes."""

    def build(self, problem, key):
        return dg.MLP([6]).build(problem, key)


def test_a_description_of_a_network_of_ones_own():
    u = tiny(network=Twofold(), mesh=dg.make_mesh(2))
    assert u.result is not None and (u.result.P, u.result.devices) == (25, 2)
    assert u.described["model"]["network"] == "Twofold"


def test_all_is_chosen_where_nothing_is_given():
    u = dg.solve(poisson(), steps=0, progress=False)
    assert u.result is not None
    assert (u.result.reason, u.result.rule) == ("step budget", "adaptive_ratio")
    chosen = automatic.choices(poisson())
    assert u.setup.network == chosen["network"] and u.setup.balance
    assert u.result.S == sum(draw.count for draw in chosen["points"].values())


def test_time_slabs_from_python():
    """u_t = -u in two slabs, of which the second begins with the end of the first."""
    span = dg.Box((0, 0), (1, 1))
    terms = {
        "decay": dg.Term(lambda u: lambda x: dg.partial(u, 0)(x) + u(x), 0.0, span),
        "start": dg.Term(dg.value, 1.0, span.start()),
    }
    problem = dg.Problem(span, terms, exact=lambda x: jnp.exp(-x[0]), time=0)
    u = tiny(problem, slabs=dg.Slabs(2), points={"decay": 60, "start": 10}, steps=20)
    assert u.result is not None and u.result.slabs is not None
    assert [slab["end"] for slab in u.result.slabs] == [0.5, 1.0] and len(u.thetas) == 2
    assert u.error is not None and u.error < 1e-3
    assert u.described["time"] == {"slabs": 2, "warm_start": True, "fall": 1e-6}


# -- what a solution tells -------------------------------------------------------------------------


def test_a_run_in_memory_leaves_no_file(tmp_path, monkeypatch, six):
    monkeypatch.chdir(tmp_path)
    again = tiny()
    assert list(tmp_path.iterdir()) == []
    assert np.array_equal(again.theta, six.theta)
    assert timeless(again.history) == timeless(six.history)


def test_history_and_spectra_agree(six):
    """The spectrum that led to a step is that of the parameters before it: RCE_0² is their loss."""
    assert [row["step"] for row in six.history] == list(range(7))
    assert [spectrum.step for spectrum in six.spectra] == [1, 2, 3, 4, 5, 6]
    loss = {row["step"]: row["mean_square_residual"] for row in six.history}
    for spectrum in six.spectra:
        assert spectrum.rce()[0] ** 2 == pytest.approx(loss[spectrum.step - 1], rel=1e-8)
        assert spectrum.rce().shape == (six.result.P + 1,)
        assert np.all(np.diff(spectrum.rce()) <= 0)
    best = min(loss.values())
    assert six.result.mean_square_residual == pytest.approx(best, rel=1e-12)
    assert six.error == six.history[-1]["relative_l2_error"] == six.result.relative_l2_error


def test_derivatives_and_residuals_are_those_of_the_function(six):
    x = np.random.default_rng(1).random((5, 2))
    h = 1e-5
    e = h * np.eye(2)
    slope = np.stack([(six(x + d) - six(x - d))[:, 0] / (2 * h) for d in e], axis=1)
    # h² of truncation times third derivatives of some 30, eps/h of rounding
    assert np.allclose(six.gradient(x), slope, rtol=0, atol=1e-7)
    assert np.allclose(six.partial(x, 1), six.gradient(x)[:, 1:], rtol=1e-12)
    curved = six.partial(x, 0, 2) + six.partial(x, 1, 2)
    assert np.allclose(six.laplacian(x), curved, rtol=1e-12)
    target = -2 * np.pi**2 * np.sin(np.pi * x[:, :1]) * np.sin(np.pi * x[:, 1:])
    assert np.allclose(six.residual("interior", x), curved - target, rtol=1e-12, atol=1e-12)
    assert np.array_equal(six.residual("edge", x), six(x))
    one = six(x[0])
    assert one.shape == (1,) and one == pytest.approx(six(x)[0], rel=1e-14)
    # the mean square residual is that of the terms at the points of the run
    squares = [np.mean(six.residual(n, p) ** 2) for n, p in six.record.points.items()]
    assert sum(squares) == pytest.approx(six.result.mean_square_residual, rel=1e-9)


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda u: u([[0.5, 0.5, 0.5]]), ["(1, 3)", "(n, 2)"]),
        (lambda u: u.residual("interoir", [0.5, 0.5]), ["'interoir'", "'interior'"]),
    ],
)
def test_a_question_that_cannot_be_answered_says_what_can(six, ask, words):
    with pytest.raises(SolutionError) as error:
        ask(six)
    assert all(word in str(error.value) for word in words)


# -- folders --------------------------------------------------------------------------------------


def test_resumed_from_python_equals_uninterrupted(tmp_path, six):
    folder = tmp_path / "run"
    first = tiny(run_dir=folder, steps=3)
    assert first.result is not None and first.result.run_dir == str(folder)
    again = tiny(run_dir=folder, resume=True)
    assert np.array_equal(again.theta, six.theta)
    assert np.array_equal(read_thetas(newest(folder / "checkpoints"))[-1], six.theta)
    assert timeless(again.history) == timeless(six.history)
    assert [s.step for s in again.spectra] == [1, 2, 3, 4, 5, 6]
    assert all(
        np.array_equal(a.singular_values, b.singular_values)
        for a, b in zip(again.spectra, six.spectra, strict=True)
    )
    config = loads((folder / "config.toml").read_text())
    assert config["problem"]["python"] is True and config["run"]["steps"] == 6
    assert read_meta(folder / "checkpoints")["config"] == config
    # a run that has ended goes on from its end, and adds nothing
    assert timeless(tiny(run_dir=folder, resume=True).history) == timeless(six.history)


def test_a_run_of_python_is_loaded_with_its_problem(tmp_path):
    folder = tmp_path / "run"
    u = tiny(run_dir=folder)
    with pytest.raises(RunError, match="problem="):
        dg.load(folder)
    with pytest.raises(ConfigError, match="started from Python"):
        schema.load(folder / "config.toml")
    loaded = dg.load(folder, problem=poisson())
    x = np.random.default_rng(2).random((9, 2))
    assert np.array_equal(loaded(x), u(x)) and loaded.result == u.result
    assert json.loads(json.dumps(u.history)) == loaded.history
    assert [s.step for s in loaded.spectra] == [s.step for s in u.spectra]
    start = dg.load(folder, "initial", problem=poisson())
    assert np.array_equal(start.theta, start.model.theta0) and start.result is None


def test_a_network_of_ones_own_is_loaded_with_itself(tmp_path):
    u = tiny(network=Twofold(), run_dir=tmp_path / "run")
    with pytest.raises(RunError, match="network="):
        dg.load(tmp_path / "run", problem=poisson())
    loaded = dg.load(tmp_path / "run", problem=poisson(), network=Twofold())
    assert np.array_equal(loaded([0.3, 0.4]), u([0.3, 0.4]))


def test_what_is_saved_is_what_is_loaded(tmp_path, six):
    six.save(tmp_path / "kept")
    loaded = dg.load(tmp_path / "kept", problem=poisson())
    assert np.array_equal(loaded.theta, six.theta) and loaded.error == six.error
    assert loaded.result == replace(six.result, run_dir=str(tmp_path / "kept"))
    assert loaded.history == json.loads(json.dumps(six.history))
    for a, b in zip(loaded.spectra, six.spectra, strict=True):
        assert a.step == b.step and np.array_equal(a.rce(), b.rce())
    # and once more, with everything that the first folder holds
    loaded.save(tmp_path / "again")
    for name in ("solution.npz", "spectra.npz"):
        with np.load(tmp_path / "kept" / name) as a, np.load(tmp_path / "again" / name) as b:
            assert sorted(a.files) == sorted(b.files) and a.files
            assert all(
                np.array_equal(a[key], b[key], equal_nan=a[key].dtype.kind == "f")
                for key in a.files
            )
    with pytest.raises(RunError, match="holds another run"):
        six.save(tmp_path / "kept")
    with pytest.raises(CheckpointError, match="Solution.save"):  # the rule's state is not there
        tiny(run_dir=tmp_path / "kept", resume=True)
    six.save(tmp_path / "kept", force=True)


# -- what is wrong is said before anything is computed or written ---------------------------------


class Single(nnx.Module):
    def __init__(self, outputs=1, kind=jnp.float32, compute=None):
        self.layer = nnx.Linear(2, outputs, rngs=nnx.Rngs(0), param_dtype=kind, dtype=compute)

    def __call__(self, x):
        return self.layer(x)


class Empty(nnx.Module):
    def __call__(self, x):
        return x[:1]


def odd(x):
    return dg.Term(lambda u: lambda x: jnp.zeros(2), lambda x: jnp.zeros(3), SQUARE)


NEGATIVE = dg.Problem(SQUARE, {"a": dg.Term(dg.value, lambda x: jnp.log(x[:1] - 2), SQUARE)})
TWO = dg.Problem(SQUARE, {"a": dg.Term(dg.value, lambda x: jnp.zeros(3), SQUARE)}, outputs=2)


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"rule": dg.AdaptiveRatio}, UserError, ["rule", "AdaptiveRatio(...)"]),
        ({"rule": "anagram"}, UserError, ["rule", "'anagram'"]),
        ({"network": dg.MLP}, UserError, ["network", "MLP(...)"]),
        ({"network": [20, 20]}, UserError, ["network", "[20, 20]"]),
        ({"placement": "rad"}, UserError, ["placement", "'rad'"]),
        ({"limits": 10}, UserError, ["limits", "10"]),
        ({"points": 100}, UserError, ["points", "100"]),
        ({"points": {"interior": 100, "egde": 9}}, ProblemError, ["points.egde", "'edge'"]),
        ({"points": {"interior": 100}}, ProblemError, ["points.edge"]),
        ({"points": {"interior": 100, "edge": 0}}, ProblemError, ["count", "0"]),
        ({"points": {"interior": 100, "edge": 2}}, RegionError, ["points.edge", "2"]),
        ({"schedule": dg.Schedule(held_out=2)}, RegionError, ["held_out", "2"]),
        ({"rule": dg.AdaptiveRatio(validation=2)}, RegionError, ["validation", "2"]),
        ({"seed": -1}, UserError, ["seed", "-1"]),
        ({"steps": -1}, UserError, ["steps", "-1"]),
        ({"unknown": {"k": dg.Unknown(1.0)}}, ProblemError, ["unknown", "'k'"]),
        ({"problem": poisson}, ProblemError, ["unknown"]),
        ({"problem": lambda k: 3, "unknown": {"k": dg.Unknown(1.0)}}, ProblemError, ["int"]),
        ({"problem": lambda k: 3, "unknown": {"k": 1.0}}, ProblemError, ["Unknown(1.0)"]),
        ({"problem": 3}, ProblemError, ["int"]),
        ({"problem": NEGATIVE, "points": None}, ProblemError, ["'a'", "not finite"]),
        ({"problem": TWO, "points": None}, ProblemError, ["(2,)", "(3,)"]),
        ({"network": Single()}, ModelError, ["float32", "jax_enable_x64", "param_dtype"]),
        ({"network": Single(kind=jnp.float64, compute=jnp.float32)}, ModelError, ["float32"]),
        ({"network": Single(2, jnp.float64)}, ModelError, ["(2,)", "(1,)"]),
        ({"network": Empty()}, ModelError, ["Empty", "nnx.Param"]),
        ({"slabs": dg.Slabs(2)}, ProblemError, ["time"]),
        ({"hard_constraint": True}, ProblemError, ["constraint"]),
        ({"memory": dg.Memory(budget_gib=1e-6)}, PlanError, ["memory"]),
        ({"placement": dg.RAD(), "points": {"interior": 100, "edge": dg.Draw(64, "grid")}},
         ProblemError, ["points.edge", "grid"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_before_anything_is_written(tmp_path, options, kind, words):
    with pytest.raises(kind) as error:
        tiny(run_dir=tmp_path / "run", **options)
    message = str(error.value)
    assert "\n" not in message and message.endswith("."), message
    assert all(word in message for word in words), message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"seed": 1}, "run.seed"),
        ({"network": dg.MLP([9])}, "model.hidden"),
        ({"points": POINTS | {"edge": 61}}, "points.edge.count"),
        ({"rule": dg.AMStramGRAM(epsilon=1e-9)}, "rule"),
        ({"placement": dg.Fresh()}, "sampling"),
        ({"problem": dg.Problem(SQUARE, {"interior": poisson().terms[0]})}, "problem.terms"),
    ],
)
def test_another_setup_does_not_go_on(tmp_path, changes, key):
    folder = tmp_path / "run"
    tiny(run_dir=folder, steps=1)
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    with pytest.raises(RunError) as error:
        tiny(run_dir=folder, resume=True, **changes)
    assert key in str(error.value)
    with pytest.raises(RunError, match="holds another run"):
        tiny(run_dir=folder)
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


def test_a_resume_needs_a_run(tmp_path):
    with pytest.raises(RunError, match="run_dir"):
        tiny(resume=True)
    with pytest.raises(RunError, match="no run"):
        tiny(run_dir=tmp_path / "none", resume=True)
    assert list(tmp_path.iterdir()) == []


# -- the house ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_laplace_on_a_square_to_machine_precision(tmp_path):
    """The headline: an absolute L2 error of at most 1e-14, by the config of the README."""
    tree = loads((ROOT / "configs" / "laplace2d.toml").read_text(encoding="utf-8"))
    result = run(tmp_path / "run", tree | {"run": tree["run"] | {"target_l2": 1e-14}})
    assert (result.reason, result.success) == ("target", True)
    assert result.l2_error is not None and result.l2_error <= 1e-14


def test_the_import_alone_imports_no_jax_and_the_first_name_sets_float64():
    code = (
        "import sys, distgram; "
        "print([m for m in ('jax', 'flax', 'numpy', 'orbax', 'pydantic') if m in sys.modules]); "
        "distgram.Box; import jax.numpy; print(jax.numpy.ones(1).dtype)"
    )
    told = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.split() == ["[]", "float64"]


def test_every_name_of_the_front_door_is_there():
    assert dg.__all__ == sorted(set(dg.__all__)) and set(dg.__all__) <= set(dir(dg))
    for name in dg.__all__:
        found = getattr(dg, name)
        assert found.__name__ == name and found.__module__.startswith("distgram.")
        assert found.__doc__, name
    with pytest.raises(AttributeError, match="sovle"):
        dg.sovle  # noqa: B018
