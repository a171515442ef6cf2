"""The page of one run, from synthesised run folders: what is drawn, embedded, and left out."""

from __future__ import annotations

import base64
import json
import math
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from synthetic_runs import Page, ink, make_run

from distgram.geometry.regions import Box
from distgram.pde.operators import value
from distgram.pde.problem import Problem, Term
from distgram.report import curves, figures, maps, report, write
from distgram.report.html import Picture
from distgram.report.page import HEADINGS
from distgram.store.read import Run, settings

ALL = ["solution", "convergence", "spectrum", "flattening", "cutoff", "points"]


@pytest.fixture
def blank(monkeypatch):
    """No pixels at all, where only the words of a page matter."""
    monkeypatch.setattr("distgram.report.page.picture", lambda _, *words: Picture(b"", *words))


@pytest.mark.parametrize(("dim", "outputs"), [(1, 1), (2, 2), (5, 1)])
def test_every_figure_is_drawn(tmp_path, dim, outputs):
    drawn = figures(Run(make_run(tmp_path / "run", dim, outputs)))
    sliced = ["slices"] if dim > 2 else []
    assert list(drawn) == [*ALL[:1], *sliced, *ALL[1:]]
    assert all(ink(shown.png) > 0.01 for shown in drawn.values())


def test_error_map_shows_the_logarithm_of_the_error_in_the_right_place():
    axes = (np.linspace(0, 1, 5), np.linspace(-1, 1, 7))
    u = np.zeros((5, 7))
    u[1, 4] = 1e-3
    x = np.stack([g.ravel() for g in np.meshgrid(*axes, indexing="ij")], axis=-1)
    solution = {
        "x": x, "u": u.reshape(-1, 1), "reference": np.zeros((35, 1)),
        "axis_0": axes[0], "axis_1": axes[1],
    }  # fmt: skip
    u[0, 0] = 1e-7
    error = maps.solution(solution).axes[2]
    (mesh,) = error.collections
    shown = np.asarray(mesh.get_array()).reshape(7, 5)  # rows are axis_1, the vertical one
    assert shown[4, 1] == pytest.approx(-3) and np.sort(shown.ravel())[-2] == pytest.approx(-7)
    rms = math.sqrt((1e-6 + 1e-14) / 35)
    assert f"rms {rms:.2g}, max 0.001" in error.get_title()


def test_missing_spectra_and_solution_leave_their_figures_out(tmp_path, blank):
    run = make_run(tmp_path / "run")
    for name in ("spectra.npz", "solution.npz", "result.json"):
        (run / name).unlink()
    assert list(figures(Run(run))) == ["convergence", "cutoff"]
    assert "Not finished" in report(run).read_text()


def test_half_written_last_line_is_left_out_and_a_resumed_step_counts_once(tmp_path):
    run = make_run(tmp_path / "run")
    file = run / "metrics.jsonl"
    again = json.loads(file.read_text().splitlines()[50]) | {"l2_error": 0.5}
    file.write_text(file.read_text() + json.dumps(again) + '\n{"step": 61, "seco')
    metrics = Run(run).metrics
    assert [row["step"] for row in metrics] == list(range(61))
    assert metrics[50]["l2_error"] == 0.5


