"""Reports from synthesised run folders: what is drawn, embedded, averaged, and refused."""

from __future__ import annotations

import base64
import io
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from distgram import figures as curves
from distgram import maps
from distgram.report import HEADER, ReportError, cells, compare, figures, report, summary
from distgram.run_folder import Run

EPSILON = 1e-10
ALL = ["solution", "convergence", "spectrum", "points"]


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    """Fewer pixels: the same figures, drawn faster."""
    monkeypatch.setattr("distgram.report.DPI", 50)


def write_metrics(run: Path, steps: int, floor: float, rng: np.random.Generator) -> None:
    lines = []
    for step in range(steps + 1):
        fall = floor + 10.0 ** (-30 * step / steps) * (1 + 0.3 * rng.random())
        lines.append({
            "step": step, "seconds": 0.11 * step, "mean_square_residual": fall,
            "terms": {"interior": 0.8 * fall, "boundary": 0.2 * fall},
            "heldout_residual": 1.5 * fall if step % 5 == 0 else None, "heldout_terms": None,
            "l2_error": 0.1 * math.sqrt(fall), "relative_l2_error": 0.2 * math.sqrt(fall),
            "rank": 20 + step, "regularization": 1e-6, "step_size": 1.0, "accepted": True,
        })  # fmt: skip
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_spectra(run: Path, steps: np.ndarray, k: int = 129) -> None:
    n = np.arange(k + 1)
    s = np.stack([30 * np.exp(-n[1:] / (2 + 2 * i / len(steps))) for i in range(len(steps))])
    # the residual outside the range of the Jacobian is where RCE levels off
    tail = 1e-2 + np.exp(-n / 12)
    rce = np.stack([10.0 ** (-9 * i / len(steps)) * tail for i in range(len(steps))])
    cap = [int(np.argmax(np.append(a <= b[1:], True))) for a, b in zip(s, rce, strict=True)]
    np.savez(
        run / "spectra.npz", step=steps, singular_values=s, rce=rce, rank=np.array(cap),
        cutoff=np.full(len(steps), 1e-6), r_cap=np.array(cap), r_eps=(rce >= EPSILON).sum(1),
    )  # fmt: skip


def write_solution(run: Path, dim: int, outputs: int, rng: np.random.Generator) -> None:
    names = np.array(["t", "x"] if dim == 2 else [f"x{i + 1}" for i in range(dim)])
    arrays = {"names": names}
    if dim == 2:
        axes = (np.linspace(0, 1, 61), np.linspace(-1, 1, 71))
        x = np.stack([g.ravel() for g in np.meshgrid(*axes, indexing="ij")], axis=-1)
        arrays |= {"axis_0": axes[0], "axis_1": axes[1]}
    else:
        x = rng.random((4000 if dim > 1 else 200, dim))
    field = np.sin(np.pi * x).sum(1) if dim != 2 else np.exp(-x[:, 0]) * np.sin(np.pi * x[:, 1])
    reference = np.stack([field / (k + 1) for k in range(outputs)], axis=-1)
    wave = np.sin(7 * x[:, :1]) * np.cos(5 * x[:, -1:])
    arrays |= {"x": x, "u": reference + 3e-15 * wave, "reference": reference}
    arrays["points_interior"] = 2 * rng.random((784, dim)) - 1
    arrays["points_boundary"] = np.concatenate([np.ones((60, 1)), rng.random((60, dim - 1))], 1)
    if dim == 2:
        arrays["points_interior"][:, 0] = rng.random(784)
    np.savez(run / "solution.npz", **arrays)


def make_run(
    path: Path, dim: int = 2, outputs: int = 1, rule: str = "amstramgram", seed: int = 0,
    width: int = 32, floor: float = 1e-30,
) -> Path:  # fmt: skip
    rng = np.random.default_rng(seed)
    path.mkdir(parents=True)
    (path / "config.toml").write_text(
        f'[problem]\nname = "heat"\n[rule]\nname = "{rule}"\n[model]\nwidth = {width}\n'
        f"[run]\nseed = {seed}\n"
    )
    (path / "environment.json").write_text(json.dumps({"jax": "<b>0.10</b>"}))
    write_metrics(path, 60, floor, rng)
    write_spectra(path, np.arange(0, 61, 3))
    write_solution(path, dim, outputs, rng)
    result = {
        "problem": "heat", "rule": rule, "P": 129, "S": 874, "devices": 1, "steps": 60 + seed,
        "seconds": 6.6, "compile_seconds": 3.1, "mean_square_residual": floor,
        "heldout_residual": 1.5 * floor, "l2_error": (1 + seed) * 1e-15,
        "relative_l2_error": 2e-15, "reason": "target reached", "run_dir": str(path),
    }  # fmt: skip
    (path / "result.json").write_text(json.dumps(result))
    return path


def ink(png: Path | bytes) -> float:
    """Fraction of pixels that are not white."""
    data = imread(io.BytesIO(png) if isinstance(png, bytes) else png)
    return float((data[..., :3] < 0.98).any(axis=-1).mean())


