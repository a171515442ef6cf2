"""The problems by name: those of `distgram.pde.problems`, and a Python file of the user's."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax

from distgram.errors import ProblemError, nearest
from distgram.pde import module_file, problems
from distgram.pde.module_file import File
from distgram.pde.problem import Problem

Build = Callable[[Mapping[str, Any]], Problem]  # parameters -> the problem

PROBLEMS: dict[str, Callable[..., Problem]] = {}


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


def load_file(file: str | File, parameters: Mapping[str, Any] | None = None) -> Problem:
    """Build what a Python file defines as `problem`: a Problem, or a function that gives one.

    Raises:
        ProblemError: as `file_builder`; parameters that the function does not take.
    """
    return file_builder(file)(parameters or {})


def file_builder(file: str | File) -> Build:
    """From parameters to the problem of a Python file, which is executed once a process.

    The file may be a script: what stands below `if __name__ == "__main__":` is not executed. It
    may import the modules, and read the files, beside it, see `module_file`.

    Args: file: a path, or what can be read like one.

    Raises:
        ProblemError: the file is missing, cannot be executed, or defines no such name.
    """
    file = Path(file) if isinstance(file, str) else file
    where = f"problem.file = {str(file)!r}"
    if not file.is_file():
        raise ProblemError(f"{where}: no such file.")
    if file.suffix != ".py":
        raise ProblemError(f"{where}: expected a Python file (.py).")
    # The first name of distgram sets float64: not within the file, which may not turn it off.
    importlib.import_module("distgram").Problem  # noqa: B018
    jax.config.update("jax_enable_x64", True)
    try:
        module = module_file.load(file)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a file that exits must not end the program
        raise ProblemError(
            f"{where} does not import: {type(error).__name__}: {error} "
            f"(line {module_file.line_of(error, file)})."
        ) from error
    made = getattr(module, "problem", None)
    what = f"problem file {str(file)!r}"
    _check_float64(what)
    if isinstance(made, Problem):
        return partial(_build, lambda: made, f"{what}, which defines a Problem and no function")
    if not callable(made):
        defined = sorted(k for k in vars(module) if not k.startswith("_"))
        raise ProblemError(
            f"{where}: expected it to define `problem`, a Problem or a function that returns one; "
            f"it defines {defined}."
        )

    def build(parameters: Mapping[str, Any]) -> Problem:
        with module_file.at_home(file):
            return _build(made, what, parameters)

    return build


def _build(function: Callable[..., Any], what: str, parameters: Mapping[str, Any]) -> Problem:
    """The problem that a function gives for its parameters; `what` names it in an error.

    Raises:
        ProblemError: a parameter that the function does not take, or a value that is no Problem.
    """
    known = list(inspect.signature(function).parameters)
    for key in parameters:
        if key not in known:
            raise ProblemError(
                f"{what}: unknown parameter {key!r}: "
                + (nearest(key, known) if known else "it takes none.")
            )
    jax.config.update("jax_enable_x64", True)  # before the problem makes arrays
    problem = function(**parameters)
    _check_float64(what)
    if not isinstance(problem, Problem):
        raise ProblemError(
            f"{what}: problem() returned {type(problem).__name__}, expected a Problem."
        )
    return problem


def _check_float64(what: str) -> None:
    """Set float64 again where a user's program has turned it off.

    Raises:
        ProblemError: it has.
    """
    if not jax.config.jax_enable_x64:  # type: ignore[attr-defined]
        jax.config.update("jax_enable_x64", True)
        raise ProblemError(f"{what}: it turns jax_enable_x64 off: expected all in float64.")
