"""Convergence of one run as a matplotlib Figure, and what the figures of all modules share.

A logarithmic axis shows positive finite values only: zeros leave a gap, and a non-finite mean
square residual is marked by a cross at the foot of the panel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

# Okabe & Ito, Color Universal Design (2008): told apart with any common colour blindness.
BLACK, BLUE, VERMILION = "#000000", "#0072B2", "#D55E00"
COLOURS = (BLUE, "#E69F00", "#009E73", VERMILION, "#CC79A7", "#56B4E9", "#7F7F7F", "#B8A600")
ABSCISSAE = (("step", "seconds"), ("step", "solving time (s)"))
TERM_COLOURS = ("#E69F00", "#009E73", "#56B4E9", "#CC79A7", "#7F7F7F", "#B8A600")

Arrays = Mapping[str, np.ndarray]
Metrics = Sequence[Mapping[str, Any]]


def positive(values: Any) -> np.ndarray:
    """The values a logarithmic axis can show: everything not finite or <= 0 becomes NaN."""
    v = np.asarray(values, dtype=float)
    return np.where(np.isfinite(v) & (v > 0), v, np.nan)


def dress(ax: Axes, x: str = "", y: str = "", title: str = "", *, grid: bool = True) -> None:
    """Axis labels, title, and the look all panels share (maps go without a grid)."""
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    ax.set_title(title, fontsize=10)
    ax.spines[["top", "right"]].set_visible(not grid)
    if grid:
        ax.grid(True, color="#dddddd", linewidth=0.6)
        ax.set_axisbelow(True)


def log_y(ax: Axes, values: Any, decades: int = 40) -> None:
    """A logarithmic y axis around the positive values, at most `decades` below the largest."""
    ax.set_yscale("log")
    shown = positive(values).ravel()
    shown = shown[np.isfinite(shown)]
    if not shown.size:
        ax.set_ylim(0.1, 10.0)
        ax.text(0.5, 0.5, "no positive finite value", transform=ax.transAxes, ha="center")
        return
    top = np.log10(shown.max())
    bottom = max(np.log10(shown.min()), top - decades)
    margin = max(0.04 * (top - bottom), 0.15)
    # double precision ends at 1e-308 and 1e308
    ax.set_ylim(10 ** max(bottom - margin, -307.0), 10 ** min(top + margin, 307.0))
    ax.yaxis.set_major_locator(LogLocator(numticks=10))
    ax.yaxis.set_minor_formatter(NullFormatter())


def series(metrics: Metrics, key: str, against: str) -> tuple[np.ndarray, np.ndarray]:
    """(x, y) of the logged steps at which `key` ('terms/NAME' for a term) was evaluated."""
    pairs = []
    for line in metrics:
        name, _, term = key.partition("/")
        value = (line.get(name) or {}).get(term) if term else line.get(name)
        if value is not None:
            pairs.append((line[against], value))
    x, y = np.array(pairs, dtype=float).reshape(-1, 2).T
    return x, y


def convergence(metrics: Metrics) -> Figure:
    """Mean square residuals, training and held-out, and L2 error against steps and seconds; where
    there are several terms a second row shows the residuals of each."""
    terms = list(dict.fromkeys(name for line in metrics for name in line.get("terms") or {}))
    total = [
        ("mean_square_residual", "mean square residual", BLUE, "-", 2.4),
        ("heldout_residual", "held-out mean square residual", BLACK, "--", 1.4),
        ("l2_error", r"$L^2$ error", VERMILION, "-", 2.0),
    ]
    by_term = []
    for i, term in enumerate(terms):
        colour, dots = TERM_COLOURS[i % 6], ":" if i >= 6 else "-"
        by_term.append((f"terms/{term}", f"term: {term}", colour, dots, 1.8))
        by_term.append((f"heldout_terms/{term}", f"{term}, held-out", colour, "--", 1.2))
    rows = [total, by_term] if len(terms) > 1 else [total]
    fig = Figure(figsize=(11, 4.6 * len(rows)), layout="constrained")
    parts = np.asarray(fig.subfigures(len(rows), 1, squeeze=False)).ravel()
    for part, curves in zip(parts, rows, strict=True):
        axes = part.subplots(1, 2, sharey=True)
        handles = {}
        for ax, against, label in zip(axes, *ABSCISSAE, strict=True):
            handles |= _panel(ax, metrics, curves, against)
            dress(ax, label)
            ax.locator_params(axis="x", nbins=7)
        log_y(axes[0], np.concatenate([series(metrics, key, "step")[1] for key, *_ in curves]))
        words = "mean square residual" + r", $L^2$ error" * (curves is total)
        axes[0].set_ylabel(words)
        part.legend(handles.values(), handles, loc="outside lower center", ncols=4, frameon=False)
    return fig


def _panel(ax: Axes, metrics: Metrics, curves: list, against: str) -> dict[str, Artist]:
    """Draw curves (key, name, colour, line, width) against steps or seconds; a handle a name."""
    handles: dict[str, Artist] = {}
    for key, name, colour, line, width in curves:
        x, y = series(metrics, key, against)
        if y.size:
            mark = "." if y.size <= 25 else ""
            (handles[name],) = ax.plot(
                x, positive(y), line, color=colour, linewidth=width, marker=mark, label=name
            )
    x, y = series(metrics, curves[0][0], against)
    bad = x[~np.isfinite(y)]
    if bad.size:
        foot = np.full(bad.size, 0.03)
        (handles["non-finite"],) = ax.plot(
            bad, foot, "x", color=BLACK, transform=ax.get_xaxis_transform(), label="non-finite"
        )
    return handles
