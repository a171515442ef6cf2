"""The door between a configuration and the library: tables become objects."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from distgram.config.schema import Config
from distgram.config.tables import build as build_object
from distgram.errors import ProblemError, UserError, nearest
from distgram.pde import module_file
from distgram.pde.measurements import data_term
from distgram.pde.problem import Problem
from distgram.pde.registry import builder, file_builder
from distgram.run import automatic
from distgram.run.checks import error_in_words
from distgram.run.setup import Limits, Schedule, Setup
from distgram.store import storage
from distgram.store.storage import Folder


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


def with_files_beside(config: Config) -> Config:
    """The config whose problem.files name all that its problem file needs of its own folder: what
    it named, where that is a folder what is in it, and what `setup` has seen it import and read."""
    problem = config.problem
    if problem.file is None:
        return config
    file = storage.folder(problem.file)
    names = set(module_file.beside(file)) if isinstance(file, Path) else set()
    for name in problem.files:
        below = storage.files(file.parent / name) or [file.parent / name]
        names |= {str(path.relative_to(file.parent)) for path in below}
    problem = problem.model_copy(update={"files": sorted(names - {file.name})})
    return config.model_copy(update={"problem": problem})


def _problem_file(config: Config) -> Folder:
    """The problem file of a config; one of another store that needs files beside it, as a copy
    that this process keeps until it ends.

    Raises:
        ProblemError: a file that it needs is not there.
    """
    file = storage.folder(str(config.problem.file))
    if not file.is_file():  # which is told where it is loaded
        return file
    for name in config.problem.files:
        if not (file.parent / name).exists():
            there = [path.name for path in file.parent.iterdir()]
            raise ProblemError(
                f"problem.files: {name!r}: not found in {file.parent}: {nearest(name, there)}"
            )
    if isinstance(file, Path) or not config.problem.files:
        return file
    names = (file.name, *config.problem.files)
    return _copied_here(tuple((name, (file.parent / name).read_bytes()) for name in names))


@cache
def _copied_here(texts: tuple[tuple[str, bytes], ...]) -> Path:
    """The first of some files, of which this process keeps copies until it ends."""
    here = Path(tempfile.mkdtemp(prefix="distgram-problem-"))
    atexit.register(shutil.rmtree, here, ignore_errors=True)
    for name, text in texts:
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_bytes(text)
    return here / texts[0][0]


def _problem(config: Config) -> Any:
    """The problem of a config, or, where coefficients are unknown, the function that gives it."""
    table, unknown = config.problem, {n: t.initial for n, t in config.unknown.items()}
    for name in unknown:
        if name in table.parameters:
            raise ProblemError(f"unknown.{name}: problem.parameters gives it too: leave one out.")
    pose = builder(table.name) if table.name else file_builder(_problem_file(config))

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
