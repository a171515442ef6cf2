"""A setting of a rule, a baseline or a line search outside its range is named with its value."""

from __future__ import annotations

import math

import pytest

from distgram.errors import RuleError
from distgram.rules.adaptive_ratio import AdaptiveRatio
from distgram.rules.amstramgram import AMStramGRAM
from distgram.rules.anagram import ANaGRAM
from distgram.rules.baselines.adam import Adam
from distgram.rules.baselines.lbfgs import LBFGS
from distgram.rules.baselines.ssbroyden import SSBroyden
from distgram.rules.extrapolation import Extrapolation
from distgram.rules.line_search import Backtracking, GridSearch

NAN, INF = math.nan, math.inf
OUTSIDE = [
    (ANaGRAM, "cutoff", (0.0, -1e-3, INF, NAN)),
    (ANaGRAM, "relative_cutoff", (-0.1, 1.0, 2.0, NAN)),
    (AMStramGRAM, "epsilon", (0.0, -1.0, INF, NAN)),
    (AMStramGRAM, "validation", (0,)),
    (AdaptiveRatio, "ratio", (0.0, 1.0, NAN)),
    (AdaptiveRatio, "window", (1.0, INF, NAN)),
    (AdaptiveRatio, "initial", (0.0, INF, NAN)),
    (AdaptiveRatio, "trials", (1,)),
    (AdaptiveRatio, "excursion", (-0.1, 1.5, NAN)),
    (AdaptiveRatio, "patience", (0,)),
    (AdaptiveRatio, "depth", (0.0, 2.0, NAN)),
    (AdaptiveRatio, "acceleration", (-0.1, 1.5, NAN)),
    (AdaptiveRatio, "validation", (0,)),
    (Extrapolation, "validation", (0, -1)),
    (GridSearch, "count", (0,)),
    (GridSearch, "ratio", (0.0, 1.0, NAN)),
    (Backtracking, "count", (0,)),
    (Backtracking, "ratio", (0.0, 1.0, NAN)),
    (Backtracking, "armijo", (-0.1, 1.0, NAN)),
    (Adam, "learning_rate", (0.0, INF, NAN)),
    (Adam, "decay_rate", (0.0, 1.5, NAN)),
    (Adam, "decay_steps", (0,)),
    (LBFGS, "memory_size", (0,)),
    (LBFGS, "line_search_steps", (0,)),
    (SSBroyden, "line_search_steps", (0, -1)),
]


@pytest.mark.parametrize("cls, name, values", OUTSIDE)
def test_a_setting_outside_its_range_is_named(cls, name, values):
    for value in values:
        with pytest.raises(RuleError) as error:
            cls(**{name: value})
        assert str(error.value).startswith(f"{cls.__name__}.{name} = {value!r}: ")


@pytest.mark.parametrize("given", [{}, {"cutoff": 1e-6, "relative_cutoff": 1e-6}])
def test_anagram_takes_one_cutoff(given):
    with pytest.raises(RuleError, match=r"^ANaGRAM\.cutoff = "):
        ANaGRAM(**given)


def test_extrapolation_needs_points_to_extrapolate_to():
    """Without held-out rows its rank would be the whole spectrum's, in silence."""
    with pytest.raises(RuleError, match=r"^Extrapolation\.validation = None: "):
        Extrapolation(validation=None)