@pytest.mark.parametrize(("dim", "outputs"), [(1, 1), (2, 2), (5, 1)])
def test_every_figure_is_drawn(tmp_path, dim, outputs):
    written = figures(make_run(tmp_path / "run", dim, outputs))
    assert [p.name for p in written] == [f"{name}.png" for name in ALL]
    assert all(ink(p) > 0.01 for p in written)


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


def test_spectrum_marks_cutoff_rank_and_crossing(tmp_path):
    run = Run(make_run(tmp_path / "run"))
    spectra = run.arrays("spectra.npz")
    panel = curves.spectrum(spectra).axes[-1]
    singular, rce, cutoff, rank, cap, eps = panel.get_lines()
    assert np.array_equal(singular.get_xdata(), np.arange(1, 130))
    assert np.array_equal(rce.get_xdata(), np.arange(130))
    assert cutoff.get_ydata()[0] == 1e-6 and rank.get_xdata()[0] == spectra["rank"][-1]
    # r∩ is the last index with Δ_n > RCE_n
    n = int(cap.get_xdata()[0])
    assert cap.get_ydata()[0] == singular.get_ydata()[n - 1] > rce.get_ydata()[n]
    assert singular.get_ydata()[n] <= rce.get_ydata()[n + 1]
    # rε counts from n = 0: RCE_(rε - 1) is the last >= ε
    n = int(eps.get_xdata()[0])
    assert 0 < n < 129 and rce.get_ydata()[n - 1] >= EPSILON > rce.get_ydata()[n]
    assert eps.get_ydata()[0] == rce.get_ydata()[n]


@pytest.mark.parametrize("count", [1, 2, 6, 7, 40, 1000])
def test_chosen_steps_hold_first_and_last(count):
    for steps in (np.arange(count) * 10, np.arange(count) ** 2):
        rows = curves.chosen(steps)
        assert rows[0] == 0 and rows[-1] == count - 1 and rows == sorted(set(rows))
        assert len(rows) == min(count, 6)


def test_missing_spectra_and_solution_leave_their_figures_out(tmp_path):
    run = make_run(tmp_path / "run")
    (run / "spectra.npz").unlink()
    assert [p.stem for p in figures(run)] == ["solution", "convergence", "points"]
    (run / "solution.npz").unlink()
    (run / "result.json").unlink()
    assert [p.stem for p in figures(run)] == ["convergence"]
    assert "not finished" in report(run).read_text()


def test_half_written_last_line_is_left_out_and_a_resumed_step_counts_once(tmp_path):
    run = make_run(tmp_path / "run")
    file = run / "metrics.jsonl"
    again = json.loads(file.read_text().splitlines()[50]) | {"l2_error": 0.5}
    file.write_text(file.read_text() + json.dumps(again) + '\n{"step": 61, "seco')
    metrics = Run(run).metrics
    assert [line["step"] for line in metrics] == list(range(61))
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
    assert len(figures(run)) == 4
    left, _ = curves.convergence(Run(run).metrics).axes
    total = next(li for li in left.get_lines() if li.get_label() == "mean square residual")
    assert np.flatnonzero(np.isnan(total.get_ydata())).tolist() == [10, 12]
    marked = next(li for li in left.get_lines() if li.get_label() == "non-finite")
    assert list(marked.get_xdata()) == [10]


