"""A run's configuration: TOML read into checked models. Nothing else reads TOML.

Every key has a default where one makes sense; an unknown key is an error that names the nearest.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)


class ConfigError(ValueError):
    """A configuration that cannot be right: key, value, and what was expected."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ProblemConfig(_Strict):
    """Which equation: a registered name, or a Python file of the user's."""

    name: str | None = None
    file: str | None = None
    parameters: dict[str, Any] = {}

    @model_validator(mode="after")
    def _one(self):
        if (self.name is None) == (self.file is None):
            raise ValueError("expected exactly one of 'name' (see `distgram list`) and 'file'")
        return self


class ModelConfig(_Strict):
    """The network, its input features and its output transform."""

    hidden: Annotated[list[PositiveInt], Field(min_length=1)] = [32, 32]
    activation: str = "tanh"
    initialization: str = "fan_in"
    gain: PositiveFloat = 1.0
    activation_scale: bool = False
    features: str = "none"
    modes: PositiveInt = 1
    feature_scale: PositiveFloat = 1.0
    hard_constraint: bool = False


class FocusConfig(_Strict):
    """A fraction of the points near one value of a coordinate, weighted back to uniform."""

    axis: NonNegativeInt
    center: float
    width: PositiveFloat
    fraction: Annotated[float, Field(gt=0, lt=1)]


class PointsConfig(_Strict):
    """The collocation points of one term."""

    count: PositiveInt
    sampler: str = "sobol"
    focus: FocusConfig | None = None


class GridSearchConfig(_Strict):
    """Steps ratio^j, all tried at once."""

    name: Literal["grid"] = "grid"
    count: PositiveInt = 31
    ratio: float = 0.5


class BacktrackingConfig(_Strict):
    """Steps ratio^j, the first with enough decrease."""

    name: Literal["backtracking"]
    count: PositiveInt = 31
    ratio: float = 0.5
    armijo: float = 1e-4


LineSearchConfig = Annotated[GridSearchConfig | BacktrackingConfig, Field(discriminator="name")]


class AdaptiveRatioConfig(_Strict):
    """Tikhonov steps whose λ follows actual over predicted decrease."""

    name: Literal["adaptive_ratio"]
    ratio: float = 0.075
    window: float = 20.0
    trials: int = 12
    initial: float = 1.0
    excursion: float = 0.1
    patience: int = 4
    depth: float = 1e-4


class ANaGRAMConfig(_Strict):
    """Fixed cutoff, absolute or relative, and a line search."""

    name: Literal["anagram"]
    cutoff: float | None = None
    relative_cutoff: float | None = None
    line_search: LineSearchConfig = GridSearchConfig()


class AMStramGRAMConfig(_Strict):
    """Cutoff rank min(r∩, rε) in r_max/r_min steps."""

    name: Literal["amstramgram"]
    epsilon: float
    line_search: LineSearchConfig = GridSearchConfig()


class ENGDConfig(_Strict):
    """Full Gram matrix natural gradient."""

    name: Literal["engd"]
    line_search: GridSearchConfig = GridSearchConfig()


class AdamConfig(_Strict):
    """Adam with an exponentially decaying learning rate."""

    name: Literal["adam"]
    learning_rate: float = 1e-3
    decay_steps: PositiveInt = 1000
    decay_rate: float = 1.0


class LBFGSConfig(_Strict):
    """L-BFGS with a zoom line search."""

    name: Literal["lbfgs"]
    memory_size: PositiveInt = 50
    line_search_steps: PositiveInt = 30


class SSBroydenConfig(_Strict):
    """Self-scaled Broyden, dense, with a strong Wolfe line search."""

    name: Literal["ssbroyden"]
    line_search_steps: PositiveInt = 30


RuleConfig = Annotated[
    AdaptiveRatioConfig
    | ANaGRAMConfig
    | AMStramGRAMConfig
    | ENGDConfig
    | AdamConfig
    | LBFGSConfig
    | SSBroydenConfig,
    Field(discriminator="name"),
]


class RunConfig(_Strict):
    """Budgets, targets and how often things are looked at and saved."""

    seed: NonNegativeInt = 0
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


class MemoryConfig(_Strict):
    """Sizes that bound memory, not results: rows folded at once, points differentiated at once."""

    row_block: PositiveInt | None = None
    chunk: PositiveInt = 1024


class Config(_Strict):
    """One run."""

    problem: ProblemConfig
    model: ModelConfig = ModelConfig()
    points: Annotated[dict[str, PointsConfig], Field(min_length=1)]
    rule: RuleConfig
    run: RunConfig = RunConfig()
    memory: MemoryConfig = MemoryConfig()


def load(path: str | Path, overrides: Iterable[str] = ()) -> Config:
    """Read a TOML file, apply `key.sub=value` overrides (values in TOML syntax), and check it.

    A relative `problem.file` is taken from the config's own folder.

    Raises:
        ConfigError: the file cannot be read or parsed, or a key or a value is not valid.
    """
    path = Path(path)
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
        raise ConfigError(_sentence(error)) from error


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


def _sentence(error: ValidationError) -> str:
    """One clear sentence for the first error, the unknown keys first: they explain the rest."""
    errors = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    first = errors[0]
    tags = {"grid", "backtracking", *(m.__name__ for m in RULES)} | set(rule_names())
    path = [str(p) for p in first["loc"]]
    key = ".".join(
        p
        for i, p in enumerate(path)
        if not (i > 0 and p in tags and path[i - 1] in ("rule", "line_search"))
    )
    if first["type"] == "extra_forbidden":
        choices = _keys_at(path[:-1])
        close = difflib.get_close_matches(path[-1], choices, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]!r}? " if close else ""
        return f"unknown key {key!r}: {hint}The keys here are {', '.join(sorted(choices))}."
    if first["type"] == "union_tag_invalid":
        choices = rule_names() if path[-1] == "rule" else ["grid", "backtracking"]
        value = first["ctx"]["tag"]
        close = difflib.get_close_matches(value, choices, n=1, cutoff=0.4)
        hint = f"did you mean {close[0]!r}? " if close else ""
        return f"{key}.name = {value!r} is not known: {hint}The choices are {', '.join(choices)}."
    if first["type"] == "union_tag_not_found":
        return f"{key}.name is missing: the choices are {', '.join(rule_names())}."
    if first["type"] == "missing":
        return f"{key} is missing."
    message = first["msg"].removeprefix("Value error, ")
    return f"{key} = {first['input']!r}: {message[0].lower()}{message[1:]}."


RULES: tuple[type[BaseModel], ...] = (
    AdaptiveRatioConfig,
    ANaGRAMConfig,
    AMStramGRAMConfig,
    ENGDConfig,
    AdamConfig,
    LBFGSConfig,
    SSBroydenConfig,
)


def rule_names() -> list[str]:
    return [m.model_fields["name"].annotation.__args__[0] for m in RULES]  # type: ignore[union-attr]


def _keys_at(path: list[str]) -> list[str]:
    if not path:
        return list(Config.model_fields)
    by_place: dict[str, type[BaseModel]] = {
        "problem": ProblemConfig,
        "model": ModelConfig,
        "run": RunConfig,
        "memory": MemoryConfig,
        "focus": FocusConfig,
        "grid": GridSearchConfig,
        "backtracking": BacktrackingConfig,
    }
    by_place |= dict(zip(rule_names(), RULES, strict=True))
    if path[0] == "points" and path[-1] != "focus":
        return list(PointsConfig.model_fields)
    return list(by_place[path[-1]].model_fields)
