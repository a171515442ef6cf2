"""Which equations a run solves: the problem of a config, its terms left to the loss, its data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from distgram.config import Config
from distgram.measurements import data_term
from distgram.problem import Problem, ProblemError, Term, nearest
from distgram.regions import RegionError
from distgram.registry import builder, file_builder
from distgram.unknown import Pose, posed


def build_pose(config: Config) -> Pose:
    """From the unknown coefficients to the problem a config names."""
    c = config.problem
    for name in config.unknown:
        if name in c.parameters:
            raise ProblemError(f"unknown.{name}: problem.parameters gives it too: leave one out.")
    build = builder(c.name) if c.name else file_builder(str(c.file))

    def pose(coefficients: Mapping[str, Any]) -> Problem:
        try:
            return build({**c.parameters, **coefficients})
        except (ProblemError, RegionError):
            raise
        except Exception as error:  # the user's function, or a parameter of the wrong type
            line = (str(error).strip().splitlines() or [""])[0]
            raise ProblemError(
                f"problem {c.name or c.file!r} cannot be built: {type(error).__name__}: {line}"
            ) from error

    return pose


def build_problem(config: Config) -> Problem:
    """The problem a config names, with unknown coefficients at their initial values: then its
    solution is not that of the run, and is not known."""
    problem = build_pose(config)({name: u.initial for name, u in config.unknown.items()})
    return replace(problem, exact=None, reference=None) if config.unknown else problem


def open_terms(config: Config, problem: Problem) -> tuple[Term, ...]:
    """The terms that need points, with their weights; `[points]` must name exactly these."""
    hard = (
        problem.constraint.satisfies if config.model.hard_constraint and problem.constraint else ()
    )
    without, every = config.problem.without, [t.name for t in problem.terms]
    for name in without:
        if name not in every:
            raise ProblemError(f"problem.without: no term {name!r}: {nearest(name, every)}")
        if name in hard:
            raise ProblemError(
                f"problem.without: the hard constraint imposes term {name!r}; expected "
                "model.hard_constraint = false."
            )
    terms = tuple(t for t in problem.terms if t.name not in (*hard, *without))
    names = [t.name for t in terms]
    for name in config.points:
        if name in hard:
            raise ProblemError(
                f"points.{name}: the hard constraint satisfies this term exactly; leave it out."
            )
        if name not in names:
            raise ProblemError(f"points.{name}: no such term: {nearest(name, names)}")
    for name in names:
        if name not in config.points:
            raise ProblemError(f"points.{name} is missing: term {name!r} has no points.")
    if not terms:
        raise ProblemError(f"problem {problem.name!r}: the hard constraint leaves no term.")
    terms = tuple(replace(t, weight=t.weight * config.points[t.name].weight) for t in terms)
    if not config.unknown:
        return terms
    pose = build_pose(config)
    return tuple(posed(t, pose) for t in terms)


def data_terms(config: Config, problem: Problem) -> tuple[Term, ...]:
    """The terms of `[data]`, which need no points."""
    every = [t.name for t in problem.terms]
    for name in config.data:
        if name in every:
            raise ProblemError(f"data.{name}: a term of the problem has that name; choose another.")
    return tuple(
        data_term(name, Path(table.file), table.weight, problem)
        for name, table in config.data.items()
    )


def point_count(config: Config, term: Term) -> int:
    """The number of points of a term: as asked for, or the rows of its data."""
    asked = config.points.get(term.name)
    return asked.count if asked else int(term.region.measure())
