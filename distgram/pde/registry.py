"""The problems by name: those of `distgram.pde.problems`, and a Python file of the user's."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.util
import inspect
import pkgutil
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from distgram.errors import ProblemError, nearest
from distgram.pde import problems
from distgram.pde.problem import Problem

Build = Callable[[Mapping[str, Any]], Problem]  # parameters -> the problem

PROBLEMS: dict[str, Callable[..., Problem]] = {}
USER_MODULE = "distgram_problem_file"  # no name that a file of the user's could hide


def register(name: str) -> Callable[[Callable[..., Problem]], Callable[..., Problem]]:
    """Decorator: make a function that builds a Problem known under `name`."""

    def add(build: Callable[..., Problem]) -> Callable[..., Problem]:
        PROBLEMS[name] = build
        return build

    return add


def names() -> list[str]:
    """The registered problems, sorted."""
    for module in pkgutil.iter_modules(problems.__path__):
        importlib.import_module(f"{problems.__name__}.{module.name}")
    return sorted(PROBLEMS)


def get(name: str, parameters: Mapping[str, Any] | None = None) -> Problem:
    """Build the registered problem `name` with its parameters.

    Raises:
        ProblemError: unknown name or parameter, with the nearest valid choice.
    """
    return builder(name)(parameters or {})


def builder(name: str) -> Build:
    """From parameters to the registered problem `name`.

    Raises:
        ProblemError: unknown name, with the nearest valid choice.
    """
    if name not in names():
        raise ProblemError(f"problem.name = {name!r} is not known: {nearest(name, names())}")
    return partial(_build, PROBLEMS[name], f"problem {name!r}")


def load_file(path: Path, parameters: Mapping[str, Any] | None = None) -> Problem:
    """Build what a Python file defines as `problem`: a Problem, or a function that gives one.

    Raises:
        ProblemError: as `file_builder`; parameters that the function does not take.
    """
    return file_builder(path)(parameters or {})


def file_builder(path: Path) -> Build:
    """From parameters to the problem of a Python file, which is run once.

    Args:
        path: of pathlib, or like one.

    Raises:
        ProblemError: the file is missing, does not import, or defines no such name.
    """
    if not path.is_file():
        raise ProblemError(f"problem.file = {str(path)!r}: no such file.")
    if path.suffix != ".py":
        raise ProblemError(f"problem.file = {str(path)!r}: expected a Python file (.py).")
    module = ModuleType(USER_MODULE)
    module.__file__ = str(path)
    sys.modules[USER_MODULE] = module  # dataclasses look their module up
    beside = str(path.parent)
    if beside not in sys.path:
        sys.path.append(beside)  # for the modules beside it, which may also be imported later
    try:
        _Source(path).exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        where = getattr(error, "lineno", None) or _line_in(error, path)
        raise ProblemError(
            f"problem.file = {str(path)!r} does not import: "
            f"{type(error).__name__}: {error} (line {where})."
        ) from error
    made = getattr(module, "problem", None)
    what = f"problem file {str(path)!r}"
    if isinstance(made, Problem):
        return partial(_build, lambda: made, f"{what}, which defines a Problem and no function")
    if not callable(made):
        defined = sorted(k for k in vars(module) if not k.startswith("_"))
        raise ProblemError(
            f"problem.file = {str(path)!r}: expected it to define `problem`, a Problem or a "
            f"function that returns one; it defines {defined}."
        )
    return partial(_build, made, what)


class _Source(importlib.abc.InspectLoader):
    """The loader of a Python file, which may lie on any storage."""

    def __init__(self, path: Path):
        self._path = path

    def get_source(self, fullname: str) -> str:
        return importlib.util.decode_source(self._path.read_bytes())

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_source(fullname), str(self._path))


def _line_in(error: BaseException, path: Path) -> int | None:
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def _build(build: Callable[..., Any], what: str, parameters: Mapping[str, Any]) -> Problem:
    known = list(inspect.signature(build).parameters)
    for key in parameters:
        if key not in known:
            raise ProblemError(
                f"{what}: unknown parameter {key!r}: "
                + (nearest(key, known) if known else "it takes none.")
            )
    problem = build(**parameters)
    if not isinstance(problem, Problem):
        raise ProblemError(
            f"{what}: problem() returned {type(problem).__name__}, expected a Problem."
        )
    return problem
