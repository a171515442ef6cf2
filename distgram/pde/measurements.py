"""Measured values as a term of the loss: rows of a CSV file, weighted by their noise."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from distgram.errors import ProblemError
from distgram.geometry.regions import Sites
from distgram.pde import tables
from distgram.pde.field import Field
from distgram.pde.problem import Problem, Term

log = logging.getLogger("distgram")

SIGMA = "sigma"
LEAST = 1e-150  # σ² is a float64
NEAR = 1e-8  # of the median: beside a row of less noise the weights 1/σ² of others are rounded off
EXPECTED = f"a number > 0, from {NEAR:g} times the median of all, and {LEAST:g}, to {1 / LEAST:g}"


@dataclass(frozen=True, eq=False)
class Measurements(Sites):
    """Fixed points with what was measured there: rows (x, values) of shape (n, d + k).

    A row is sharded, padded and saved like any point, so that no measured value can part from its
    place. The mean over them is weighted by 1/σ².

    Args:
        sigma: standard deviations of the noise (n,), in the units of u; None: not known, all alike.
    """

    sigma: Float[np.ndarray, " n"] | None = None

    @property
    def variance(self) -> Float[np.ndarray, " n"] | None:
        """σ², which is the density of the points over the uniform one: the weights are 1/σ²."""
        return None if self.sigma is None else self.sigma**2


def measured(x, values, sigma=None, weight: float = 1.0, outputs=None) -> Term:
    """The term  u(x_i) = values_i  of measurements.

    Args:
        x: places (n, d). values: (n,) or (n, k), of the components `outputs` of u, by default the
            first k. sigma: standard deviations of the noise (n,), in the units of u, > 0; None: not
            known, all alike. weight: factor of the mean square in the loss, dimensionless.

    Raises:
        ProblemError: arrays whose lengths differ, or values that are not finite.
    """
    for name, given in (("x", x), ("values", values), ("sigma", sigma)):
        kind = getattr(given, "dtype", np.dtype(np.float64))
        if kind != np.float64 and np.issubdtype(kind, np.inexact):
            log.warning("measured: %s is of %s: taken as float64, of as few digits.", name, kind)
    x, values = np.atleast_2d(np.asarray(x, np.float64)), np.asarray(values, np.float64)
    values = values[:, None] if values.ndim == 1 else values
    d, chosen = x.shape[1], np.arange(values.shape[1]) if outputs is None else np.asarray(outputs)
    sigma = None if sigma is None else np.broadcast_to(np.asarray(sigma, np.float64), (len(x),))
    if len(values) != len(x) or len(chosen) != values.shape[1]:
        raise ProblemError(
            f"measured: x of shape {x.shape}, values of shape {values.shape}, outputs "
            f"{chosen.tolist()}: expected as many values as places, and an output for each column."
        )
    if not np.isfinite(values).all():
        raise ProblemError("measured: expected finite values.")
    if sigma is not None and (wrong := _wrong(sigma)) is not None:
        raise ProblemError(f"measured: sigma = {sigma[wrong]:g}: expected {EXPECTED}.")

    def operator(u: Field) -> Field:
        return lambda row: u(row[:d])[chosen]

    rows = np.concatenate([x, values], axis=1)
    region = Measurements(rows, sigma)
    return Term(operator, lambda row: row[d:], region, weight, kind="data")


def data_term(name: str, path: Path, weight: float, problem: Problem) -> Term:
    """The term  u(x_i) = values_i  of a CSV file, of the given weight in the loss.

    Its columns are the problem's coordinates, one or more components of u (u, or u1 ... um), and
    perhaps sigma, the standard deviation of the noise of each row.

    Raises:
        TableError: what `tables.read` raises; a point outside the domain; a sigma <= 0.
    """
    d, every = problem.dim, problem.output_names
    columns = tables.read(path, problem.input_names, (*every, SIGMA))
    measured = [i for i, output in enumerate(every) if output in columns]
    if not measured:
        raise tables.TableError(
            f"{path}: expected what was measured: a column {' or '.join(every)}."
        )
    x = read_places(path, columns, problem)
    values = np.stack([columns[every[i]] for i in measured], axis=1)
    sigma = columns.get(SIGMA)
    if sigma is not None and (wrong := _wrong(sigma)) is not None:
        raise tables.TableError(
            f"{path}, row {wrong + 1}, column {SIGMA!r}: {sigma[wrong]:g}: expected {EXPECTED}."
        )

    def operator(u: Field) -> Field:
        return lambda row: u(row[:d])[np.asarray(measured)]

    rows = np.concatenate([x, values], axis=1)
    region = Measurements(rows, sigma)
    return Term(operator, lambda row: row[d:], region, weight, name=name, kind="data")


def _wrong(sigma: Float[np.ndarray, " n"]) -> int | None:
    """The first standard deviation that cannot be one; None: all can."""
    good = (sigma >= max(LEAST, NEAR * np.median(sigma))) & (sigma <= 1 / LEAST)
    return None if good.all() else int(np.argmin(good))


def read_points(path: Path, problem: Problem) -> Float[np.ndarray, "n d"]:
    """Points from a CSV file whose columns are the problem's coordinates and nothing else.

    Raises:
        TableError: what `tables.read` raises, and a row that lies outside the domain.
    """
    return read_places(path, tables.read(path, problem.input_names), problem)


def read_places(path: Path, columns, problem: Problem) -> Float[np.ndarray, "n d"]:
    """The coordinates of the rows of a table.

    Raises:
        TableError: the first row that lies outside the domain.
    """
    names = problem.input_names
    x = np.stack([columns[name] for name in names], axis=1)
    low, high = np.asarray(problem.domain.lower), np.asarray(problem.domain.upper)
    outside = (x < low) | (x > high)
    if outside.any():
        row, k = (int(i) for i in np.argwhere(outside)[0])
        raise tables.TableError(
            f"{path}, row {row + 1}: {names[k]} = {x[row, k]:g} is outside the domain: expected "
            f"{low[k]:g} to {high[k]:g}."
        )
    return x
