"""The cutoff's story: what is marked, which steps are shown, and the film of it."""

from __future__ import annotations

import numpy as np
import pytest
from distgram.report.film import film
from distgram.report.spectra import chosen, r_cap, spectrum
from distgram.report.svg import MARKS, Plot
from synthetic_runs import EPSILON, make_run

from distgram.errors import nearest
from distgram.store.run_folder import Run


def test_spectrum_marks_cutoff_rank_and_crossing(tmp_path):
    run = Run(make_run(tmp_path / "run"))
    spectra = run.arrays("spectra.npz")
    panel = spectrum(spectra).axes[-1]
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
        rows = chosen(steps)
        assert rows[0] == 0 and rows[-1] == count - 1 and rows == sorted(set(rows))
        assert len(rows) == min(count, 6)


def test_the_steps_asked_for_are_shown_and_each_once():
    steps = np.array([1, 20, 40, 60, 90])
    assert nearest(steps, [0, 40, 90, 120]) == [0, 2, 4]
    assert nearest(steps, [31, 29]) == [1, 2]


def test_crossing_is_found_for_rules_that_do_not_record_it(tmp_path):
    spectra = Run(make_run(tmp_path / "run")).arrays("spectra.npz")
    caps = [r_cap(spectra, row) for row in range(len(spectra["step"]))]
    assert caps == spectra["r_cap"].tolist() and len(set(caps)) > 3


def test_film_has_a_frame_a_spectrum_each_with_its_numbers(tmp_path):
    spectra = Run(make_run(tmp_path / "run")).arrays("spectra.npz")
    html = film(spectra)
    assert html.count('<g class="frame"') == 21 and html.count(" hidden data-words") == 20
    for row in (0, 20):
        cap, eps = spectra["r_cap"][row], spectra["r_eps"][row]
        loss = spectra["rce"][row, 0] ** 2
        words = f"Step {spectra['step'][row]}: rank {cap} of 129, r∩ {cap}, rε {eps}, "
        assert f"{words}mean square residual before the step {loss:.2g}" in html
    # a circle a frame, a triangle where rε is one of the n, and one of each in the legend
    seen = int(np.sum(spectra["r_eps"] < spectra["rce"].shape[1]))
    assert [html.count(mark) for mark in MARKS.values()] == [22, seen + 1] and seen > 0
    assert "rε</li>" in html
    bare = film(spectra | {"r_eps": np.full(21, -1)})
    assert "r∩, crossing</li>" in bare and "rε</li>" not in bare
    assert film({key: values[:1] for key, values in spectra.items()}) == ""


def test_curves_land_where_they_belong():
    plot = Plot(0.0, 10.0, -4.0, 0.0)
    x, y = plot.at(np.array([0.0, 10.0, 5.0, 5.0, 5.0]), np.array([1.0, 1e-4, 1e-2, 0.0, 1e-9]))
    assert x.tolist() == [70, 946, 508, 508, 508]
    assert y[:3].tolist() == [14, 374, 194] and np.isnan(y[3]) and y[4] == 374
    # zeros leave a gap: two strokes
    assert plot.curve(np.arange(4), np.array([1, 0.1, 0, 0.01]), "first").count("M") == 2
    assert plot.level(10.0, "cut") == plot.rise(11.0, "cut") == plot.mark(1.0, 0.0, "circle") == ""
    assert "10<tspan" in plot.axes("n", "y & z") and "y &amp; z" in plot.axes("n", "y & z")
