"""A run's configuration: TOML read into checked tables. Nothing else reads TOML.

Every key has a default where one makes sense; an unknown key is an error that names the nearest.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from etils import epath
from pydantic import Field, PositiveFloat, ValidationError, field_validator, model_validator

from distgram.config.errors import sentence
from distgram.config.tables import ConfigTable, choices, one_of, table_of
from distgram.errors import ConfigError
from distgram.linalg.factorization import Factorization
from distgram.net.mlp import MLP
from distgram.net.unknown import Unknown
from distgram.points.adaptive.placement import Placement
from distgram.points.draw import Draw
from distgram.rules.adaptive_ratio import AdaptiveRatio
from distgram.rules.line_search import LineSearch
from distgram.rules.rule import Method
from distgram.run.setup import Limits, Memory, Schedule, Slabs
from distgram.store import storage
from distgram.store.folder import PROBLEM

RULES = choices(Method, "distgram.rules", "distgram.rules.baselines")
SEARCHES = choices(LineSearch, "distgram.rules")
FACTORIZATIONS = choices(Factorization, "distgram.linalg")
PLACEMENTS = choices(Placement, "distgram.points.adaptive")


# The tables of what is chosen for a problem of which nothing else is said.
CHOSEN = {"model", "points", "data", "unknown", "sampling", "rule", "time"}


class ProblemTable(ConfigTable):
    """Which equation: a registered name, or a Python file of the user's, with the files that it
    needs of its own folder; without some of its terms where data stand in for them."""

    name: str | None = None
    file: str | None = None
    files: list[str] = []
    parameters: dict[str, Any] = {}
    without: list[str] = []

    @model_validator(mode="after")
    def _one(self):
        if (self.name is None) == (self.file is None):
            raise ValueError("expected exactly one of 'name' (see `distgram list`) and 'file'")
        if self.files and self.file is None:
            raise ValueError("expected 'file' beside 'files', which stand in its folder")
        return self

    @field_validator("files")
    @classmethod
    def _below(cls, files: list[str]) -> list[str]:
        for name in files:
            path = PurePosixPath(name)
            if not path.parts or "\0" in name or path.is_absolute() or ".." in path.parts:
                raise ValueError(f"{name!r}: expected a path below the folder of problem.file")
        return [str(PurePosixPath(name)) for name in files]


class ModelTable(table_of(MLP)):
    """The network, its input features, and whether it goes through the output transform."""

    hard_constraint: bool = False


class DataTable(ConfigTable):
    """A CSV file of measurements that becomes a term, and the factor of its mean square."""

    file: str
    weight: PositiveFloat = 1.0


class RunTable(table_of(Limits), table_of(Schedule)):  # pyright: ignore[reportGeneralTypeIssues]
    """The seed, when the run ends, how often it is looked at and saved, and whether the terms are
    weighed so that their rows of the Jacobian are of one size at the start."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    balance: bool = False


class StaticTable(ConfigTable):
    """Points stay where they were drawn (default)."""

    name: Literal["static"] = "static"


class AutoTable(ConfigTable):
    """By shape and memory: tsqr where rows >= P, else dual; randomized where these do not fit."""

    name: Literal["auto"] = "auto"


class Config(ConfigTable):
    """One run.

    automatic: network, points, rule, time slabs and weights are chosen for the problem. A file that
    says nothing of them is read so.
    """

    automatic: bool = False
    problem: ProblemTable
    model: ModelTable = ModelTable()
    points: dict[str, table_of(Draw)] = {}  # type: ignore[valid-type]
    data: dict[str, DataTable] = {}
    unknown: dict[str, table_of(Unknown)] = {}  # type: ignore[valid-type]
    sampling: one_of(PLACEMENTS, StaticTable) = StaticTable()  # type: ignore[valid-type]
    rule: one_of(RULES) = table_of(AdaptiveRatio)(name=AdaptiveRatio.name)  # type: ignore[valid-type]
    factorization: one_of(FACTORIZATIONS, AutoTable) = AutoTable()  # type: ignore[valid-type]
    run: RunTable = RunTable()
    time: table_of(Slabs) | None = None  # type: ignore[valid-type]
    memory: table_of(Memory) = table_of(Memory)()  # type: ignore[valid-type]


def load(path: str | Path | epath.Path, overrides: Iterable[str] = ()) -> Config:
    """Read a TOML file, apply `key.sub=value` overrides (values in TOML syntax), and check it.

    A Python file that defines `problem` does as well: everything else is then chosen. A relative
    `problem.file` or `data.NAME.file` is taken from the config's own folder, gs:// is left alone.

    Raises:
        ConfigError: the file cannot be read or parsed, or a key or a value is not valid.
    """
    path = Path(path) if isinstance(path, str) else path
    if path.suffix == ".py":
        tree: dict[str, Any] = {"problem": {"file": path.name}}
    else:
        tree = read(path)
    for text in overrides:
        _override(tree, text)
    data = tree.get("data")
    for table in (tree.get("problem"), *(data.values() if isinstance(data, dict) else ())):
        if isinstance(table, dict) and isinstance(table.get("file"), str):
            if "\0" in table["file"]:
                raise ConfigError(f"file = {table['file']!r}: expected the path of a file.")
            if not table["file"].startswith("gs://"):
                table["file"] = str((path.parent / table["file"]).resolve())
    if not (CHOSEN | {"automatic"}) & set(tree):
        tree["automatic"] = True
    return check(tree)


