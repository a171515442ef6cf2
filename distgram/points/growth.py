"""The number of points at the start and after each growth, and the check that points can move."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from distgram.errors import ProblemError
from distgram.geometry.samplers import RANDOM
from distgram.pde.problem import Term
from distgram.points.adaptive.placement import Placement
from distgram.points.draw import Draw, fixed_count

Draws = Mapping[str, Draw]


def check_placement(
    placement: Placement, draws: Draws, terms: Sequence[Term], rule: str, has_spectrum: bool
) -> None:
    """Check that the points of the terms can be moved by a placement.

    Raises:
        ProblemError: points that cannot be moved in this way, a rule without the spectrum that the
        placement needs, a budget that leaves no room to grow.
    """
    name, grow = placement.name, placement.grow
    if placement.needs_spectrum and not has_spectrum:
        raise ProblemError(
            f"sampling.name = {name!r}: it asks for the spectrum of the Jacobian, which rule "
            f"{rule!r} does not make: take 'fresh', 'rad', 'rar' or 'r3'."
        )
    moving = [t for t in terms if fixed_count(t) is None]
    for term in moving:
        wanted = draws[term.name]
        if wanted.sampler not in RANDOM:
            raise ProblemError(
                f"points.{term.name}.sampler = {wanted.sampler!r}: its points are always the same, "
                f"and sampling.name = {name!r} moves them: expected {', '.join(RANDOM)}."
            )
        if wanted.focus is not None and not placement.keeps_focus:
            raise ProblemError(
                f"points.{term.name}.focus: sampling.name = {name!r} finds by itself where "
                "points are wanted: leave the focus out, or take 'fresh', which keeps it."
            )
    if not moving:
        raise ProblemError(f"sampling.name = {name!r}: all terms have fixed points.")
    if grow is not None and last_growth(placement, draws, terms) == 0:
        once = total(grown(placement, draws, terms, 1))
        raise ProblemError(
            f"sampling.grow.budget = {grow.budget}: expected at least {once}, the "
            f"{total(draws)} points there are times factor = {grow.factor:g}; or leave grow out."
        )


def first_draw(placement: Placement | None, term: Term, wanted: Draw) -> Draw:
    """The Draw of a term before the first step, with which its placement begins."""
    if placement is None or fixed_count(term) is not None:
        return wanted
    return replace(wanted, count=placement.begin(wanted.count))


def total(draws: Draws) -> int:
    """S, the number of points of all terms."""
    return sum(wanted.count for wanted in draws.values())


def grown(
    placement: Placement | None, draws: Draws, terms: Sequence[Term], growth: int
) -> dict[str, Draw]:
    """The draws after `growth` growths: each count times factor^growth; sets of sites stay."""
    if growth == 0 or placement is None or placement.grow is None:
        return dict(draws)
    factor = placement.grow.factor**growth
    fixed = {t.name for t in terms if fixed_count(t) is not None}
    return {
        name: wanted if name in fixed else replace(wanted, count=round(wanted.count * factor))
        for name, wanted in draws.items()
    }


def last_growth(placement: Placement | None, draws: Draws, terms: Sequence[Term]) -> int:
    """The number of growths that the budget allows."""
    grow = None if placement is None else placement.grow
    if grow is None or all(fixed_count(t) is not None for t in terms):
        return 0
    growth = 0
    while total(grown(placement, draws, terms, growth + 1)) <= grow.budget:
        growth += 1
    return growth
