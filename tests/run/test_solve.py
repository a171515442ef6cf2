"""The loop in this process: every named reason by a real run, and what a run folder then holds."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from library import run as solved
from library import stage_of

from distgram.config.schema import check, load
from distgram.linalg.mesh import make_mesh
from distgram.run.ends import Result

TINY: dict[str, Any] = {
    "problem": {"name": "laplace2d"},
    "model": {"hidden": [8]},
    "points": {"interior": {"count": 100}, "boundary": {"count": 40}},
    "rule": {"name": "adaptive_ratio"},
    "run": {"steps": 6, "log_every": 1, "spectra_every": 1, "held_out": 64},
}

# Equations of one unknown on [0, 1]: an operator and a target.
ONE_TERM = """
import jax.numpy as jnp
from distgram.pde.problem import Problem, Term
from distgram.geometry.regions import Box
box = Box((0.0,), (1.0,))
equation = Term({operator}, {target}, box)
problem = Problem(box, {{"equation": equation}}, name="one_term", exact={exact})
"""


class Ran(NamedTuple):
    result: Result
    rows: list[dict]
    watched: list[dict]
    said: list[str]
    folder: Path

    def npz(self, name) -> dict[str, np.ndarray]:
        with np.load(self.folder / name) as file:
            return dict(file)


def run(folder: Path, devices=1, rule=None, problem=None, **limits) -> Ran:
    """Solve TINY, changed, in a new folder."""
    tree = TINY | {"run": TINY["run"] | limits}
    if rule is not None:
        tree = tree | {"rule": rule}
    if problem is not None:
        (folder.parent / "pde.py").write_text(ONE_TERM.format(**problem), encoding="utf-8")
        tree = tree | {
            "problem": {"file": str(folder.parent / "pde.py")},
            "model": {"hidden": [3]},
            "points": {"equation": {"count": 16}},
        }
    watched, said = [], []
    result = solved(folder, tree, devices=devices, watch=watched.append, say=said.append)
    text = (folder / "metrics.jsonl").read_text(encoding="utf-8")
    return Ran(result, [json.loads(line) for line in text.splitlines()], watched, said, folder)


@pytest.fixture(scope="module")
def six(tmp_path_factory) -> Ran:
    """Six steps on 8 devices, everything logged."""
    return run(tmp_path_factory.mktemp("solve") / "run", devices=8)


# -- reasons ------------------------------------------------------------------------------------


def test_step_budget(six):
    assert (six.result.reason, six.result.steps, six.result.success) == ("step budget", 6, True)


def test_no_steps_at_all(tmp_path):
    ran = run(tmp_path / "run", steps=0)
    assert (ran.result.reason, ran.result.steps) == ("step budget", 0)
    assert [row["step"] for row in ran.rows] == [0]
    assert ran.result.mean_square_residual == ran.rows[0]["mean_square_residual"]


@pytest.mark.parametrize("log_every", [1, 7])
def test_target_of_the_residual(tmp_path, log_every):
    ran = run(tmp_path / "run", steps=100, target_residual=5.0, log_every=log_every)
    assert ran.result.reason == "target" and ran.result.success and 0 < ran.result.steps < 100
    assert ran.result.mean_square_residual <= 5.0 < ran.rows[0]["mean_square_residual"]
    assert ran.rows[-1]["step"] == ran.result.steps


def test_target_of_the_error(tmp_path):
    ran = run(tmp_path / "run", steps=100, target_l2=0.1)
    assert ran.result.reason == "target" and 0 < ran.result.steps < 100
    assert ran.result.l2_error is not None and ran.result.l2_error <= 0.1
    assert all(row["l2_error"] > 0.1 for row in ran.rows[:-1])


@pytest.mark.parametrize(
    "limit, of", [("target_l2", "l2_error"), ("target_residual", "mean_square_residual")]
)
def test_the_target_holds_for_the_solution_that_is_given(tmp_path, limit, of):
    """A target may be reached by less than what counts as progress of the loss: what the run gives
    must be what reached it."""
    rule = {"name": "adaptive_ratio", "patience": 1}
    rows = run(tmp_path / "all", steps=80, spectra_every=80, rule=rule).rows
    for i, row in enumerate(rows[2:], 2):
        losses = [r["mean_square_residual"] for r in rows[:i]]
        if row[of] < min(r[of] for r in rows[:i]):
            if row["mean_square_residual"] > 0.992 * min(losses):
                break
    else:
        raise AssertionError("no step of this run tells the two apart")
    # The loss of the step and that of the table are summed in another order.
    ran = run(tmp_path / "run", steps=80, rule=rule, **{limit: row[of] * (1 + 1e-9)})
    assert (ran.result.reason, ran.result.steps) == ("target", row["step"])
    assert ran.result.values()[of] == row[of]


def test_a_target_counts_at_the_last_step_of_a_budget(tmp_path, six):
    """Steps 0, 1 and the last are looked at; the last is at the target and has spent the budget."""
    target = 1.01 * six.rows[-1]["l2_error"]
    ran = run(tmp_path / "run", target_l2=target, log_every=100)
    assert (ran.result.reason, ran.result.steps) == ("target", 6)
    assert [row["step"] for row in ran.rows] == [0, 1, 6]


def test_target_by_the_rule_itself(tmp_path):
    """AMStramGRAM converges at an rms residual below ε."""
    ran = run(tmp_path / "run", steps=60, rule={"name": "amstramgram", "epsilon": 7.0})
    assert ran.result.reason == "target" and ran.result.steps < 60
    assert ran.result.mean_square_residual < 49.0


def test_time_budget(tmp_path):
    ran = run(tmp_path / "run", steps=10**6, time_budget_s=0.05)
    assert ran.result.reason == "time budget" and ran.result.success
    assert ran.result.seconds + ran.result.compile_seconds >= 0.05  # compiling counts
    assert ran.result.steps < 10**6


def test_stalled(tmp_path):
    """A cutoff above every singular value keeps no direction: the loss never falls."""
    ran = run(tmp_path / "run", steps=50, patience=5, rule={"name": "anagram", "cutoff": 1e6})
    assert (ran.result.reason, ran.result.success) == ("stalled", False)
    assert ran.result.steps == 6  # the first loss is progress, then five steps without
    assert {row["rank"] for row in ran.rows[1:]} == {0}


def test_precision_floor(tmp_path):
    """u = 1/3 is in the network's range: it comes down to the rounding of its parameters."""
    problem = {
        "operator": "lambda u: u",
        "target": "lambda x: jnp.full(1, 1 / 3)",
        "exact": "lambda x: jnp.full(1, 1 / 3)",
    }
    ran = run(tmp_path / "run", steps=200, problem=problem)
    assert (ran.result.reason, ran.result.success) == ("precision floor", True)
    assert ran.result.mean_square_residual < 1e-30  # (4 eps)², values of size one
    assert ran.result.l2_error is not None and ran.result.l2_error < 1e-15


