"""Collocation points of one term, drawn as a config asks; what cannot be drawn names its key."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from distgram.config import PointsConfig
from distgram.measurements import Measurements
from distgram.problem import ProblemError, Term
from distgram.regions import Box, RegionError, Sites


def fixed_count(term: Term) -> int | None:
    """The number of points of a term whose region is a fixed set of sites; None elsewhere."""
    return len(term.region.x) if isinstance(term.region, Sites) else None


def measured(term: Term) -> tuple[np.ndarray, np.ndarray | None] | None:
    """The rows of a data term and their variances, which weigh as a density; None elsewhere."""
    region = term.region
    return (region.x, region.variance) if isinstance(region, Measurements) else None


def draw(
    term: Term, wanted: PointsConfig, key: Sequence[int]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Points (n, d) of a term and their sampling density over the uniform one (n,), None: uniform.

    Raises:
        RegionError: a count that the sampler cannot give. ProblemError: a focus outside a Box.
    """
    named, f = _named(f"points.{term.name}"), wanted.focus
    if f is None:
        with named:
            return term.region.sample(wanted.count, key, wanted.sampler), None
    if not isinstance(term.region, Box):
        raise ProblemError(
            f"points.{term.name}.focus: the region is a {type(term.region).__name__}; "
            "expected a Box."
        )
    with named:
        return term.region.sample_focused(
            wanted.count, key, wanted.sampler, f.axis, f.center, f.width, f.fraction
        )


def probe(term: Term, count: int) -> np.ndarray:
    """Uniform points (n, d) to check a term at: `count`, or as many more as its region asks for."""
    if (fixed := fixed_count(term)) is not None:
        return term.region.sample(fixed, 0, "uniform")
    for doubled in range(12):  # the boundary of a slender box needs some on its smallest face
        try:
            return term.region.sample(count << doubled, 0, "uniform")
        except RegionError:
            continue
    return term.region.sample(count << 12, 0, "uniform")


def draw_held_out(term: Term, count: int, key: Sequence[int]) -> np.ndarray:
    """Uniform points (n, d) that no training sees; a fixed region gives its own again.

    Raises:
        RegionError: a count that cannot be drawn.
    """
    count = fixed_count(term) or count
    with _named(f"run.held_out = {count}, term {term.name!r}"):
        return term.region.sample(count, key, "uniform")


@contextmanager
def _named(where: str) -> Iterator[None]:
    """Put the key of the config before what a region says."""
    try:
        yield
    except RegionError as error:
        raise RegionError(f"{where}: {error}") from error
