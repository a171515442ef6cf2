"""Curves of a run: what is marked of its spectra, which steps are shown, and what cannot be."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic_runs import EPSILON, make_run

from distgram.report.curves import (
    chosen,
    convergence,
    crossings,
    flattening,
    plain,
    recorded_nearest,
    spectrum,
)
from distgram.store.read import Run


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
    assert recorded_nearest(steps, [0, 40, 90, 120]) == [0, 2, 4]
    assert recorded_nearest(steps, [31, 29]) == [1, 2]


def test_crossing_is_found_for_rules_that_do_not_record_it(tmp_path):
    spectra = Run(make_run(tmp_path / "run")).arrays("spectra.npz")
    found = crossings(spectra)
    assert np.array_equal(found, spectra["r_cap"]) and len(set(found)) > 3
    # rows that are shorter, for fewer points, are filled up with nan
    spectra["singular_values"][:, 50:] = np.nan
    spectra["rce"][:, 51:] = np.nan
    assert np.array_equal(crossings(spectra), np.minimum(found, 50))


def test_flattening_shows_every_spectrum_in_its_column(tmp_path):
    spectra = Run(make_run(tmp_path / "run")).arrays("spectra.npz")
    figure = flattening(spectra)
    for ax, key, first in zip(figure.axes, ("singular_values", "rce"), (1, 0), strict=False):
        (mesh,) = ax.collections
        shown = np.asarray(mesh.get_array()).reshape(-1, 21)
        assert np.allclose(shown, np.log10(spectra[key]).T, rtol=1e-12)
        # the first row of cells has n in its middle
        corners = np.asarray(mesh.get_coordinates())
        assert corners[:2, 0, 1].mean() == first
        rank, cap, eps = ax.get_lines()
        assert np.array_equal(rank.get_ydata(), spectra["rank"])
        assert np.array_equal(cap.get_ydata(), spectra["r_cap"])
        assert np.array_equal(eps.get_ydata(), spectra["r_eps"])
    without = flattening(spectra | {"r_eps": np.full(21, -1)})
    assert len(without.axes[0].get_lines()) == 2


def test_dollar_signs_in_names_are_no_formulas(tmp_path):
    rows = Run(make_run(tmp_path / "run")).metrics
    for row in rows:
        row["terms"] = {r"$\frac$": 1.0, "a_b^c": 2.0}
    figure = convergence(rows)
    figure.savefig(tmp_path / "figure.png", dpi=20)
    assert plain("a$b") == r"a\$b"
