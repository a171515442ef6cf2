"""The command line: what it prints, what it leaves behind, and how it exits."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from cli_runs import TINY, Folder, metrics, no_figures
from distgram_launch.show import Progress

import distgram
from distgram.config.schema import FACTORIZATIONS, RULES
from distgram.errors import SolutionError
from distgram.pde import operators
from distgram.pde.registry import get, names
from distgram.run.setup import Limits

ROOT = Path(__file__).parents[2]
JSON_KEYS = [
    *("problem", "rule", "P", "S", "devices", "steps", "seconds", "compile_seconds"),
    "seconds_by_part",
    *("mean_square_residual", "heldout_residual", "l2_error", "relative_l2_error"),
    *("error_estimate", "reason", "overfitted", "run_dir"),
]

HELMHOLTZ = """
import jax.numpy as jnp
from distgram.pde.operators import laplacian, value
from distgram.pde.problem import Problem, Term
from distgram.geometry.regions import Box, Faces

def problem(k=2.0):
    box = Box((0.0, 0.0), (1.0, 1.0))
    exact = lambda x: jnp.sin(x[:1]) * jnp.exp(x[1:])  # its Laplacian is zero
    return Problem(
        name="helmholtz",
        domain=box,
        terms={
            "interior": Term(lambda u: lambda x: laplacian(u)(x) + k**2 * u(x),
                 lambda x: k**2 * exact(x), box),
            "boundary": Term(value, exact, Faces(box), weight=10.0),
        },
        exact=exact,
    )
"""


@pytest.fixture(scope="module")
def solved(tmp_path_factory) -> Folder:
    """A run with its report, and the words that came with --json."""
    folder = Folder(tmp_path_factory.mktemp("solved"))
    ended = folder.solve("--json", "--seed", 3)
    assert ended.code == 0, ended
    folder.write("out", ended.out)
    folder.write("err", ended.err)
    return folder


@pytest.fixture(scope="module")
def helmholtz(tmp_path_factory) -> Folder:
    """A user's own equation, with a parameter, from a file beside the config, on 2 devices."""
    folder = Folder(tmp_path_factory.mktemp("helmholtz"))
    folder.write("mine.py", HELMHOLTZ)
    text = TINY.replace('name = "laplace2d"', 'file = "mine.py"\nparameters = {k = 3.0}')
    config = folder.write(
        "mine.toml", text.replace("[8]", "[16]").replace("steps = 6", "steps = 80")
    )
    with pytest.MonkeyPatch.context() as patch:
        no_figures(patch)
        ended = folder.call(
            *("solve", config, "--out", folder.path / "run", "--devices", 2),
            *("--set", "run.checkpoint_every=40", "--set", "run.log_every=40"),
        )
    assert ended.code == 0, ended
    return folder


def test_the_help_of_submit_says_who_sees_a_variable(folder):
    words = folder.call("submit", "--help").out.replace("│", " ").split()
    assert "for secrets give --env-file" in " ".join(words)


def test_help_is_fast_because_it_imports_no_jax():
    code = "import sys, distgram_launch.cli, distgram; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_list_names_everything_that_can_be_chosen(folder):
    ended = folder.call("list")
    assert ended.code == 0
    chosen = ("latin_hypercube", "softplus", "orthogonal", "fourier")
    for name in (*names(), *RULES, *FACTORIZATIONS, *chosen):
        assert name in ended.out
    assert "u_t + u u_x = nu u_xx" in ended.out and "k = 1" in ended.out


