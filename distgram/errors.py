"""What a user can be told: one family of errors, each one sentence that says

    the key or the object, its value, what was expected, and the nearest valid choice.

The command line prints the sentence and exits with 2; from Python it is an ordinary exception.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Something that a user can put right: the message says what, and how."""


class ProblemError(UserError):
    """A problem, or a request for one, that cannot be right."""


class RegionError(UserError):
    """A region, or a number of points in one, that cannot be."""


class OperatorError(UserError):
    """An operator asked for something that the field or the point does not have."""


class TableError(UserError):
    """A table of values that cannot be read: the file, the row, and what was expected."""


class ModelError(UserError):
    """A network that cannot be built as asked."""


class PlanError(UserError):
    """A shape that no factorization, or not the one asked for, fits into the memory budget."""


class RuleError(UserError):
    """A setting of a rule, a baseline or a placement outside its range."""


class ConfigError(UserError):
    """A configuration that cannot be right."""


class RunError(UserError):
    """A run folder that cannot be used as asked."""


class TrustError(RunError):
    """A program of a run folder that would be executed, and is not known to be the user's own."""


class FolderTaken(RunError):
    """Raised on every process alike: a second try would only take the folder back."""


class StorageError(UserError):
    """A path that cannot be used, or a folder that somebody else is using."""


class CheckpointError(UserError):
    """A state that could not be saved or restored: the message names the folder and the remedy."""


class StorageFull(CheckpointError):
    """Raised before writing, on every process alike: a second try would end the same way."""


class ReplicaError(UserError):
    """Processes that hold different parameters: nothing computed from here on can be trusted."""


class SolutionError(UserError):
    """A solution that cannot be had or evaluated as asked."""


class DiagnosisError(UserError):
    """A kernel, a point or a term that a run does not have."""


class ExportError(UserError):
    """A format that is not known, needs a package, or cannot hold this solution."""


class ClusterError(UserError):
    """A request that a Ray cluster cannot meet."""


def nearest(word: str, choices: Iterable[str]) -> str:
    """'Did you mean ...' for a misspelt name: the nearest choice, and all of them."""
    choices = sorted(choices)
    close = difflib.get_close_matches(word, choices, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}The choices are {', '.join(choices)}."


def require(
    holds: bool, owner: object, name: str, expected: str, error: type[UserError] = RuleError
) -> None:
    """Raise `Owner.name = value: expected ...` unless a setting of an object is in its range. A
    config puts its own key in place of `Owner`."""
    if not holds:
        value = getattr(owner, name)
        raise error(f"{type(owner).__name__}.{name} = {value!r}: expected {expected}.")
