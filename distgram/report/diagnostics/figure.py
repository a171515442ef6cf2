"""Panels of kernel sections: lines in one dimension, maps in two, each with its own range."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from distgram.report.figures import BLUE, VERMILION, dress
from distgram.report.maps import symbol


def panels(
    shown: Sequence[tuple[str, np.ndarray]],
    axes: tuple[np.ndarray, ...],
    at: np.ndarray,
    names: Sequence[str],
    columns: int,
) -> Figure:
    """One panel a (title, values on the grid of `axes`); `at` is marked."""
    height = -(-len(shown) // columns)
    fig = Figure(figsize=(4.6 * columns, 3.7 * height), layout="constrained")
    cells = fig.subplots(height, columns, squeeze=False).ravel()
    labels = [symbol(n) for n in names]
    for ax, (title, values) in zip(cells, shown, strict=False):
        if len(axes) == 1:
            ax.plot(axes[0], values, color=BLUE, lw=1.8)
            ax.axvline(at[0], color=VERMILION, ls=":", lw=1.4)
            dress(ax, labels[0], "", title)
            continue
        signed_map(ax, axes, values)
        ax.plot(at[0], at[1], "+", color="black", ms=9, mew=1.4)
        dress(ax, labels[0], labels[1], title, grid=False)
    for ax in cells[len(shown) :]:
        ax.set_visible(False)
    return fig


def signed_map(ax: Axes, axes: tuple[np.ndarray, ...], values: np.ndarray) -> None:
    """Values on the grid of two axes, in diverging colours symmetric about zero."""
    most = float(np.nanmax(np.abs(values))) or 1.0
    drawn = ax.pcolormesh(
        *axes,
        values.reshape(len(axes[0]), len(axes[1])).T,
        vmin=-most,
        vmax=most,
        cmap="RdBu_r",
        shading="gouraud",
    )
    ax.figure.colorbar(drawn, ax=ax)
