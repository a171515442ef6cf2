"""From the table `[sampling]` to a placement, and to the config of every stage of growth."""

from __future__ import annotations

from collections.abc import Sequence

from distgram.config.sampling import MovingConfig
from distgram.config.schema import Config, PointsConfig
from distgram.errors import ProblemError
from distgram.pde.problem import Term
from distgram.points.adaptive.fresh import Fresh
from distgram.points.adaptive.greedy import Greedy
from distgram.points.adaptive.leverage import Leverage
from distgram.points.adaptive.placement import Placement
from distgram.points.adaptive.r3 import R3
from distgram.points.adaptive.rad import RAD
from distgram.points.adaptive.rar import RAR
from distgram.points.draw import fixed_count

MAKERS = {"fresh": Fresh, "rad": RAD, "rar": RAR, "r3": R3, "leverage": Leverage, "greedy": Greedy}
RANDOM = ("sobol", "uniform", "latin_hypercube")


def build_placement(config: Config, terms: Sequence[Term], has_spectrum: bool) -> Placement | None:
    """The placement a config names, None where points stay.

    Raises:
        ProblemError: points that cannot be moved in this way, a rule without the spectrum it needs,
        a budget that leaves no room to grow.
    """
    c = config.sampling
    if not isinstance(c, MovingConfig):
        return None
    placement = MAKERS[c.name](**c.model_dump(exclude={"name", "every", "grow"}))
    if placement.needs_spectrum and not has_spectrum:
        raise ProblemError(
            f"sampling.name = {c.name!r}: it asks for the spectrum of the Jacobian, which rule "
            f"{config.rule.name!r} does not make: take 'fresh', 'rad', 'rar' or 'r3'."
        )
    moving = [t for t in terms if fixed_count(t) is None]
    for term in moving:
        points = config.points[term.name]
        if points.sampler not in RANDOM:
            raise ProblemError(
                f"points.{term.name}.sampler = {points.sampler!r}: its points are always the same, "
                f"and sampling.name = {c.name!r} moves them: expected {', '.join(RANDOM)}."
            )
        if points.focus is not None and c.name != "fresh":
            raise ProblemError(
                f"points.{term.name}.focus: sampling.name = {c.name!r} finds by itself where "
                "points are wanted: leave the focus out, or take 'fresh', which keeps it."
            )
    if not moving:
        raise ProblemError(f"sampling.name = {c.name!r}: all terms have fixed points.")
    if c.grow is not None and last_stage(config, terms) == 0:
        raise ProblemError(
            f"sampling.grow.budget = {c.grow.budget}: expected at least "
            f"{total(at_stage(config, terms, 1))}, the {total(config)} points there are times "
            f"factor = {c.grow.factor:g}; or leave grow out."
        )
    return placement


def begun(placement: Placement | None, term: Term, wanted: PointsConfig) -> PointsConfig:
    """What is to be drawn of a term before the first step."""
    if placement is None or fixed_count(term) is not None:
        return wanted
    return wanted.model_copy(update={"count": placement.begin(wanted.count)})


def total(config: Config) -> int:
    """S, the number of points of all terms."""
    return sum(points.count for points in config.points.values())


def at_stage(config: Config, terms: Sequence[Term], stage: int) -> Config:
    """The config after `stage` growths: the counts times factor^stage, but of fixed points."""
    grow = getattr(config.sampling, "grow", None)
    if stage == 0 or grow is None:
        return config
    fixed = {t.name for t in terms if fixed_count(t) is not None}
    larger = {
        name: p
        if name in fixed
        else p.model_copy(update={"count": round(p.count * grow.factor**stage)})
        for name, p in config.points.items()
    }
    return config.model_copy(update={"points": larger})


def last_stage(config: Config, terms: Sequence[Term]) -> int:
    """The number of growths until the next one would exceed the budget."""
    grow, stage = getattr(config.sampling, "grow", None), 0
    if grow is None or all(fixed_count(t) is not None for t in terms):
        return 0
    while total(at_stage(config, terms, stage + 1)) <= grow.budget:
        stage += 1
    return stage