def test_zeros_and_nan_on_every_logarithmic_axis(tmp_path):
    run = make_run(tmp_path / "run")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    lines[10]["mean_square_residual"] = math.nan
    lines[11]["l2_error"] = math.inf
    lines[12]["mean_square_residual"] = 0.0
    (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    for name, keys in (("spectra", ("singular_values", "rce", "cutoff")), ("solution", ("u",))):
        arrays = dict(np.load(run / f"{name}.npz"))
        for key in keys:
            arrays[key][-1] = 0.0
            arrays[key][0] = np.nan
        np.savez(run / f"{name}.npz", **arrays)
    assert list(figures(Run(run))) == ALL
    left = curves.convergence(Run(run).metrics).axes[0]
    total = next(li for li in left.get_lines() if li.get_label() == "mean square residual")
    assert np.flatnonzero(np.isnan(total.get_ydata())).tolist() == [10, 12]
    marked = next(li for li in left.get_lines() if li.get_label() == "non-finite")
    assert list(marked.get_xdata()) == [10]


@pytest.mark.parametrize("value", [math.nan, None])  # null is how a run writes it
def test_nothing_positive_still_gives_figures(tmp_path, value):
    run = make_run(tmp_path / "run")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        line |= {"mean_square_residual": value, "heldout_residual": None, "l2_error": None}
        line["terms"] = {"interior": value}
    (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    for name, keys in (("spectra", ("singular_values", "rce", "cutoff")), ("solution", ("u",))):
        arrays = dict(np.load(run / f"{name}.npz"))
        np.savez(run / f"{name}.npz", **arrays | {k: arrays[k] * np.nan for k in keys})
    assert list(figures(Run(run))) == ALL


def test_report_is_one_page_that_needs_nothing_else(tmp_path):
    run = make_run(tmp_path / "a run")
    text = report(run).read_text()
    page = Page(text)
    assert page.links == [] and not re.search(r"url\(|@import|https?://", text)
    for image, name in zip(page.images, ALL, strict=True):
        head, data = image["src"].split(",", 1)
        assert head == "data:image/png;base64" and len(image["alt"]) > 30
        assert base64.b64decode(data) == (run / "figures" / f"{name}.png").read_bytes()
        assert HEADINGS[name] in page.text
    shown = page.text.split("Configuration")[-1].split("Environment")[0]
    assert tomllib.loads(shown) == Run(run).config
    assert "<b>0.10</b>" in page.text and "<b>" not in text
    assert f"distgram solve '{run}/config.toml'" in page.text
    assert "prefers-color-scheme: dark" in text and "Ended by: target" in page.text
    assert 'class="warn"' not in text


@dataclass
class Memory:
    """A run that was kept in memory."""

    metrics: list
    saved: dict
    config: dict = field(default_factory=dict)
    result: dict = field(default_factory=dict)
    environment: dict = field(default_factory=dict)
    path: None = None

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """What was kept under the name of a file."""
        return self.saved.get(name, {})


@dataclass
class Known:
    """A solution u = 0 of u = 2 + x on a box."""

    problem: Problem

    def residual(self, term: Term, x: np.ndarray) -> np.ndarray:
        """-f(x)."""
        return -np.stack([term.target(point) for point in x])


def test_a_run_in_memory_has_a_page_too(tmp_path):
    run = Run(make_run(tmp_path / "run"))
    saved = {name: run.arrays(name) for name in ("solution.npz", "spectra.npz")}
    box = Box((0.0, 0.0), (1.0, 1.0))
    term = Term(value, lambda x: 2 + x[:1], box, name="interior")
    problem = Problem(name="two", domain=box, terms=(term,), inputs=("t", "x"))
    found = maps.residual_maps(Known(problem), saved["solution.npz"], per_axis=3)
    assert found["interior"].residual.tolist() == [[2.0] * 3, [2.5] * 3, [3.0] * 3]
    file = write(Memory(run.metrics, saved), tmp_path / "page.html", solution=Known(problem))
    page = Page(file.read_text())
    assert len(page.images) == len(ALL) + 1 and "Repeat this run" not in page.text
    assert sorted(p.name for p in tmp_path.iterdir()) == ["page.html", "run"]
    assert not (run.path / "figures").exists()
    bare = write(Memory(run.metrics[:1], {}), tmp_path / "bare.html")
    assert len(Page(bare.read_text()).images) == 2


def test_report_warns_where_training_and_held_out_residual_part(tmp_path, blank):
    run = make_run(tmp_path / "run")
    result = json.loads((run / "result.json").read_text()) | {
        "heldout_residual": 2.5e-27,
        "overfitted": ["interior"],
    }
    (run / "result.json").write_text(json.dumps(result))
    text = report(run).read_text()
    assert 'class="warn"' in text and "2.5e+03" in text
    assert "Ended by: target, overfitted" in text


def test_settings_leave_out_the_seed_only(tmp_path):
    run = make_run(tmp_path / "run")
    (run / "config.toml").write_text((run / "config.toml").read_text() + "steps = 7\n")
    assert settings(Run(run)) == {
        "problem.name": "heat", "rule.name": "amstramgram", "model.width": 32, "run.steps": 7,
    }  # fmt: skip


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_without_a_reference_the_solution_is_still_drawn(tmp_path, dim):
    arrays = Run(make_run(tmp_path / "run", dim)).arrays("solution.npz")
    del arrays["reference"], arrays["names"]
    figure = maps.solution(arrays)
    figure.savefig(tmp_path / "solution.png", dpi=50)
    titled = [ax for ax in figure.axes if ax.get_title()]
    assert [ax.get_title() for ax in titled] == ["solution $u$"]
    assert titled[0].get_xlabel() == "$x_{1}$" and ink(tmp_path / "solution.png") > 0.01


def test_kernels_that_were_diagnosed_are_on_the_page(tmp_path, blank):
    run = make_run(tmp_path / "run")
    folder = run / "diagnostics"
    folder.mkdir()
    (folder / "ntk-initial.png").write_bytes(b"png")
    told = {"title": "NTK at initialisation", "alt": "The kernel, widest at x = <0.5>."}
    (folder / "ntk-initial.json").write_text(json.dumps(told))
    page = Page(report(run).read_text())
    assert page.images[-1]["alt"] == told["alt"]
    assert page.images[-1]["src"].endswith(base64.b64encode(b"png").decode())
    assert told["title"] in page.text
    (folder / "ntk-more.png").write_bytes(b"gnp")  # of the same title: beside it, not instead
    (folder / "ntk-more.json").write_text(json.dumps(told | {"alt": "Another kernel."}))
    page = Page(report(run).read_text())
    assert [i["alt"] for i in page.images[-2:]] == [told["alt"], "Another kernel."]
    assert "gone on since" not in page.text
    for final, stale in ((60, False), (40, True)):  # the run is at step 60
        (folder / "ntk-more.json").write_text(json.dumps(told | {"final": final}))
        text = Page(report(run).read_text()).text
        assert (f"Final is step {final} here; the run has gone on since" in text) is stale


def test_page_shows_the_steps_asked_for_and_says_what_was_not_recorded(tmp_path, blank):
    run = Run(make_run(tmp_path / "run"))
    panels = curves.spectrum(run.arrays("spectra.npz"), [0, 30, 61]).axes
    assert [ax.get_title() for ax in panels] == ["step 0", "step 30", "step 60"]
    assert "60 for 61;" in report(run.path, [0, 30, 61]).read_text()
    assert "nearest recorded" not in report(run.path, [0, 30]).read_text()


def test_page_tells_where_the_seconds_went(tmp_path, blank):
    page = Page(report(make_run(tmp_path / "run")).read_text())
    cells = [["steps", "6", "90.9%"], ["measuring", "0.6", "9.1%"]]
    cells += [["one step, on average", "0.1", ""], ["compiling, before solving", "3.1", ""]]
    for row in cells:
        assert row in page.rows


def test_the_command_repeats_the_run_with_its_own_problem_file(tmp_path, blank):
    run = make_run(tmp_path / "run")
    (run / "environment.json").write_text(json.dumps({"devices": ["a", "b"], "processes": 1}))
    (run / "problem").mkdir()
    for copy in ("problem/mine.py", "data-sensors.csv"):
        (run / copy).write_text("")
    config = "[problem]\nfile = 'far/mine.py'\n"
    (run / "config.toml").write_text(config + '[data.sensors]\nfile = "elsewhere.csv"\n')
    text = Page(report(run).read_text()).text
    files = (("problem.file", "problem/mine.py"), ("data.sensors.file", "data-sensors.csv"))
    sets = " ".join(f"""--set '{key}="{run}/{copy}"'""" for key, copy in files)
    assert f"distgram solve {run}/config.toml --out NEW_FOLDER {sets} --devices 1" in text


def test_time_slabs_are_a_table(tmp_path, blank):
    run = make_run(tmp_path / "run")
    result = json.loads((run / "result.json").read_text())
    slabs = [{"slab": 1, "reason": "target"}, {"slab": 2}]
    (run / "result.json").write_text(json.dumps(result | {"slabs": slabs}))
    rows = Page(report(Path(run)).read_text()).rows
    assert ["1", "target"] in rows and ["2", "not known"] in rows


def test_the_report_is_in_the_run_folder(tmp_path, blank):
    run = make_run(tmp_path / "run")
    assert report(run) == run / "report.html"
    assert sorted(p.stem for p in (run / "figures").iterdir()) == sorted(ALL)


def test_a_checkpoint_that_cannot_be_used_leaves_the_residual_out_and_says_why(tmp_path, blank):
    run = make_run(tmp_path / "run")  # whose config.toml no longer is one
    (run / "checkpoints" / "60").mkdir(parents=True)
    assert HEADINGS["residual"] not in Page(report(run).read_text()).text  # not a whole one
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distgram.store.checkpoint.newest", lambda folder: folder / "60")
        page = Page(report(run).read_text())
    assert HEADINGS["residual"] in page.text and "model.width" in page.text
