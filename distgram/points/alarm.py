"""The overfitting alarm: the held-out residual of a term has parted from its training residual.

A term is overfitted at a row where its mean square residual on fresh held-out points exceeds the
whole training residual, so that it matters, and either of

    held-out > 100 · training,      held-out > 10 · training, the ratio having risen over the last
                                    three rows

holds. Both residuals estimate the same mean square, so that without overfitting the ratio is near
1. A factor of ten between the root mean squares is far beyond the sampling error of 2048 points.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float, Int

PARTED = 100.0  # ratio of mean squares at which the two have parted
PARTING = 10.0  # at which they are parting, where it has risen over TREND rows
TREND = 3


class Alarm(NamedTuple):
    """By term: the ratio of held-out to training mean square at the last row, for how many rows it
    has risen, and whether the term was overfitted there."""

    ratio: Float[Array | np.ndarray, " terms"]
    rising: Int[Array | np.ndarray, " terms"]
    raised: Bool[Array | np.ndarray, " terms"]


def quiet(terms: int) -> Alarm:
    """The alarm of a number of terms before the first row."""
    return Alarm(np.full(terms, np.inf), np.zeros(terms, int), np.zeros(terms, bool))


def observe(alarm: Alarm, row: dict[str, Any]) -> Alarm:
    """The alarm once it has seen a row of metrics."""
    before, rising = np.asarray(alarm.ratio), np.asarray(alarm.rising)
    ratio = _ratio(row)
    rising = np.where(ratio > before, rising + 1, 0)
    return Alarm(ratio, rising, _raised(row, rising))


def overfitted(alarm: Alarm, row: dict[str, Any]) -> list[str]:
    """The names of the terms that are overfitted at a row, given the rows seen before."""
    raised = _raised(row, np.asarray(alarm.rising))
    return [name for name, loud in zip(row["terms"], raised, strict=True) if loud]


def warning(row: dict[str, Any]) -> str:
    """A line that says which terms are overfitted at a row, and how much."""
    terms = ", ".join(
        f"{name} {row['heldout_terms'][name]:.2g} against {row['terms'][name]:.2g}"
        for name in row["overfitted"]
    )
    return (
        f"overfitting at step {row['step']}: held-out against training mean square residual: "
        f"{terms}; more or better placed points would help"
    )


def _parts(row: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """(training, held-out) mean squares of the terms."""
    train, held = (np.array(list(row[k].values()), float) for k in ("terms", "heldout_terms"))
    return train, held


def _ratio(row: dict[str, Any]) -> np.ndarray:
    """Held-out over training: 1 where both are 0, nan (above nothing) where both blew up."""
    train, held = _parts(row)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((train == 0) & (held == 0), 1.0, held / train)


def _raised(row: dict[str, Any], rising: np.ndarray) -> np.ndarray:
    train, held = _parts(row)
    ratio = _ratio(row)
    parted = (ratio > PARTED) | ((ratio > PARTING) & (rising >= TREND))
    return parted & (held > train.sum())
