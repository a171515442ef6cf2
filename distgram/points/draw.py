"""Drawing the points of one term: those it is trained on, held out, validated or checked at.

A Draw says how many, by which sampler, and where they gather. `linalg.rows.lay_out` weighs, pads
and shards what is drawn here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np

from distgram.errors import ProblemError, RegionError, require
from distgram.geometry.clouds import Cloud
from distgram.geometry.quadrature import quadrature
from distgram.geometry.region import Domain
from distgram.geometry.regions import Sites
from distgram.geometry.samplers import QUADRATURES, SAMPLERS, generator
from distgram.pde.measurements import Measurements
from distgram.pde.problem import Field, Term


@dataclass(frozen=True)
class Focus:
    """A fraction of the points near one value of a coordinate, weighted back to the uniform
    measure: see `samplers.focus`.

    Args:
        axis: the coordinate. center, width: in its units, width > 0. fraction: in (0, 1).
    """

    axis: int
    center: float
    width: float
    fraction: float

    def __post_init__(self):
        require(self.axis >= 0, self, "axis", "at least 0", ProblemError)
        require(0 < self.width < math.inf, self, "width", "a finite number > 0", ProblemError)
        require(0 < self.fraction < 1, self, "fraction", "a number in (0, 1)", ProblemError)


@dataclass(frozen=True)
class Decay:
    """A factor exp(-rate (x - lower end)) of a term's residual along one coordinate.

    Args:
        axis: the coordinate. rate: > 0, in units of 1/x_axis.
    """

    axis: int
    rate: float

    def __post_init__(self):
        require(self.axis >= 0, self, "axis", "at least 0", ProblemError)
        require(0 < self.rate < math.inf, self, "rate", "a finite number > 0", ProblemError)


@dataclass(frozen=True)
class Draw:
    """The collocation points of one term, and a factor of its weight in the loss.

    Args:
        count: how many, >= 1. sampler: one of SAMPLERS or QUADRATURES.
        weight: factor of the term's mean square, dimensionless, > 0.
        focus: where a share of the points gathers. decay: a factor of the residual that falls.
    """

    count: int
    sampler: str = "sobol"
    weight: float = 1.0
    focus: Focus | None = None
    decay: Decay | None = None

    def __post_init__(self):
        whole = not isinstance(self.count, bool) and isinstance(self.count, int)
        require(whole and self.count >= 1, self, "count", "an integer >= 1", ProblemError)
        require(0 < self.weight < math.inf, self, "weight", "a finite number > 0", ProblemError)


def fixed_count(term: Term) -> int | None:
    """The number of points of a term whose region is a fixed set of sites; None elsewhere."""
    return len(term.region.x) if isinstance(term.region, Sites) else None


def variance(term: Term) -> np.ndarray | None:
    """The variances of a data term's rows, which weigh as a density over the uniform one; the
    density of a cloud's points; None elsewhere."""
    if isinstance(term.region, Cloud):
        return term.region.density
    return term.region.variance if isinstance(term.region, Measurements) else None


def weighted(term: Term, wanted: Draw) -> Term:
    """The term whose mean square is multiplied by the weight of its Draw, and whose residual is
    multiplied by the decay of its Draw,

        exp(-rate (x_axis - the lower end of the region)).

    Where an equation amplifies an early error by exp(rate t), so that an equal residual at a later
    time harms less, such a decay along time makes the loss see what the solution will: it is the
    integrating factor of u_t = rate u.

    Raises:
        ProblemError: a decay along no coordinate of the term, or on what is no Domain.
    """
    term = replace(term, weight=term.weight * wanted.weight)
    if wanted.decay is None:
        return term
    axis, rate, region = wanted.decay.axis, wanted.decay.rate, term.region
    if not isinstance(region, Domain):
        raise ProblemError(
            f"points.{term.name}.decay: the region is a {type(region).__name__}: expected a Box or "
            "another Domain."
        )
    if axis >= region.dim:
        raise ProblemError(
            f"points.{term.name}.decay: axis = {axis}: expected 0 <= axis < {region.dim}."
        )

    def falling(field: Field) -> Field:
        return lambda x: jnp.exp(-rate * (x[axis] - region.lower[axis])) * field(x)

    operator, target = term.operator, term.target
    return replace(term, operator=lambda u: falling(operator(u)), target=falling(target))