def test_non_finite(tmp_path):
    """The logarithm of a network that is somewhere negative."""
    problem = {
        "operator": "lambda u: lambda x: jnp.log(u(x) - 100.0)",
        "target": "lambda x: jnp.zeros(1)",
        "exact": "None",
    }
    ran = run(tmp_path / "run", steps=20, problem=problem)
    assert (ran.result.reason, ran.result.success) == ("non-finite", False)
    assert ran.rows[-1]["mean_square_residual"] is None  # JSON has no nan
    assert math.isnan(ran.result.mean_square_residual)
    stored = json.loads((ran.folder / "result.json").read_text())
    assert stored["mean_square_residual"] is None and stored["reason"] == "non-finite"


# -- the run folder -----------------------------------------------------------------------------


def test_result_is_stored_as_returned(six):
    stored = json.loads((six.folder / "result.json").read_text())
    assert stored == six.result.values()
    assert stored["P"] == 8 * 2 + 8 + 8 + 1 and stored["S"] == 140 and stored["devices"] == 8
    assert (stored["problem"], stored["rule"]) == ("laplace2d", "adaptive_ratio")
    assert stored["run_dir"] == str(six.folder)


def test_config_and_environment(six):
    config = load(six.folder / "config.toml")
    assert config == check(TINY)
    environment = json.loads((six.folder / "environment.json").read_text())
    assert len(environment["devices"]) == 8 and environment["packages"]["jax"]
    assert any("float64" in line for line in six.said)
    assert any("P = 33, S = 140, 8 device(s)" in line for line in six.said)


