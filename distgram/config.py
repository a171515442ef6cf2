"""A run's configuration: TOML read into checked models. Nothing else reads TOML.

Every key has a default where one makes sense; an unknown key is an error that names the nearest.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
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

from distgram.config_errors import ConfigError, sentence
from distgram.config_rules import (
    AdaptiveRatioConfig,
    AutoConfig,
    FactorizationConfig,
    RuleConfig,
    Table,
)
from distgram.config_sampling import SamplingConfig, StaticConfig


class ProblemConfig(Table):
    """Which equation: a registered name, or a Python file of the user's."""

    name: str | None = None
    file: str | None = None
    parameters: dict[str, Any] = {}

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


class FocusConfig(Table):
    """A fraction of the points near one value of a coordinate, weighted back to uniform."""

    axis: NonNegativeInt
    center: float
    width: PositiveFloat
    fraction: Annotated[float, Field(gt=0, lt=1)]


class DecayConfig(Table):
    """The residual of a term falls in weight along a coordinate, as exp(-rate (x - lower end))."""

    axis: NonNegativeInt
    rate: PositiveFloat


class PointsConfig(Table):
    """The collocation points of one term, and a factor of its weight in the loss."""

    count: PositiveInt
    sampler: str = "sobol"
    weight: PositiveFloat = 1.0
    focus: FocusConfig | None = None
    decay: DecayConfig | None = None


class RunConfig(Table):
    """Budgets, targets and how often things are looked at and saved."""

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
    sampling: SamplingConfig = StaticConfig()
    rule: RuleConfig = AdaptiveRatioConfig(name="adaptive_ratio")
    factorization: FactorizationConfig = AutoConfig()
    run: RunConfig = RunConfig()
    memory: MemoryConfig = MemoryConfig()


def load(path: str | Path | epath.Path, overrides: Iterable[str] = ()) -> Config:
    """Read a TOML file, apply `key.sub=value` overrides (values in TOML syntax), and check it.

    A relative `problem.file` is taken from the config's own folder, gs:// is left as it is.

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
    problem = tree.get("problem")
    if isinstance(problem, dict) and isinstance(problem.get("file"), str):
        if not problem["file"].startswith("gs://"):
            problem["file"] = str((path.parent / problem["file"]).resolve())
    return check(tree)


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
    return config.model_dump(exclude_none=True)


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
