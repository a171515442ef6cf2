"""Pictures of a run over its domain (solution, collocation points), as matplotlib Figures.

One to three panels an output: u, the reference, log10 |u - reference|. The colour range of the
error starts at its first percentile, and DECADES below its largest value at most: neither the lines
where it changes sign nor values that are equal to the last bit fill the range.
"""

from __future__ import annotations

import re

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from distgram.report.figures import BLACK, BLUE, COLOURS, VERMILION, Arrays, dress, positive

MARKERS = "osD^vP*X"
DECADES = 6


def symbol(name: str) -> str:
    """A coordinate's name as mathematics: t gives $t$, x1 gives $x_{1}$."""
    match = re.fullmatch(r"([a-zA-Z])_?(\d*)", name)
    if match is None:
        return name.replace("$", r"\$")
    return f"${match[1]}_{{{match[2]}}}$" if match[2] else f"${match[1]}$"


def coordinates(solution: Arrays, d: int) -> list[str]:
    """Symbols of the d coordinates: the stored names, or x_1 ... x_d where they are missing."""
    stored = [str(n) for n in solution["names"]] if "names" in solution else []
    return [symbol(n) for n in (stored if len(stored) == d else [f"x{i + 1}" for i in range(d)])]


def solution(solution: Arrays) -> Figure:
    """Solution, reference and log10 |error|, one row an output; the form depends on the points.

    Lines in one dimension, maps on a two-dimensional grid; else a scatter of u against the
    reference and a histogram of log10 |error|, or without a reference u over two coordinates.
    """
    x, u = solution["x"], solution["u"]
    reference = solution.get("reference")
    d, m = x.shape[1], u.shape[1]
    grid = d == 2 and "axis_0" in solution and "axis_1" in solution
    columns = 1 if reference is None else 3 if grid else 2
    width = {1: 5.2, 2: 9.6, 3: 13.2}[columns]
    fig = Figure(figsize=(width, 3.9 * m), layout="constrained")
    labels = coordinates(solution, d)
    for k, row in enumerate(fig.subplots(m, columns, squeeze=False)):
        name = f"$u_{{{k + 1}}}$" if m > 1 else "$u$"
        exact = None if reference is None else reference[:, k]
        if grid:
            axes = (solution["axis_0"], solution["axis_1"])
            panels(list(row), axes, u[:, k], exact, labels, name)
        elif d == 1:
            _lines(list(row), x[:, 0], u[:, k], exact, labels[0], name)
        elif exact is not None:
            _against(list(row), u[:, k], exact, name)
        else:
            drawn = row[0].scatter(x[:, 0], x[:, 1], c=u[:, k], s=6, lw=0)
            fig.colorbar(drawn, ax=row[0])
            dress(row[0], labels[0], labels[1], f"solution {name}", grid=False)
    return fig


def _log_error(u: np.ndarray, exact: np.ndarray) -> tuple[np.ndarray, str]:
    """log10 |u - exact|, zeros raised to the smallest positive error, and a line about its size."""
    error = np.abs(u - exact)
    known = error[np.isfinite(error)]
    floor = known[known > 0].min() if (known > 0).any() else np.finfo(float).tiny
    text = r"$\log_{10}$ |error|: "
    if known.size < error.size:
        text += f"{error.size - known.size} non-finite, "
    rms, most = (np.sqrt(np.mean(known**2)), known.max()) if known.size else (np.nan, np.nan)
    return np.log10(np.maximum(error, floor)), text + f"rms {rms:.2g}, max {most:.2g}"


def panels(
    row: list[Axes],
    axes: tuple[np.ndarray, np.ndarray],
    u: np.ndarray,
    exact: np.ndarray | None,
    labels: list[str],
    name: str,
) -> None:
    """Maps of one output on a grid: u, and if it is known the reference and log10 |error|.

    Args:
        axes: the nodes of both coordinates, (a,) and (b,). u, exact: values at them, (a*b,), 'ij'.
    """
    shape = (len(axes[0]), len(axes[1]))
    both = np.concatenate([u] if exact is None else [u, exact])
    both = both[np.isfinite(both)]
    low, high = (both.min(), both.max()) if both.size else (0.0, 1.0)
    shown = [(u, f"solution {name}", low, high, "viridis", "neither")]
    if exact is not None:
        error, text = _log_error(u, exact)
        known = error[np.isfinite(error)]
        first, last = np.percentile(known, [1, 100]) if known.size else (0.0, 1.0)
        first = max(first, last - DECADES)
        shown.append((exact, f"reference {name}", low, high, "viridis", "neither"))
        shown.append((error, text, first, last, "cividis", "min"))
    for ax, (values, title, least, most, colours, extend) in zip(row, shown, strict=True):
        ax.set_facecolor("#bbbbbb")  # what is not finite stays grey
        # interpolated between nodes, but for the error, whose nodal lines are as thin as a node
        smooth = colours == "viridis" and np.isfinite(values).all()
        drawn = ax.pcolormesh(
            *axes,
            values.reshape(shape).T,
            vmin=least,
            vmax=most,
            cmap=colours,
            shading="gouraud" if smooth else "nearest",
        )
        ax.set_xlim(axes[0].min(), axes[0].max())
        ax.set_ylim(axes[1].min(), axes[1].max())
        ax.figure.colorbar(drawn, ax=ax, extend=extend)
        dress(ax, labels[0], labels[1], title, grid=False)


