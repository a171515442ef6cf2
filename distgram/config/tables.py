"""The smaller tables of a configuration: points of a term, slabs of time, data, unknowns."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

from pydantic import (
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from distgram.config.rules import Table


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


class TimeConfig(Table):
    """Causal slabs: the time interval cut into `slabs` equal ones, or at `edges` (its two ends
    included), each with its own network, points and run.steps, and solved with the last one's end
    as its initial condition. With `warm_start` a network starts from the last one's parameters."""

    slabs: PositiveInt | None = None
    edges: Annotated[list[float], Field(min_length=2)] | None = None
    warm_start: bool = True

    @model_validator(mode="after")
    def _one(self):
        if (self.slabs is None) == (self.edges is None):
            raise ValueError("expected exactly one of 'slabs' and 'edges'")
        return self

    @field_validator("edges")
    @classmethod
    def _ascending(cls, edges: list[float] | None) -> list[float] | None:
        if edges and any(b <= a for a, b in pairwise(edges)):
            raise ValueError("expected each edge larger than the one before")
        return edges

    @property
    def count(self) -> int:
        """The number of slabs."""
        return self.slabs or len(self.edges or ()) - 1


class DataConfig(Table):
    """A CSV file of measurements that becomes a term, and the factor of its mean square."""

    file: str
    weight: PositiveFloat = 1.0


class UnknownConfig(Table):
    """A parameter of the problem that is to be found: where to begin, whether it is positive, else
    the size of a change (by default |initial|, or 1 for 0)."""

    initial: float
    positive: bool = False
    scale: PositiveFloat | None = None

    @model_validator(mode="after")
    def _log(self):
        if self.positive and (self.initial <= 0 or self.scale is not None):
            raise ValueError("positive = true: expected initial > 0, and no scale")
        return self
