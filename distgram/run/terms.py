"""The terms of the loss, all but those that a hard constraint satisfies, and their Draws."""

from __future__ import annotations

from collections.abc import Sequence

from distgram.errors import ProblemError, nearest
from distgram.geometry.boundary import Boundary, Oriented
from distgram.net.unknown import posed
from distgram.pde.measurements import Measurements
from distgram.pde.problem import Problem, Term
from distgram.points.draw import Draw, fixed_count, weighted
from distgram.run.setup import Setup


def open_terms(setup: Setup, problem: Problem) -> tuple[Term, ...]:
    """The terms of the loss, weighted as their Draws say. `points` must name each of them whose
    region is not a set of sites, and no other name."""
    constraint = problem.constraint if setup.hard_constraint else None
    hard = constraint.satisfies if constraint else ()
    terms = [t for t in problem.terms if t.name not in hard]
    if not terms:
        raise ProblemError(f"problem {problem.name!r}: the hard constraint leaves no term.")
    if setup.points is not None:
        names = [t.name for t in terms]
        for name in setup.points:
            if name in hard:
                raise ProblemError(
                    f"points.{name}: the hard constraint satisfies this term exactly; leave it out."
                )
            if name not in names:
                raise ProblemError(f"points.{name}: no such term: {nearest(name, names)}")
        for term in terms:
            if term.name not in setup.points and fixed_count(term) is None:
                raise ProblemError(
                    f"points.{term.name} is missing: term {term.name!r} has no points."
                )
    if setup.unknown:
        terms = [t if isinstance(t.region, Measurements) else posed(t, setup.pose) for t in terms]
    draws = wanted(setup, terms)
    return tuple(weighted(t, draws[t.name]) for t in terms)


def wanted(setup: Setup, terms: Sequence[Term]) -> dict[str, Draw]:
    """The points of every term as they are asked for, before any growth."""
    given = setup.points or {}
    draws = {}
    for term in terms:
        asked = given.get(term.name)
        if asked is None:
            draws[term.name] = default_draw(term)
        else:
            draws[term.name] = asked if isinstance(asked, Draw) else Draw(asked)
    return draws


def default_draw(term: Term) -> Draw:
    """The points of a term where none are asked for: all of a fixed set; 256 of a boundary in up to
    two dimensions, 1024 beyond; 2048 of another region in up to two dimensions, 8192 beyond."""
    fixed = fixed_count(term)
    if fixed is not None:
        return Draw(fixed)
    low = (term.region.boundary if isinstance(term.region, Oriented) else term.region).dim <= 2
    if isinstance(term.region, Boundary | Oriented):
        return Draw(256 if low else 1024)
    return Draw(2048 if low else 8192)