def test_nothing_positive_still_gives_figures(tmp_path):
    run = make_run(tmp_path / "run")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        line |= {"mean_square_residual": math.nan, "heldout_residual": None, "l2_error": None}
        line["terms"] = {"interior": math.nan}
    (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    for name, keys in (("spectra", ("singular_values", "rce", "cutoff")), ("solution", ("u",))):
        arrays = dict(np.load(run / f"{name}.npz"))
        np.savez(run / f"{name}.npz", **arrays | {k: arrays[k] * np.nan for k in keys})
    assert len(figures(run)) == 4


class Page(HTMLParser):
    """Images, outside references and text of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.images: list[dict[str, str]] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = {k: v or "" for k, v in attrs}
        if tag == "img":
            self.images.append(values)
        elif tag in ("script", "link") or "href" in values or "src" in values:
            self.links.append(tag)

    def handle_data(self, data):
        self.text += data


def test_report_is_one_page_that_needs_nothing_else(tmp_path):
    run = make_run(tmp_path / "a run")
    text = report(run).read_text()
    page = Page(text)
    assert page.links == [] and not re.search(r"url\(|@import|https?://", text)
    for image, name in zip(page.images, ALL, strict=True):
        head, data = image["src"].split(",", 1)
        assert head == "data:image/png;base64" and len(image["alt"]) > 30
        assert base64.b64decode(data) == (run / "figures" / f"{name}.png").read_bytes()
    assert (run / "config.toml").read_text() in page.text
    assert "<b>0.10</b>" in page.text and "<b>" not in text
    assert f"distgram solve '{run}/config.toml'" in page.text
    assert "prefers-color-scheme: dark" in text and "target reached" in page.text
    assert "times that on the collocation points" not in page.text


def test_report_warns_where_training_and_held_out_residual_part(tmp_path):
    run = make_run(tmp_path / "run")
    (run / "spectra.npz").unlink()
    (run / "solution.npz").unlink()
    result = json.loads((run / "result.json").read_text()) | {
        "heldout_residual": 2.5e-27,
        "overfitted": ["interior"],
    }
    (run / "result.json").write_text(json.dumps(result))
    text = report(run).read_text()
    assert "2.5e+03 times that on the collocation points" in text
    assert "Ended by: target reached, overfitted" in text


def test_summary_groups_by_everything_but_the_seed(tmp_path):
    runs = [make_run(tmp_path / f"a{s}", seed=s) for s in (0, 1, 2)]
    runs.append(make_run(tmp_path / "wide", width=64))
    runs.append(make_run(tmp_path / "other", rule="anagram"))
    rows = {(r["rule"], r["configuration"]): r for r in summary(runs)}
    assert set(rows) == {
        ("amstramgram", "model.width = 32"), ("amstramgram", "model.width = 64"), ("anagram", ""),
    }  # fmt: skip
    row = rows["amstramgram", "model.width = 32"]
    assert row["seeds"] == row["runs"] == row["l2_error_count"] == 3
    # errors 1, 2, 3 e-15: mean 2e-15, sample standard deviation 1e-15; steps 60, 61, 62
    assert row["l2_error_mean"] == pytest.approx(2e-15, rel=1e-14)
    assert row["l2_error_std"] == pytest.approx(1e-15, rel=1e-14)
    assert (row["steps_mean"], row["steps_std"]) == (61, 1)
    assert row["reasons"] == {"target reached": 3}
    text = dict(zip(HEADER, cells(row), strict=True))
    assert text["L2 error"] == "2e-15 ± 1e-15" and text["ended by"] == "target reached (3)"


def test_summary_counts_unknown_values_and_unfinished_runs(tmp_path):
    runs = [make_run(tmp_path / f"a{s}", seed=s) for s in (0, 1, 2)]
    (runs[2] / "result.json").unlink()
    result = json.loads((runs[1] / "result.json").read_text())
    result |= {"l2_error": None, "heldout_residual": math.nan, "reason": "non-finite"}
    (runs[1] / "result.json").write_text(json.dumps(result))
    (row,) = summary(runs + runs[:1])  # the same folder twice is one run
    assert row["runs"] == 3
    assert (row["l2_error_mean"], row["l2_error_std"], row["l2_error_count"]) == (1e-15, None, 1)
    assert math.isnan(row["heldout_residual_mean"])
    assert row["reasons"] == {"target reached": 1, "non-finite": 1, "unfinished": 1}
    assert "1e-15 (1 of 3)" in cells(row)


def test_compare_writes_table_and_overlay(tmp_path):
    runs = [make_run(tmp_path / f"a{s}", seed=s) for s in (0, 1)]
    runs.append(make_run(tmp_path / "b", rule="anagram", floor=1e-12))
    written = compare(runs, tmp_path / "out")
    page = Page(written.read_text())
    assert written == tmp_path / "out" / "compare.html" and page.links == []
    (image,) = page.images
    png = base64.b64decode(image["src"].split(",", 1)[1])
    assert png == (tmp_path / "out" / "compare.png").read_bytes() and ink(png) > 0.01
    for cell in (c for row in summary(runs) for c in cells(row)):
        assert cell in page.text


def test_overlay_has_a_line_a_run_and_two_rows_a_problem(tmp_path):
    metrics = Run(make_run(tmp_path / "a")).metrics
    groups = {"heat": {"anagram": [metrics] * 3, "adam": [metrics]}, "burgers": {"adam": [metrics]}}
    axes = curves.overlay(groups).axes
    assert [len(ax.get_lines()) for ax in axes] == [4] * 4 + [1] * 4


def test_folders_that_are_no_runs_are_named(tmp_path):
    with pytest.raises(ReportError, match="not found"):
        figures(tmp_path / "nowhere")
    make_run(tmp_path / "runs" / "seed1")
    with pytest.raises(ReportError, match="is no run folder.*holds the run folders seed1"):
        report(tmp_path / "runs")
    with pytest.raises(ReportError, match="no run folder given"):
        summary([])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("metrics.jsonl", None, "metrics.jsonl: not found"),
        ("metrics.jsonl", '{"step": 1', "holds no whole line"),
        ("metrics.jsonl", '{"step": 1}\n{"step": 2, "seconds": 1}', "line 1: expected a JSON"),
        ("result.json", "{", "result.json: not valid JSON"),
        ("config.toml", "[problem", "config.toml: not valid TOML"),
        ("solution.npz", "PK", "solution.npz: cannot be read"),
    ],
)
def test_broken_files_are_named(tmp_path, name, text, message):
    run = make_run(tmp_path / "run")
    (run / name).unlink() if text is None else (run / name).write_text(text)
    with pytest.raises(ReportError, match=message):
        report(run)


def test_settings_leave_out_the_seed_only(tmp_path):
    run = make_run(tmp_path / "run")
    (run / "config.toml").write_text((run / "config.toml").read_text() + "steps = 7\n")
    assert Run(run).settings == {
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
