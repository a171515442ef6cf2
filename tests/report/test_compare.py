"""Several runs on one page: groups, means and spreads, time to accuracy."""

from __future__ import annotations

import base64
import json
import math

import numpy as np
import pytest
from synthetic_runs import Page, ink, make_run

from distgram.errors import RunError
from distgram.report.compare import (
    HEADER,
    cells,
    compare,
    levels,
    mean_of_logs,
    overlay,
    reached,
    summary,
)
from distgram.store.read import Run


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
    assert row["reasons"] == {"target": 3}
    text = dict(zip(HEADER, cells(row), strict=True))
    assert text["L2 error"] == "2e-15 ± 1e-15" and text["ended by"] == "target (3)"


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
    assert row["reasons"] == {"target": 1, "non-finite": 1, "unfinished": 1}
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


def test_nothing_to_compare_is_an_error():
    with pytest.raises(RunError, match="compare"):
        summary([])


def test_overlay_has_a_line_a_run_and_two_rows_a_problem(tmp_path):
    metrics = Run(make_run(tmp_path / "a")).metrics
    groups = {"heat": {"anagram": [metrics] * 3, "adam": [metrics]}, "burgers": {"adam": [metrics]}}
    axes = overlay(groups).axes
    # the three runs of anagram have a fourth line, their mean
    assert [len(ax.get_lines()) for ax in axes] == [5] * 4 + [1] * 4


def test_mean_of_logs_is_geometric_and_a_run_that_ended_keeps_its_last_value():
    x = np.array([0.0, 10.0, 20.0])
    short, long = (x[:2], np.array([1.0, 1e-2])), (x, np.array([1.0, 1e-4, 1e-6]))
    nodes, mean, spread = mean_of_logs([short, long])
    assert nodes.tolist() == [0, 10, 20] and mean == pytest.approx([0, -3, -4])
    assert spread == pytest.approx([0, math.sqrt(2), 2 * math.sqrt(2)])


def test_time_to_accuracy_is_that_of_the_first_step_low_enough():
    errors = [1.0, 1e-2, None, 0.5, 1e-3]
    lines = [{"step": k, "seconds": 2.0 * k, "l2_error": e} for k, e in enumerate(errors)]
    assert reached(lines, "l2_error", 1e-2) == (1, 2.0)
    assert reached(lines, "l2_error", 1e-3) == (4, 8.0)
    assert reached(lines, "l2_error", 9e-4) is None
    assert levels([lines], "l2_error") == [1e-1, 1e-2, 1e-3]
    deep = [{"l2_error": 1.0}, {"l2_error": 3e-16}]
    assert levels([lines, deep], "l2_error") == pytest.approx([1e-3, 1e-6, 1e-9, 1e-12, 1e-15])
    assert levels([[{"l2_error": None}]], "l2_error") == []


def test_compare_tells_who_got_there_and_when(tmp_path):
    runs = [make_run(tmp_path / f"a{s}", seed=s) for s in (0, 1)]
    runs.append(make_run(tmp_path / "b", rule="anagram", floor=1e-12))
    text = compare(runs, tmp_path / "out").read_text()
    # L2 error is a tenth of 10^(-step/4), or a little more: 1e-6 after 21 steps of 0.11 s; that of
    # anagram ends at 1e-7
    assert "2.31 ± 0 s (21 steps)" in text and text.count("not reached") == 3
