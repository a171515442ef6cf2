"""Which equations a run solves: the problem of a config, its terms left to the loss, its data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from distgram.config.schema import Config, PointsConfig
from distgram.errors import ProblemError, RegionError, nearest
from distgram.net.unknown import Pose, posed
from distgram.pde.measurements import Measurements, data_term
from distgram.pde.problem import Problem, Term
from distgram.pde.registry import builder, file_builder
from distgram.points.draw import weighted
from distgram.store import storage


def build_pose(config: Config) -> Pose:
    """From the unknown coefficients to the problem a config names."""
    c = config.problem
    for name in config.unknown:
        if name in c.parameters:
            raise ProblemError(f"unknown.{name}: problem.parameters gives it too: leave one out.")
    build = builder(c.name) if c.name else file_builder(storage.folder(str(c.file)))

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


def build_problem(config: Config, found: Mapping[str, float] | None = None) -> Problem:
    """The problem a config names, with unknown coefficients at their initial values or those found:
    then its solution is not that of the run, and is not known."""
    values = {name: u.initial for name, u in config.unknown.items()} | dict(found or {})
    problem = build_pose(config)(values)
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
    if config.unknown:
        pose = build_pose(config)
        terms = tuple(posed(t, pose) for t in terms)
    return tuple(weighted(t, config.points[t.name]) for t in terms)


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


def with_data(config: Config, terms: Sequence[Term]) -> Config:
    """The config with as many points of the data terms as they have rows."""
    rows = {
        t.name: PointsConfig(count=len(t.region.x))
        for t in terms
        if isinstance(t.region, Measurements)
    }
    return config.model_copy(update={"points": config.points | rows})
