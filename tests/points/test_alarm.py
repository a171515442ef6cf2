"""The overfitting alarm on synthetic rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from distgram.points.alarm import PARTED, PARTING, TREND, observe, overfitted, quiet, warning


def row(*pairs: tuple[float, float]) -> dict[str, Any]:
    """A row of metrics: (training, held-out) of each term."""
    names = "ab"[: len(pairs)]
    return {
        "step": 7,
        "terms": dict(zip(names, [p[0] for p in pairs], strict=True)),
        "heldout_terms": dict(zip(names, [p[1] for p in pairs], strict=True)),
    }


def names(*rows: dict[str, Any]) -> list[str]:
    """The terms overfitted at the last of some rows."""
    alarm = quiet(len(rows[0]["terms"]))
    for r in rows:
        alarm = observe(alarm, r)
    found = overfitted(alarm, rows[-1])
    assert [n for n, loud in zip(rows[-1]["terms"], alarm.raised, strict=True) if loud] == found
    return found


def test_parted_by_the_ratio_alone():
    assert names(row((1.0, 1.01 * PARTED))) == ["a"]
    assert names(row((1.0, 0.99 * PARTED))) == []


@pytest.mark.parametrize("rises", range(TREND + 2))
def test_parting_by_ratio_and_trend(rises):
    ratios = [2 * PARTING * 1.2**k for k in range(rises + 1)]
    assert names(*(row((1.0, r)) for r in ratios)) == (["a"] if rises >= TREND else [])


def test_a_fall_ends_the_trend_and_a_low_ratio_is_none():
    rising = [row((1.0, 2 * PARTING * 1.2**k)) for k in range(TREND + 1)]
    assert names(*rising, row((1.0, 2 * PARTING))) == []
    assert names(*(row((1.0, 1.1**k)) for k in range(TREND + 3))) == []


def test_a_term_that_does_not_matter_is_not_overfitted():
    # b has parted by a thousand, but is far below the residual of a
    assert names(row((1.0, 1.0), (1e-9, 1e-6))) == []
    assert names(row((1e-7, 1e-7), (1e-9, 1e-6))) == ["b"]


def test_zero_and_nan():
    assert names(row((0.0, 0.0))) == []
    assert names(row((0.0, 1e-30))) == ["a"]
    for blown in ((np.nan, np.nan), (np.inf, np.inf), (1.0, np.nan)):
        assert names(row(blown)) == []


def test_the_verdict_on_other_parameters_does_not_count_as_a_row():
    alarm = quiet(1)
    for k in range(TREND):
        alarm = observe(alarm, row((1.0, 2 * PARTING * 1.2**k)))
    assert overfitted(alarm, row((1.0, 9 * PARTING))) == []


def test_warning_names_the_terms():
    line = warning(row((1.0, 500.0), (1.0, 1.0)) | {"overfitted": ["a"]})
    assert "step 7" in line and "a 5e+02 against 1" in line and "b " not in line
