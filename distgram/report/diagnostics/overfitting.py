"""The picture of overfitting: |residual| on a dense grid, with the collocation points over it.

An overfitted solution satisfies the equation at the points and not between them; where points lie
on lines, the residual is small along these lines only. Source: Schwencke, Rousselot, Shilova,
Furtlehner 2025 (residual lines along the sampling lines, cured by denser points).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from distgram.config import saved as solution
from distgram.errors import CheckpointError
from distgram.geometry.regions import Box
from distgram.report.figures import dress
from distgram.report.maps import symbol
from distgram.store.checkpoint import newest
from distgram.store.run_folder import Run

PER_AXIS = 241


class ResidualMap(NamedTuple):
    """|D[u](x) - f(x)| of one term, (a, b), over the axes of a grid, (a,) and (b,), and the
    collocation points of the term (n, 2)."""

    axes: tuple[Float[np.ndarray, " a"], Float[np.ndarray, " b"]]
    residual: Float[np.ndarray, "a b"]
    points: Float[np.ndarray, "n 2"]
    names: tuple[str, str]

    @property
    def rms(self) -> float:
        """Root mean square over the grid."""
        return float(np.sqrt(np.mean(self.residual**2)))


def residual_maps(run_dir: Path, per_axis: int = PER_AXIS) -> dict[str, ResidualMap]:
    """The map of every term on a two-dimensional box that has points; none where the run has no
    checkpoint that can be read, or no solution yet."""
    run_dir = Path(run_dir)
    field = Run(run_dir).arrays("solution.npz")
    if not field or field["x"].shape[1] != 2:
        return {}
    try:
        newest(run_dir / "checkpoints")
        found = solution.load(run_dir)
    except CheckpointError:
        return {}
    a, b = found.problem.inputs or ("x1", "x2")
    maps = {}
    for term in found.problem.terms:
        points = field.get(f"points_{term.name}")
        if points is None or not isinstance(term.region, Box):
            continue
        axes = term.region.axes(per_axis)
        x = np.stack([g.ravel() for g in np.meshgrid(*axes, indexing="ij")], axis=-1)
        r = np.concatenate([found.residual(term, block) for block in np.array_split(x, per_axis)])
        size = np.linalg.norm(r, axis=1).reshape(per_axis, per_axis)
        maps[term.name] = ResidualMap((axes[0], axes[1]), size, points, (a, b))
    return maps


def picture(maps: Mapping[str, ResidualMap]) -> Figure:
    """Maps of log10 |residual| side by side, by title, in one range of colours, points over them.

    The range begins at the first percentile of all: the lines along which a residual changes sign
    are as thin as a node, and would fill it.
    """
    shown = {
        title: np.log10(np.where(m.residual > 0, m.residual, np.nan)) for title, m in maps.items()
    }
    known = np.concatenate([values[np.isfinite(values)] for values in shown.values()])
    low, high = np.percentile(known, [1, 100]) if known.size else (0.0, 1.0)
    fig = Figure(figsize=(6.4 * len(maps), 4.9), layout="constrained")
    for ax, (title, m) in zip(
        fig.subplots(1, len(maps), squeeze=False)[0], maps.items(), strict=True
    ):
        ax.set_facecolor("#bbbbbb")  # what is not finite, or zero, stays grey
        drawn = ax.pcolormesh(
            *m.axes, shown[title].T, vmin=low, vmax=high, cmap="cividis", shading="nearest"
        )
        size = float(np.clip(3000 / max(len(m.points), 1), 0.4, 6))
        ax.scatter(*m.points.T, s=size, color="#ff5a36", lw=0)
        ax.figure.colorbar(drawn, ax=ax, extend="min", label=r"$\log_{10}$ |residual|")
        text = f"{title}: {len(m.points)} points, rms {m.rms:.2g}"
        dress(ax, symbol(m.names[0]), symbol(m.names[1]), text, grid=False)
    return fig