def read(path: Path | epath.Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        ConfigError: it cannot be read, or is no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))  # an editor may mark its text
    except OSError as error:
        raise ConfigError(f"config {str(path)!r}: {error.strerror or error}.") from error
    except RecursionError as error:
        raise ConfigError(f"config {str(path)!r} is not valid TOML: nested too deeply.") from error
    except ValueError as error:  # of TOML, UTF-8, or a number of too many digits
        raise ConfigError(f"config {str(path)!r} is not valid TOML: {error}.") from error


def files(config: Config) -> dict[str, str]:
    """The files a config names, by the names that their copies have in a run folder."""
    named = {f"data-{name}.csv": table.file for name, table in config.data.items()}
    if (file := config.problem.file) is not None:
        place = storage.folder(file)
        named[problem_copy(config)] = file
        named |= {f"{PROBLEM}/{name}": str(place.parent / name) for name in config.problem.files}
    return named


def copy_files(config: Config, place: Path) -> dict[str, Path]:
    """Copy the files a config names into a folder of this machine; the copies by their names."""
    copies = {}
    for name, source in files(config).items():
        copies[name] = place / name
        copies[name].parent.mkdir(parents=True, exist_ok=True)
        copies[name].write_bytes(storage.folder(source).read_bytes())
    return copies


def problem_copy(config: Config) -> str:
    """The name that the copy of the problem file has in a run folder; '' where there is none."""
    file = config.problem.file
    return "" if file is None else f"{PROBLEM}/{PurePosixPath(file).name}"


def relocated(config: Config, paths: Mapping[str, str]) -> Config:
    """The config with other paths for some of its files, by the names that `files` gives them;
    those of problem.files stand beside the problem file."""
    problem = config.problem
    if problem.file is not None:
        file = paths.get(problem_copy(config), problem.file)
        problem = problem.model_copy(update={"file": file})
    data = {
        name: table.model_copy(update={"file": paths.get(f"data-{name}.csv", table.file)})
        for name, table in config.data.items()
    }
    return config.model_copy(update={"problem": problem, "data": data})


def check(tree: dict[str, Any]) -> Config:
    """Check a configuration given as nested dictionaries.

    Raises:
        ConfigError: naming the first wrong key, its value and what was expected.
    """
    if from_python(tree):
        raise ConfigError(
            "problem.python = true: this run was started from Python, where its problem is: go on "
            "by distgram.solve(..., run_dir=..., resume=True), look at it by distgram.load(..., "
            "problem=...)."
        )
    try:
        config = Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(sentence(error, Config)) from error
    for name in config.data:  # the copy of its file in the run folder is called by it
        if not name or {"/", "\0"} & set(name):
            raise ConfigError(f"data.{name!r}: expected a name that a file can have.")
    given = sorted(CHOSEN & set(tree))
    if config.automatic and given:
        raise ConfigError(
            f"automatic = true, and {given[0]} is given: expected one of them; without `automatic` "
            "what is not given has its default."
        )
    return config


def from_python(tree: Mapping[str, Any]) -> bool:
    """Whether tables describe a run that was started from Python, with objects of its own."""
    problem = tree.get("problem")
    return isinstance(problem, dict) and bool(problem.get("python"))


def dump(config: Config) -> dict[str, Any]:
    """The configuration as nested dictionaries without empty values: what a TOML file can hold."""
    tree = config.model_dump(exclude_none=True)
    tables = [(tree, key) for key in ("data", "unknown", "points")]
    tables += [(tree["problem"], key) for key in ("files", "without")]
    for table, key in tables:
        if not table[key]:
            del table[key]
    if config.automatic:
        return {key: table for key, table in tree.items() if key not in CHOSEN}
    return tree


def slab_count(config: Config) -> int:
    """The number of time slabs; 1 where time is not cut."""
    time = config.time
    return 1 if time is None else time.slabs or len(time.edges) - 1


def _override(tree: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise ConfigError(f"--set {text!r}: expected key.sub=value, as in run.steps=100.")
    try:
        parsed = tomllib.loads(f"v = {value}")["v"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"--set {text[:60]!r}: expected a value of TOML: {error}.") from error
    for part in parts[:-1]:
        tree = tree.setdefault(part, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"--set {text!r}: {part!r} is a value, not a table of keys.")
    tree[parts[-1]] = parsed
