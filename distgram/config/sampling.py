"""The table `[sampling]` of a configuration: how collocation points move, one model a method."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from distgram.config.errors import named
from distgram.config.rules import Table

Share = Annotated[float, Field(gt=0, lt=1)]


class GrowConfig(Table):
    """More points: `factor` times as many, as long as all together are at most `budget`; when the
    overfitting alarm asks for it, and each `every` steps where that is given. Each growth compiles
    anew, so that it is to be a large one."""

    factor: Annotated[float, Field(ge=1.1)] = 2.0
    budget: PositiveInt
    every: PositiveInt | None = None


class StaticConfig(Table):
    """Points stay where they were drawn (default)."""

    name: Literal["static"] = "static"


class MovingConfig(Table):
    """Keys of every method that moves points: each `every` steps, and whether they become more."""

    every: PositiveInt = 20
    grow: GrowConfig | None = None


class FreshConfig(MovingConfig):
    """New draws of the same sampler."""

    name: Literal["fresh"]


class RADConfig(MovingConfig):
    """All points anew, from the density |r|^exponent / mean + floor."""

    name: Literal["rad"]
    exponent: PositiveFloat = 1.0
    floor: NonNegativeFloat = 1.0
    candidates: Annotated[int, Field(ge=2)] = 4
    weights: Literal["importance", "uniform"] = "importance"


class RARConfig(MovingConfig):
    """A share of the points to begin with, the others added where |r| is large."""

    name: Literal["rar"]
    start: Share = 0.5
    add: Share = 0.05
    by: Literal["largest", "density"] = "density"
    exponent: PositiveFloat = 2.0
    candidates: Annotated[int, Field(ge=1)] = 2


class R3Config(MovingConfig):
    """Retain the points where |r| is above its mean, release the others to fresh draws."""

    name: Literal["r3"]


class LeverageConfig(MovingConfig):
    """Drop the points of least leverage, insert by |r|^exponent."""

    name: Literal["leverage"]
    drop: Share = 0.2
    exponent: PositiveFloat = 1.0
    candidates: Annotated[int, Field(ge=2)] = 4


class GreedyConfig(MovingConfig):
    """Drop the points of least leverage, insert greedily by residual f, power function P or f·P."""

    name: Literal["greedy"]
    drop: Share = 0.1
    by: Literal["f", "P", "fP"] = "fP"
    candidates: Annotated[int, Field(ge=2)] = 4


SamplingConfig = Annotated[
    StaticConfig | FreshConfig | RADConfig | RARConfig | R3Config | LeverageConfig | GreedyConfig,
    Field(discriminator="name"),
]

# Of Annotated[A | B, ...] the union: name -> model.
SAMPLINGS = named(get_args(SamplingConfig)[0])
