"""The door between a configuration and the library: tables become objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from distgram.config.schema import Config
from distgram.config.tables import build as build_object
from distgram.errors import ProblemError, UserError, nearest
from distgram.pde.measurements import data_term
from distgram.pde.problem import Problem
from distgram.pde.registry import builder, file_builder
from distgram.run import automatic
from distgram.run.checks import error_in_words
from distgram.run.setup import Limits, Schedule, Setup
from distgram.store import storage


def build(config: Config) -> dict[str, Any]:
    """The arguments of `distgram.solve` that a config describes. A problem file is executed here,
    once.

    Raises:
        ProblemError, RegionError, TableError: the problem or its data cannot be built. UserError: a
        value outside its range, by its key.
    """
    model, run, problem = config.model, config.run, _problem(config)
    given = {
        "problem": problem,
        "network": build_object(model, "model"),
        "points": {n: build_object(t, f"points.{n}") for n, t in config.points.items()} or None,
        "rule": build_object(config.rule, "rule"),
        "factorization": _chosen(config.factorization, "factorization"),
        "placement": _chosen(config.sampling, "sampling"),
        "slabs": None if config.time is None else build_object(config.time, "time"),
        "unknown": {n: build_object(t, f"unknown.{n}") for n, t in config.unknown.items()},
        "hard_constraint": model.hard_constraint,
        "balance": run.balance,
        "limits": limits(config),
        "schedule": build_object(run, "run", Schedule),
        "memory": build_object(config.memory, "memory"),
        "seed": run.seed,
    }
    if config.automatic and isinstance(problem, Problem):
        given |= automatic.choices(problem)
    return given


def limits(config: Config) -> Limits:
    """When the run of a config ends."""
    return build_object(config.run, "run", Limits)


def setup(config: Config) -> Setup:
    """The setup that a config describes; see `build`."""
    return Setup(**build(config))


def _chosen(table: Any, key: str) -> Any:
    """The object of a table, None where it says that the run may choose or leave out."""
    return None if table.described is None else build_object(table, key)


def _problem(config: Config) -> Any:
    """The problem of a config, or, where coefficients are unknown, the function that gives it."""
    table, unknown = config.problem, {n: t.initial for n, t in config.unknown.items()}
    for name in unknown:
        if name in table.parameters:
            raise ProblemError(f"unknown.{name}: problem.parameters gives it too: leave one out.")
    pose = builder(table.name) if table.name else file_builder(storage.folder(str(table.file)))

    def posed(coefficients: Mapping[str, Any]) -> Problem:
        try:
            return pose({**table.parameters, **coefficients})
        except (UserError, KeyboardInterrupt):
            raise
        except BaseException as error:  # the user's function, or a parameter of the wrong type
            raise ProblemError(
                f"problem {table.name or table.file!r} cannot be built: {error_in_words(error)}"
            ) from error

    first = posed(unknown)
    names = [t.name for t in first.terms]
    hard = first.constraint.satisfies if config.model.hard_constraint and first.constraint else ()
    for name in table.without:
        if name not in names:
            raise ProblemError(f"problem.without: no term {name!r}: {nearest(name, names)}")
        if name in hard:
            raise ProblemError(
                f"problem.without: the hard constraint imposes term {name!r}; expected "
                "model.hard_constraint = false."
            )
    for name in config.data:
        if name in names:
            raise ProblemError(f"data.{name}: a term of the problem has that name; choose another.")
    data = tuple(data_term(name, Path(t.file), t.weight, first) for name, t in config.data.items())

    def whole(problem: Problem) -> Problem:
        if not (data or table.without):
            return problem
        kept = tuple(t for t in problem.terms if t.name not in table.without)
        constraint = problem.constraint if config.model.hard_constraint else None
        return replace(problem, terms=(*kept, *data), constraint=constraint)

    if not unknown:
        return whole(first)
    return lambda **coefficients: whole(posed(coefficients))
