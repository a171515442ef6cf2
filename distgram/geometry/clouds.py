"""Points that are given: those of a boundary, with normals and weights, perhaps from a file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from distgram.errors import RegionError
from distgram.geometry.regions import Sites


@dataclass(frozen=True, eq=False)
class Cloud(Sites):
    """Given points of a boundary, all of which are used.

    Args:
        x: (n, d). normals: outward, (n, d), of any length but 0, for Neumann and Robin; None: not
            known. weights: what each stands for, as an area, (n,), > 0; None: alike, together 1.

    Raises: RegionError for arrays that do not fit, values that are not finite.
    """

    normals: Float[np.ndarray, "n d"] | None = None
    weights: Float[np.ndarray, " n"] | None = None

    def __post_init__(self):
        super().__post_init__()
        n = len(self.x)
        if self.normals is not None:
            normals = np.array(self.normals, np.float64)
            length = np.linalg.norm(normals, axis=-1) if normals.ndim == 2 else np.zeros(1)
            if normals.shape != self.x.shape or not (length > 0).all() or np.isinf(length).any():
                raise RegionError(
                    f"Cloud: normals of shape {normals.shape}: expected {self.x.shape}, one for "
                    "each point, none of them zero."
                )
            object.__setattr__(self, "normals", normals / length[:, None])
        if self.weights is not None:
            weights = np.array(self.weights, np.float64)
            good = weights.shape == (n,) and (weights > 0).all() and np.isfinite(weights).all()
            if not good:
                raise RegionError(
                    f"Cloud: weights of shape {weights.shape}: expected ({n},), numbers > 0."
                )
            object.__setattr__(self, "weights", weights)

    def measure(self) -> float:
        """The sum of the weights."""
        return 1.0 if self.weights is None else float(np.sum(self.weights))

    @property
    def density(self) -> Float[np.ndarray, " n"] | None:
        """The density of the points over the uniform one, 1/weight; None: uniform."""
        if self.weights is None:
            return None
        return np.mean(self.weights) / self.weights

    def oriented(self) -> Cloud:
        """Rows (x, n) of the points with their normals.

        Raises: RegionError where no normals are known.
        """
        if self.normals is None:
            raise RegionError("Cloud: it has no normals: expected Cloud(x, normals, weights).")
        return Cloud(np.concatenate([self.x, self.normals], axis=1), None, self.weights)


def read_cloud(file: str | os.PathLike[str], dim: int) -> Cloud:
    """A cloud from a text file, a row a point: d coordinates, then perhaps the d entries of the
    normal, then perhaps a weight; columns apart by commas or blanks. A first line of names, and
    lines that begin with #, are passed over.

    Raises: RegionError for another number of columns, or what is no number.
    """
    path = Path(file)
    lines = [line.split("#")[0].replace(",", " ") for line in path.read_text("utf-8").splitlines()]
    rows = [line.split() for line in lines if line.strip()]
    try:
        float(rows[0][0])
    except (IndexError, ValueError):
        rows = rows[1:]  # a line of names
    try:
        values = np.array(rows, np.float64)
    except ValueError as error:
        raise RegionError(f"{path}: {error}: expected rows of numbers, all as long.") from error
    columns = values.shape[1] if values.ndim == 2 and len(values) else 0
    if columns not in (dim, dim + 1, 2 * dim, 2 * dim + 1):
        raise RegionError(
            f"{path}: {columns} columns: expected {dim} coordinates, then perhaps {dim} entries of "
            "the normal, then perhaps a weight."
        )
    # of d = 1 two columns are x and the normal
    normals = values[:, dim : 2 * dim] if columns >= 2 * dim else None
    weights = values[:, -1] if columns in (dim + 1, 2 * dim + 1) and columns != 2 * dim else None
    return Cloud(values[:, :dim], normals, weights)