def _lines(
    row: list[Axes], x: np.ndarray, u: np.ndarray, exact: np.ndarray | None, label: str, name: str
) -> None:
    order = np.argsort(x)
    row[0].plot(x[order], u[order], color=BLUE, lw=2.4, label=f"solution {name}")
    if exact is not None:
        row[0].plot(x[order], exact[order], "--", color=VERMILION, label="reference")
        error, text = _log_error(u, exact)
        row[1].plot(x[order], error[order], color=BLACK, lw=1.2)
        dress(row[1], label, r"$\log_{10}$ |error|", text)
        row[0].legend(frameon=False)
    dress(row[0], label, name, f"solution {name}")


def _against(row: list[Axes], u: np.ndarray, exact: np.ndarray, name: str) -> None:
    row[0].scatter(exact, u, s=5, color=to_rgba(BLUE, 0.4), lw=0, label="evaluation points")
    ends = [np.nanmin(exact), np.nanmax(exact)]
    row[0].plot(ends, ends, color=VERMILION, lw=1.2, label="solution = reference")
    row[0].legend(frameon=False)
    dress(row[0], f"reference {name}", f"solution {name}", "solution against reference")
    error, text = _log_error(u, exact)
    known = error[np.isfinite(error)]
    row[1].hist(known, bins=60, color=BLUE)
    rms = positive(np.sqrt(np.nanmean((u - exact) ** 2)))
    if np.isfinite(rms):
        row[1].axvline(float(np.log10(rms)), color=VERMILION, lw=1.6, label="rms")
        row[1].legend(frameon=False)
    dress(row[1], r"$\log_{10}$ |error|", "evaluation points", text)


def collocation(solution: Arrays) -> Figure:
    """Collocation points by term; beyond two dimensions a panel a term, on the first two axes."""
    terms = {k.removeprefix("points_"): v for k, v in solution.items() if k.startswith("points_")}
    d = max((p.shape[1] for p in terms.values()), default=1)
    labels = coordinates(solution, d)
    if d > 2:
        columns = min(3, len(terms))
        height = -(-len(terms) // columns)
        fig = Figure(figsize=(3.6 * columns, 3.5 * height), layout="constrained")
        axes = list(fig.subplots(height, columns, squeeze=False, sharex=True, sharey=True).ravel())
    else:
        fig = Figure(figsize=(6.6, 5.0 if d == 2 else 1.0 + 0.5 * len(terms)), layout="constrained")
        axes = [fig.subplots()] * len(terms)
    for i, (ax, (name, x)) in enumerate(zip(axes, terms.items(), strict=False)):
        y = x[:, 1] if d > 1 else np.full(len(x), -float(i))
        size = float(np.clip(6000 / max(len(x), 1), 4, 24))
        face = to_rgba(COLOURS[i % 8], 0.45 if len(x) > 2000 else 0.85)
        title = f"{name}: {len(x)} points"
        mark = MARKERS[i % 8]
        ax.scatter(x[:, 0], y, s=size, color=face, marker=mark, lw=0, label=title, clip_on=False)
        if d > 2:
            dress(ax, labels[0], labels[1], title)
    for ax in axes[len(terms) :]:
        ax.set_visible(False)
    if d <= 2 and axes:
        dress(axes[0], labels[0], labels[1] if d == 2 else "")
        if d == 1:
            counted = [f"{name}: {len(x)} points" for name, x in terms.items()]
            axes[0].set_yticks(-np.arange(len(terms)), counted)
            axes[0].set_ylim(0.5 - len(terms), 0.5)
        else:
            fig.legend(loc="outside lower center", ncols=3, frameon=False, markerscale=1.6)
    elif axes:
        fig.suptitle(f"projection on the first two of {d} coordinates", fontsize=10)
    return fig
