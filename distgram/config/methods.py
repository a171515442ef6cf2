"""From the `[rule]` of a config to its rule or baseline."""

from __future__ import annotations

from distgram.config.schema import Config
from distgram.errors import RuleError
from distgram.linalg.plan import Plan
from distgram.rules.adaptive_ratio import AdaptiveRatio
from distgram.rules.amstramgram import AMStramGRAM
from distgram.rules.anagram import ANaGRAM
from distgram.rules.baselines.adam import Adam
from distgram.rules.baselines.baseline import Baseline
from distgram.rules.baselines.engd import ENGD
from distgram.rules.baselines.lbfgs import LBFGS
from distgram.rules.baselines.ssbroyden import SSBroyden
from distgram.rules.extrapolation import Extrapolation
from distgram.rules.line_search import Backtracking, GridSearch, LineSearch
from distgram.rules.rule import Rule

METHODS = {
    "adaptive_ratio": AdaptiveRatio,
    "anagram": ANaGRAM,
    "amstramgram": AMStramGRAM,
    "extrapolation": Extrapolation,
    "engd": ENGD,
    "adam": Adam,
    "lbfgs": LBFGS,
    "ssbroyden": SSBroyden,
}


def build_method(config: Config, planned: Plan) -> Rule | Baseline:
    """The rule or baseline a config names.

    Raises:
        RuleError: a setting outside its range; held-out rows where the right vectors are sharded.
    """
    c = config.rule
    fields = c.model_dump(exclude={"name", "line_search"})
    search = getattr(c, "line_search", None)
    if search is not None:
        fields["line_search"] = _line_search(search)
    method = METHODS[c.name](**fields)
    if isinstance(method, Rule) and method.validation is not None:
        if planned.name == "dual" and planned.shape.devices > 1:
            raise RuleError(
                f"rule.validation = {method.validation}: the dual shards its right vectors over "
                f"{planned.shape.devices} devices, and held-out rows need them whole: expected "
                f"one device, or at least {planned.shape.p} rows, as many as parameters."
            )
    return method


def _line_search(c) -> LineSearch:
    fields = c.model_dump(exclude={"name"})
    return GridSearch(**fields) if c.name == "grid" else Backtracking(**fields)