def test_metrics(six):
    assert [row["step"] for row in six.rows] == list(range(7))
    assert json.loads(json.dumps(six.watched)) == six.rows
    seconds = [row["seconds"] for row in six.rows]
    assert seconds == sorted(seconds) and six.result.seconds == seconds[-1]
    for row in six.rows[1:]:
        by_part = row["seconds_by_part"]
        parts = {"steps", "measuring", "recording", "checkpoints"}
        assert set(by_part) == parts and min(by_part.values()) > 0
        # of what a row counts, its own measuring is not in its seconds
        assert by_part["steps"] < row["seconds"] < sum(by_part.values())
    whole = six.result.seconds_by_part
    assert all(whole[part] >= seconds for part, seconds in six.rows[-1]["seconds_by_part"].items())
    assert six.result.seconds < sum(whole.values())
    for row in six.rows:
        assert set(row["terms"]) == set(row["heldout_terms"]) == {"interior", "boundary"}
        assert row["mean_square_residual"] == pytest.approx(sum(row["terms"].values()), rel=1e-14)
        assert row["heldout_residual"] == pytest.approx(
            sum(row["heldout_terms"].values()), rel=1e-14
        )
        assert row["heldout_residual"] != row["mean_square_residual"]
        # rms of u* = sin πx sin πy over 101² nodes that include the boundary: 50/101.
        assert row["relative_l2_error"] == pytest.approx(row["l2_error"] * 101 / 50, rel=1e-12)
    assert six.rows[0]["rank"] is None and all(row["rank"] is not None for row in six.rows[1:])


def test_log_every(tmp_path):
    ran = run(tmp_path / "run", steps=7, log_every=3, spectra_every=2)
    assert [row["step"] for row in ran.rows] == [0, 1, 3, 6, 7]
    assert ran.npz("spectra.npz")["step"].tolist() == [1, 2, 4, 6, 7]


def test_spectra(six):
    spectra = six.npz("spectra.npz")
    s, rce = spectra["singular_values"], spectra["rce"]
    assert spectra["step"].tolist() == [1, 2, 3, 4, 5, 6]
    assert s.shape == (6, six.result.P) and rce.shape == (6, six.result.P + 1)
    assert np.all(np.diff(s) <= 0) and np.all(np.diff(rce) <= 0)
    # The spectrum that led to a step is that of the parameters before it: RCE_0² is their loss.
    before = [row["mean_square_residual"] for row in six.rows[:-1]]
    assert np.allclose(rce[:, 0] ** 2, before, rtol=1e-12, atol=0)
    for i, row in enumerate(six.rows[1:]):
        assert spectra["cutoff"][i] == math.sqrt(row["regularization"])
        assert spectra["rank"][i] == row["rank"] == np.sum(s[i] > spectra["cutoff"][i])


def test_solution(six):
    solution = six.npz("solution.npz")
    x, u, reference = solution["x"], solution["u"], solution["reference"]
    assert np.allclose(reference[:, 0], np.prod(np.sin(np.pi * x), axis=1), rtol=0, atol=1e-15)
    assert np.sqrt(np.mean((u - reference) ** 2)) == pytest.approx(six.result.l2_error, rel=1e-12)
    assert solution["names"].tolist() == ["x", "y"]
    grid = np.stack(np.meshgrid(solution["axis_0"], solution["axis_1"], indexing="ij"), -1)
    assert np.array_equal(grid.reshape(-1, 2), x)
    drawn = stage_of(check(TINY), make_mesh(1)).draw()
    for name, (points, _) in zip(("interior", "boundary"), drawn, strict=True):
        assert np.array_equal(solution[f"points_{name}"], points)


def test_the_solution_is_the_best_met(tmp_path):
    """Adam in strides goes uphill at its third step; the result is the least loss."""
    rule = {"name": "adam", "learning_rate": 1.0}
    ran = run(tmp_path / "run", steps=3, rule=rule)
    losses = np.array([row["mean_square_residual"] for row in ran.rows])
    best = int(np.argmin(losses))
    assert losses[-1] > 1.1 * losses[best]
    assert ran.result.mean_square_residual == losses[best]
    assert ran.result.l2_error == ran.rows[best]["l2_error"]


def test_seeds_differ_and_repeat(tmp_path, six):
    again = run(tmp_path / "again", devices=8)
    other = run(tmp_path / "other", devices=8, seed=1)
    values = [row["mean_square_residual"] for row in six.rows]
    assert [row["mean_square_residual"] for row in again.rows] == values
    assert other.rows[0]["mean_square_residual"] != values[0]
    assert not np.array_equal(
        other.npz("solution.npz")["points_interior"], six.npz("solution.npz")["points_interior"]
    )
