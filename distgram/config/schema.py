"""A run's configuration: TOML read into checked models. Nothing else reads TOML.

Every key has a default where one makes sense; an unknown key is an error that names the nearest.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from etils import epath
from pydantic import (
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from distgram.config.errors import sentence
from distgram.config.rules import (
    AdaptiveRatioConfig,
    AutoConfig,
    FactorizationConfig,
    RuleConfig,
    Table,
)
from distgram.config.sampling import SamplingConfig, StaticConfig
from distgram.config.tables import DataConfig, PointsConfig, TimeConfig, UnknownConfig
from distgram.errors import ConfigError

PROBLEM_COPY = "problem.py"  # in a run folder


class ProblemConfig(Table):
    """Which equation: a registered name, or a Python file of the user's; without some of its terms
    where data stand in for them."""

    name: str | None = None
    file: str | None = None
    parameters: dict[str, Any] = {}
    without: list[str] = []

    @model_validator(mode="after")
    def _one(self):
        if (self.name is None) == (self.file is None):
            raise ValueError("expected exactly one of 'name' (see `distgram list`) and 'file'")
        return self


class StretchConfig(Table):
    """One more input feature, which resolves a thin layer at a known place of a coordinate."""

    axis: NonNegativeInt
    center: float
    width: PositiveFloat


class ModelConfig(Table):
    """The network, its input features and its output transform."""

    hidden: Annotated[list[PositiveInt], Field(min_length=1)] = [32, 32]
    activation: str = "tanh"
    initialization: str = "fan_in"
    gain: PositiveFloat = 1.0
    activation_scale: bool = False
    features: str = "none"
    modes: PositiveInt = 1
    feature_scale: PositiveFloat = 1.0
    even: list[NonNegativeInt] = []
    stretch: list[StretchConfig] = []
    hard_constraint: bool = False


class RunConfig(Table):
    """Budgets, targets and how often things are looked at and saved. Of several time slabs each
    has its own `steps`, targets and patience; `time_budget_s` is that of the whole run."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    steps: NonNegativeInt = 300
    time_budget_s: PositiveFloat | None = None
    target_l2: PositiveFloat | None = None
    target_residual: PositiveFloat | None = None
    log_every: PositiveInt = 10
    spectra_every: PositiveInt = 20
    checkpoint_every: PositiveInt = 50
    held_out: PositiveInt = 2048
    patience: PositiveInt = 100
    min_decrease: Annotated[float, Field(ge=0, lt=1)] = 0.01


class MemoryConfig(Table):
    """Sizes that bound memory, not results: GiB a device for a step, rows folded at once (by
    default what that allows), points differentiated at once."""

    budget_gib: PositiveFloat = 4.0
    row_block: PositiveInt | None = None
    chunk: PositiveInt = 1024


class Config(Table):
    """One run."""

    problem: ProblemConfig
    model: ModelConfig = ModelConfig()
    points: Annotated[dict[str, PointsConfig], Field(min_length=1)]
    data: dict[str, DataConfig] = {}
    unknown: dict[str, UnknownConfig] = {}
    sampling: SamplingConfig = StaticConfig()
    rule: RuleConfig = AdaptiveRatioConfig(name="adaptive_ratio")
    factorization: FactorizationConfig = AutoConfig()
    run: RunConfig = RunConfig()
    time: TimeConfig | None = None
    memory: MemoryConfig = MemoryConfig()


def load(path: str | Path | epath.Path, overrides: Iterable[str] = ()) -> Config:
    """Read a TOML file, apply `key.sub=value` overrides (values in TOML syntax), and check it.

    A relative `problem.file` or `data.NAME.file` is taken from the config's own folder, gs:// is
    left as it is.

    Raises:
        ConfigError: the file cannot be read or parsed, or a key or a value is not valid.
    """
    path = Path(path) if isinstance(path, str) else path
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"config {str(path)!r}: {error.strerror or error}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"config {str(path)!r} is not valid TOML: {error}.") from error
    for text in overrides:
        _override(tree, text)
    data = tree.get("data")
    for table in (tree.get("problem"), *(data.values() if isinstance(data, dict) else ())):
        if isinstance(table, dict) and isinstance(table.get("file"), str):
            if not table["file"].startswith("gs://"):
                table["file"] = str((path.parent / table["file"]).resolve())
    return check(tree)


def files(config: Config) -> dict[str, str]:
    """The files a config names, by the names that their copies have in a run folder."""
    named = {PROBLEM_COPY: config.problem.file}
    named |= {f"data-{name}.csv": table.file for name, table in config.data.items()}
    return {copy: file for copy, file in named.items() if file is not None}


def relocated(config: Config, paths: Mapping[str, str]) -> Config:
    """The config with other paths for some of its files, by the names that `files` gives them."""
    problem = config.problem
    if problem.file is not None:
        file = paths.get(PROBLEM_COPY, problem.file)
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
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(sentence(error, Config)) from error


def dump(config: Config) -> dict[str, Any]:
    """The configuration as nested dictionaries without empty values: what a TOML file can hold."""
    tree = config.model_dump(exclude_none=True)
    for table, key in ((tree, "data"), (tree, "unknown"), (tree["problem"], "without")):
        if not table[key]:
            del table[key]
    return tree


def _override(tree: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise ConfigError(f"--set {text!r}: expected key.sub=value, as in run.steps=100.")
    try:
        parsed = tomllib.loads(f"v = {value}")["v"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()
    for part in parts[:-1]:
        tree = tree.setdefault(part, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"--set {text!r}: {part!r} is a value, not a table of keys.")
    tree[parts[-1]] = parsed