def test_a_closed_pipe_is_no_error():
    command = "import sys; from distgram_launch.cli import main; sys.exit(main(['list']))"
    process = subprocess.Popen(
        [sys.executable, "-c", command], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    process.wait(60)


@pytest.mark.slow
def test_check_counts_and_tests_the_operators(folder):
    config = folder.write("tiny.toml", TINY)
    ended = folder.call("check", config, "--devices", 2, "--set", "memory.row_block=20")
    assert ended.code == 0 and folder.folders() == []
    rows = [line.split() for line in ended.out.splitlines()]

    def said(*words: str) -> list[str]:
        return [row[len(words)] for row in rows if row[: len(words)] == list(words)]

    assert said("P,", "parameters") == [str((2 + 1) * 8 + 8 + 1)]
    assert said("S,", "collocation", "points") == ["140"] and said("devices") == ["2"]
    assert said("row", "blocks", "per", "device") == [str(-(-140 // (2 * 20)))]
    # one triangle of [J | r] at least
    assert int(said("bytes", "per", "device,", "temporaries")[0]) > 8 * (33 + 1) ** 2
    count, residual = said("interior")
    assert count == "100" and float(residual) < 1e-12


@pytest.mark.parametrize("name", ["heat", "laplace5d", "poisson_nonlinear"])
def test_the_exact_solutions_satisfy_their_operators(name):
    from distgram_launch.check import operator_residuals

    class Run:
        problem = get(name)

    tested = {term: (rms, size) for term, rms, size in operator_residuals(Run)}  # type: ignore
    assert set(tested) == {t.name for t in Run.problem.terms}
    # rounding: some 1e3 roundings of an operator's parts, which its value may be small against
    assert all(rms <= 1e3 * np.finfo(float).eps * max(size, 10.0) for rms, size in tested.values())


def test_check_refuses_an_exact_solution_that_is_wrong(folder):
    folder.write("mine.py", HELMHOLTZ.replace("+ k**2 * u(x)", "- k**2 * u(x)"))
    config = folder.write("mine.toml", TINY.replace('name = "laplace2d"', 'file = "mine.py"'))
    ended = folder.call("check", config, "--devices", 1)
    assert ended.code == 2 and "'interior'" in ended.err and "exact solution" in ended.err


def test_json_is_the_last_line_and_all_of_stdout(solved):
    out = (solved.path / "out").read_text()
    assert out.count("\n") == 1
    result = json.loads(out)
    assert list(result) == JSON_KEYS
    assert result == json.loads((solved.path / "run" / "result.json").read_text())
    last = metrics(solved.path / "run")[-1]
    for key in ("mean_square_residual", "heldout_residual", "l2_error", "relative_l2_error"):
        assert result[key] == last[key]
    assert (result["P"], result["S"], result["steps"]) == (33, 140, 6)
    assert result["reason"] == "step budget" and result["devices"] == 1
    assert result["run_dir"] == str(solved.path / "run")
    assert "step budget" in (solved.path / "err").read_text()


def test_the_run_folder_explains_itself(solved):
    there = {p.name for p in (solved.path / "run").iterdir()}
    assert there == {
        *("config.toml", "environment.json", "metrics.jsonl", "spectra.npz", "solution.npz"),
        *("result.json", "checkpoints", "figures", "report.html"),
    }
    assert "seed = 3" in (solved.path / "run" / "config.toml").read_text()
    drawn = {p.stem for p in (solved.path / "run" / "figures").iterdir()}
    assert drawn == {
        *("solution", "convergence", "spectrum", "flattening", "cutoff", "points", "residual")
    }


def test_the_default_folder_names_config_and_seed(folder, monkeypatch):
    monkeypatch.chdir(folder.path)
    config = folder.write("tiny.toml", TINY)
    assert folder.call("solve", config, "--devices", 1, "--set", "run.steps=1").code == 0
    assert [p.name for p in (folder.path / "runs").iterdir()] == ["tiny-seed0"]


@pytest.mark.parametrize(
    ("settings", "code", "reason"),
    [
        (["run.target_l2=1e-12"], 1, "step budget"),
        (["run.target_l2=1e-12", "run.target_residual=1e9"], 0, "target"),
        (["run.target_l2=1e9"], 0, "target"),
        # the L2 error gets there before the loss makes what counts as progress
        (["run.target_l2=0.6", "run.min_decrease=0.999"], 0, "target"),
        (["run.time_budget_s=1e-6"], 0, "time budget"),
        (["run.patience=1", "run.min_decrease=0.999"], 1, "stalled"),
        (["rule={name='adam',learning_rate=1e300}"], 1, "non-finite"),
    ],
)
def test_exit_codes_and_reasons(folder, settings, code, reason):
    ended = folder.solve(*(a for s in settings for a in ("--set", s)), "--json")
    assert (ended.code, json.loads(ended.out.splitlines()[-1])["reason"]) == (code, reason), ended
    if code and "target" in settings[0]:
        assert "run.target_l2 = 1e-12" in ended.err
    if reason == "non-finite":  # the solution is the best met: here the parameters at the start
        first, last = metrics(folder.path / "run")
        assert last["mean_square_residual"] is None
        assert json.loads(ended.out)["mean_square_residual"] == first["mean_square_residual"]


def test_report_and_compare(solved, tmp_path):
    run = solved.path / "run"
    (run / "report.html").unlink()
    ended = solved.call("report", run)
    assert ended.code == 0 and ended.out == f"{run / 'report.html'}\n"
    assert (run / "report.html").is_file()
    ended = solved.call("compare", run, "--out", tmp_path / "both")
    assert ended.code == 0 and "laplace2d" in ended.out and "adaptive_ratio" in ended.out
    assert (tmp_path / "both" / "compare.html").is_file()
    assert "not found" in solved.call("report", tmp_path / "nowhere").sentence


def test_progress_tells_pace_and_time_left():
    out = io.StringIO()
    values = dict.fromkeys(("rank", "regularization", "step_size", "l2_error"))
    residuals = {"mean_square_residual": 0.5, "terms": {"only": 0.5}, "heldout_residual": 0.25}
    with Progress(out, Limits(steps=110)) as progress:
        progress.watch({"step": 0, "seconds": 0.0} | residuals | values)
        progress.watch({"step": 10, "seconds": 5.0} | residuals | values)
    header, first, second = out.getvalue().splitlines()
    assert len(header) == len(first) == len(second)
    assert second.split()[-2:] == ["0.5", "0:50"]  # 100 steps of half a second
    assert second.split()[:3] == ["10", "5.00e-01", "2.50e-01"]


@pytest.mark.slow
def test_a_users_equation_is_solved(helmholtz):
    result = json.loads((helmholtz.path / "run" / "result.json").read_text())
    assert result["problem"] == "helmholtz" and result["devices"] == 2
    assert result["relative_l2_error"] < 1e-4


def test_a_run_loads_in_three_lines_with_its_derivatives(helmholtz):
    u = distgram.load(helmholtz.path / "run")
    x = np.random.default_rng(0).random((50, 2))
    value = u(x)

    exact = np.sin(x[:, :1]) * np.exp(x[:, 1:])
    assert value.shape == (50, 1) and np.abs(value - exact).max() < 1e-3
    assert u(x[0]).shape == (1,) and np.array_equal(u(x[0]), value[0])
    assert u.gradient(x).shape == (50, 2)
    step = np.array([1e-5, 0.0])
    central = (u(x + step) - u(x - step)) / 2e-5
    # central differences: h² |u'''| / 6 + eps |u| / h < 1e-9 here
    assert np.abs(u.partial(x, 0) - central).max() < 1e-8
    assert np.abs(u.gradient(x)[:, :1] - u.partial(x, 0)).max() < 1e-13
    second = u.partial(x, 0, 2) + u.partial(x, 1, 2)
    assert np.abs(u.laplacian(x) - second).max() < 1e-11
    helm = u.apply(lambda f: lambda p: operators.laplacian(f)(p) + 9.0 * f(p), x)
    assert np.abs(helm - u.laplacian(x) - 9.0 * value).max() < 1e-11
    with np.load(helmholtz.path / "run" / "solution.npz") as file:
        assert np.abs(u(file["x"]) - file["u"]).max() < 1e-13
    assert u.theta.shape == (65,) and jnp.asarray(u.theta).dtype == jnp.float64
    with pytest.raises(SolutionError, match=r"\(4, 3\): expected \(n, 2\)"):
        u(np.zeros((4, 3)))


def test_a_run_keeps_its_equation(helmholtz):
    """It loads without the user's file; a resume with another one is refused."""
    mine, kept = helmholtz.path / "mine.py", helmholtz.path / "run" / "problem" / "mine.py"
    assert kept.read_text() == HELMHOLTZ
    mine.write_text(HELMHOLTZ.replace("10.0", "20.0"))
    sentence = helmholtz.call("resume", helmholtz.path / "run").sentence
    assert "mine.py' has changed" in sentence
    mine.unlink()
    assert distgram.load(helmholtz.path / "run")(np.zeros(2)).shape == (1,)