def draw(term: Term, wanted: Draw, key: Sequence[int]) -> tuple[np.ndarray, np.ndarray | None]:
    """Points (n, d) of a term and their sampling density over the uniform one (n,), None: uniform.

    Raises:
        RegionError: a count that the sampler cannot give. ProblemError: a focus on what is no
        Domain, or of quadrature nodes.
    """
    named, f = _named(f"points.{term.name}"), wanted.focus
    if wanted.sampler in QUADRATURES:
        if f is not None:
            raise ProblemError(
                f"points.{term.name}.focus: the nodes of sampler = {wanted.sampler!r} have their "
                f"own places: leave it out, or expected one of {', '.join(SAMPLERS)}."
            )
        with named:
            return quadrature(term.region, wanted.count, wanted.sampler)
    if f is None:
        with named:
            return term.region.sample(wanted.count, key, wanted.sampler), variance(term)
    if not isinstance(term.region, Domain):
        raise ProblemError(
            f"points.{term.name}.focus: the region is a {type(term.region).__name__}: expected a "
            "Box or another Domain."
        )
    with named:
        return term.region.sample_focused(
            wanted.count, key, wanted.sampler, f.axis, f.center, f.width, f.fraction
        )


def probe(term: Term, count: int) -> np.ndarray:
    """At least `count` uniform points (n, d) at which a term is checked; more if its region cannot
    give so few."""
    if (fixed := fixed_count(term)) is not None:
        return term.region.sample(fixed, 0, "uniform")
    for doubled in range(12):  # the boundary of a slender box needs some on its smallest face
        try:
            return term.region.sample(count << doubled, 0, "uniform")
        except RegionError:
            continue
    return term.region.sample(count << 12, 0, "uniform")


def draw_uniform(term: Term, count: int, key: Sequence[int], sampler: str) -> np.ndarray:
    """Exactly `count` uniform points (n, d). If a boundary cannot give so few, more are drawn and
    `count` of them are chosen at random."""
    if count == 0:
        return np.zeros((0, term.region.dim))
    for doubled in range(12):
        try:
            x = term.region.sample(count << doubled, key, sampler)
        except RegionError:
            continue
        return x if doubled == 0 else generator([*key, 2]).permutation(x)[:count]
    return term.region.sample(count, key, sampler)


def draw_held_out(term: Term, count: int, key: Sequence[int]) -> np.ndarray:
    """Uniform points (n, d) that no step trains on; a set of sites gives its own points again.

    Raises:
        RegionError: a count that cannot be drawn.
    """
    count = fixed_count(term) or count
    with _named(f"run.held_out = {count}, term {term.name!r}"):
        return term.region.sample(count, key, "uniform")


def draw_validation(
    term: Term, wanted: Draw, count: int, key: Sequence[int]
) -> tuple[np.ndarray, np.ndarray | None]:
    """`count` points by the Draw of the training points, so that both are dense in the same places;
    a random sampler replaces quadrature nodes, which would give the training points again.

    Raises:
        RegionError: a count that cannot be drawn.
    """
    count = fixed_count(term) or count
    with _named(f"rule.validation = {count}"):
        return draw(term, replace(wanted, count=count, sampler="latin_hypercube"), key)


@contextmanager
def _named(where: str) -> Iterator[None]:
    """Put the name of the term before what a region says."""
    try:
        yield
    except RegionError as error:
        raise RegionError(f"{where}: {error}") from error
