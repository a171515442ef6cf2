"""The tables of a configuration that a name tells apart: one model a rule, baseline, line search or
factorization."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from distgram.config.errors import named


class Table(BaseModel):
    """A table of a configuration: no unknown key, no infinity, no value of another type (`true` is
    no number, `"10"` neither), and it does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)


class GridSearchConfig(Table):
    """Steps ratio^j, all tried at once."""

    name: Literal["grid"] = "grid"
    count: PositiveInt = 31
    ratio: float = 0.5


class BacktrackingConfig(Table):
    """Steps ratio^j, the first with enough decrease."""

    name: Literal["backtracking"]
    count: PositiveInt = 31
    ratio: float = 0.5
    armijo: float = 1e-4


LineSearchConfig = Annotated[GridSearchConfig | BacktrackingConfig, Field(discriminator="name")]


class AdaptiveRatioConfig(Table):
    """Tikhonov steps whose λ follows actual over predicted decrease."""

    name: Literal["adaptive_ratio"]
    ratio: float = 0.075
    window: float = 20.0
    trials: int = 12
    initial: float = 1.0
    excursion: float = 0.1
    patience: int = 4
    depth: float = 1e-8
    acceleration: float = 0.0
    validation: PositiveInt | None = None


class ANaGRAMConfig(Table):
    """Fixed cutoff, absolute or relative, and a line search."""

    name: Literal["anagram"]
    cutoff: float | None = None
    relative_cutoff: float | None = None
    line_search: LineSearchConfig = GridSearchConfig()
    validation: PositiveInt | None = None


class AMStramGRAMConfig(Table):
    """Cutoff rank min(r∩, rε) in r_max/r_min steps."""

    name: Literal["amstramgram"]
    epsilon: float
    line_search: LineSearchConfig = GridSearchConfig()
    validation: PositiveInt | None = None


class ExtrapolationConfig(Table):
    """The cutoff rank that predicts best at held-out points, and a line search."""

    name: Literal["extrapolation"]
    validation: PositiveInt = 1024
    line_search: LineSearchConfig = GridSearchConfig()


class ENGDConfig(Table):
    """Full Gram matrix natural gradient."""

    name: Literal["engd"]
    line_search: GridSearchConfig = GridSearchConfig()


class AdamConfig(Table):
    """Adam with an exponentially decaying learning rate."""

    name: Literal["adam"]
    learning_rate: float = 1e-3
    decay_steps: PositiveInt = 1000
    decay_rate: float = 1.0


class LBFGSConfig(Table):
    """L-BFGS with a zoom line search."""

    name: Literal["lbfgs"]
    memory_size: PositiveInt = 20
    line_search_steps: PositiveInt = 30


class SSBroydenConfig(Table):
    """Self-scaled Broyden, dense, with a strong Wolfe line search."""

    name: Literal["ssbroyden"]
    line_search_steps: PositiveInt = 30


RuleConfig = Annotated[
    AdaptiveRatioConfig
    | ANaGRAMConfig
    | AMStramGRAMConfig
    | ExtrapolationConfig
    | ENGDConfig
    | AdamConfig
    | LBFGSConfig
    | SSBroydenConfig,
    Field(discriminator="name"),
]


class AutoConfig(Table):
    """By shape and memory: tsqr where rows >= P, else dual; randomized where these do not fit."""

    name: Literal["auto"] = "auto"


class TSQRConfig(Table):
    """QR of [φ̂ | r] in row blocks, and the SVD of the triangle."""

    name: Literal["tsqr"]
    svd: Literal["lapack", "jacobi"] = "lapack"


class DualConfig(Table):
    """For more parameters than rows: J sharded by columns, QR of its transpose."""

    name: Literal["dual"]


class RandomizedConfig(Table):
    """Leading triplets only, as many as the rule needs, certified by fresh probes."""

    name: Literal["randomized"]
    width: PositiveInt = 64
    capacity: PositiveInt | None = None


class GramConfig(Table):
    """The normal equations: half the digits. To be compared with."""

    name: Literal["gram"]


FactorizationConfig = Annotated[
    AutoConfig | TSQRConfig | DualConfig | RandomizedConfig | GramConfig,
    Field(discriminator="name"),
]

# Of Annotated[A | B, ...] the union: name -> model.
RULES, SEARCHES, FACTORIZATIONS = (
    named(get_args(union)[0]) for union in (RuleConfig, LineSearchConfig, FactorizationConfig)
)
