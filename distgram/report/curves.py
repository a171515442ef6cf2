"""Curves of one run as matplotlib Figures: its convergence, its spectra, what the cutoff did.

A logarithmic axis shows positive finite values only: zeros leave a gap, and a non-finite mean
square residual is marked by a cross at the foot of the panel.

The cutoff's story is that of singular values Δ̂_n against reconstruction errors RCE_n. A recorded
spectrum belongs to the step it led to: that of step 1 is the spectrum of the initial parameters.
r∩ is where the two curves cross, rε = #{n : RCE_n >= ε}.
Source: Schwencke, Rousselot, Shilova, Furtlehner 2025 (AMStramGRAM).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from distgram.linalg.spectrum import crossing_rank

# Okabe & Ito, Color Universal Design (2008): told apart with any common colour blindness.
BLACK, BLUE, VERMILION = "#000000", "#0072B2", "#D55E00"
COLOURS = (BLUE, "#E69F00", "#009E73", VERMILION, "#CC79A7", "#56B4E9", "#7F7F7F", "#B8A600")
OTHERS = (*COLOURS[1:3], *COLOURS[4:])
ABSCISSAE = {"step": "step", "seconds": "solving time (s)"}
DECADES = 20  # of singular values and RCE, below the largest
CROSSING = {"marker": "o", "label": r"$r_{\cap}$, crossing"}
PRECISION = {"marker": "^", "label": r"$r_{\varepsilon}$"}
RING = {"mfc": "white", "mec": BLACK, "ls": "", "zorder": 5}

Arrays = Mapping[str, np.ndarray]
Metrics = Sequence[Mapping[str, Any]]


def positive(values: Any) -> np.ndarray:
    """The values a logarithmic axis can show: everything not finite or <= 0 becomes NaN."""
    v = np.asarray(values, dtype=float)
    return np.where(np.isfinite(v) & (v > 0), v, np.nan)


def plain(text: object) -> str:
    """A text of a user's as matplotlib shows it as it stands: a dollar sign begins no formula."""
    return str(text).encode("utf-8", "replace").decode().replace("$", r"\$")


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
    margin = max(0.04 * (top - bottom), 0.15, (1.1 - (top - bottom)) / 2)  # a tick at least
    # double precision ends at 1e-308 and 1e308
    ax.set_ylim(10 ** max(bottom - margin, -307.0), 10 ** min(top + margin, 307.0))
    ax.yaxis.set_major_locator(LogLocator(numticks=10))
    ax.yaxis.set_minor_formatter(NullFormatter())


def legend(part: Any, handles: Mapping[str, Artist], columns: int = 4) -> None:
    """A legend below the panels of a figure or of a part of one."""
    part.legend(handles.values(), handles, loc="outside lower center", ncols=columns, frameon=False)


def series(metrics: Metrics, key: str, against: str) -> tuple[np.ndarray, np.ndarray]:
    """(x, y) of the logged steps at which a quantity was evaluated.

    Args:
        key: its name; 'terms/NAME' and 'heldout_terms/NAME' for the residual of a term.
    """
    pairs = []
    for row in metrics:
        name, _, term = key.partition("/")
        value = (row.get(name) or {}).get(term) if term else row.get(name)
        if value is not None:
            pairs.append((row[against], value))
    x, y = np.array(pairs, dtype=float).reshape(-1, 2).T
    return x, y


# key, name in the legend, colour, line style, width
Curve = tuple[str, str, str, str, float]
TOTAL: list[Curve] = [
    ("mean_square_residual", "mean square residual", BLUE, "-", 2.4),
    ("heldout_residual", "held-out mean square residual", BLACK, "--", 1.4),
    ("l2_error", r"$L^2$ error", VERMILION, "-", 2.0),
]


def convergence(metrics: Metrics) -> Figure:
    """Mean square residuals, training and held-out, and L2 error against steps and seconds; where
    there are several terms a second row shows the residuals of each."""
    terms = list(dict.fromkeys(name for row in metrics for name in row.get("terms") or {}))
    by_term: list[Curve] = []
    for i, term in enumerate(terms):
        colour, line, name = OTHERS[i % 6], ":" if i >= 6 else "-", plain(term)
        by_term.append((f"terms/{term}", f"term: {name}", colour, line, 1.8))
        by_term.append((f"heldout_terms/{term}", f"{name}, held-out", colour, "--", 1.2))
    rows = [TOTAL, by_term] if len(terms) > 1 else [TOTAL]
    fig = Figure(figsize=(11, 4.6 * len(rows)), layout="constrained")
    parts = np.asarray(fig.subfigures(len(rows), 1, squeeze=False)).ravel()
    for part, curves in zip(parts, rows, strict=True):
        axes = part.subplots(1, 2, sharey=True)
        handles: dict[str, Artist] = {}
        for ax, (against, label) in zip(axes, ABSCISSAE.items(), strict=True):
            handles |= draw_curves(ax, metrics, curves, against)
            dress(ax, label)
        axes[0].set_ylabel("mean square residual" + r", $L^2$ error" * (curves is TOTAL))
        legend(part, handles)
    return fig


def draw_curves(
    ax: Axes, metrics: Metrics, curves: Sequence[Curve], against: str
) -> dict[str, Artist]:
    """Draw curves against steps or seconds on a logarithmic axis; a handle for each name."""
    handles: dict[str, Artist] = {}
    shown = [np.zeros(0)]
    for key, name, colour, line, width in curves:
        x, y = series(metrics, key, against)
        shown.append(y)
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
    log_y(ax, np.concatenate(shown))
    ax.locator_params(axis="x", nbins=7)
    return handles


def crossings(spectra: Arrays) -> Int[np.ndarray, " k"]:
    """r∩ of every recorded spectrum, for any rule."""
    return crossing_rank(spectra["singular_values"], spectra["rce"])


def precision_ranks(spectra: Arrays) -> Int[np.ndarray, " k"] | None:
    """rε of every recorded spectrum; None where the rule has no ε."""
    ranks = spectra.get("r_eps")
    return None if ranks is None or (ranks < 0).any() else ranks


def chosen(steps: Int[np.ndarray, " k"], most: int = 6) -> list[int]:
    """Rows to show: the first, the last, and between them about equal ratios of step + 1."""
    steps = np.asarray(steps, dtype=float)
    if len(steps) <= most:
        return list(range(len(steps)))
    ratios = np.geomspace(steps[0] + 1, steps[-1] + 1, most) - 1
    rows = {int(np.abs(steps - r).argmin()) for r in ratios} | {0, len(steps) - 1}
    for row in np.linspace(0, len(steps) - 1, 2 * most).round().astype(int):
        if len(rows) < most:
            rows.add(int(row))
    return sorted(rows)


def recorded_nearest(steps: Int[np.ndarray, " k"], wanted: Sequence[int]) -> list[int]:
    """The rows recorded nearest to the wanted steps, each once."""
    return sorted({int(np.abs(steps - step).argmin()) for step in wanted})


def spectrum(spectra: Arrays, wanted: Sequence[int] | None = None) -> Figure:
    """Δ̂_n and RCE_n against n at some steps, with cutoff, rank, r∩ and rε.

    Args:
        wanted: the steps; those recorded nearest are shown. None: a choice over the whole run.
    """
    steps = spectra["step"]
    rows = chosen(steps) if wanted is None else recorded_nearest(steps, wanted)
    columns = 2 if len(rows) == 4 else min(3, len(rows))
    height = -(-len(rows) // columns)
    fig = Figure(figsize=(3.7 * columns + 1, 2.9 * height + 0.8), layout="constrained")
    panels = fig.subplots(height, columns, sharex=True, sharey=True, squeeze=False)
    handles: dict[str, Artist] = {}
    for i, ax in enumerate(panels.ravel()):
        if i >= len(rows):
            ax.set_visible(False)
            continue
        handles |= _draw_spectrum(ax, spectra, rows[i])
        lowest, left = i + columns >= len(rows), i % columns == 0
        dress(ax, "$n$" * lowest, r"$\Delta_n$, RCE$_n$" * left, f"step {int(steps[rows[i]])}")
        ax.tick_params(labelbottom=lowest)
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    picked = [np.ravel(spectra[k][rows]) for k in ("singular_values", "rce", "cutoff")]
    log_y(panels[0, 0], np.concatenate(picked), DECADES)
    legend(fig, handles, 3 * columns)
    return fig


def _draw_spectrum(ax: Axes, spectra: Arrays, row: int) -> dict[str, Artist]:
    """One panel of `spectrum`; its handles by name."""
    s, rce = spectra["singular_values"][row], spectra["rce"][row]
    n = np.arange(len(rce))
    handles: dict[str, Artist] = {}
    handles[r"singular values $\Delta_n$"] = ax.plot(n[1:], positive(s), color=BLUE, lw=1.8)[0]
    handles[r"RCE$_n$"] = ax.plot(n, positive(rce), color=VERMILION, lw=1.8)[0]
    cutoff, rank = float(spectra["cutoff"][row]), int(spectra["rank"][row])
    if np.isfinite(cutoff) and cutoff > 0:
        handles["cutoff"] = ax.axhline(cutoff, color="#444444", ls="--", lw=1.1)
    if rank >= 0:
        handles["rank"] = ax.axvline(rank, color="#444444", ls=":", lw=1.4)
    eps = precision_ranks(spectra)
    for r, curve, first, mark in (
        (crossings(spectra)[row], s, 1, CROSSING),
        (-1 if eps is None else eps[row], rce, 0, PRECISION),
    ):
        if first <= r < first + len(curve) and np.isfinite(positive(curve[r - first])):
            handles[mark["label"]] = ax.plot(r, curve[r - first], ms=7, **mark, **RING)[0]
    return handles


def flattening(spectra: Arrays) -> Figure:
    """Every recorded spectrum as one column: log10 of Δ̂_n and of RCE_n over step and n, with the
    rank, r∩ and rε. Where a column of RCE is of one colour, RCE is flat."""
    steps, k = spectra["step"], spectra["rce"].shape[1]
    fig = Figure(figsize=(11, 4.6), layout="constrained")
    handles: dict[str, Artist] = {}
    axes = fig.subplots(1, 2, sharex=True, sharey=True)
    shown = (("singular_values", r"$\Delta_n$", 1), ("rce", r"RCE$_n$", 0))
    for ax, (key, name, first) in zip(axes, shown, strict=True):
        values = np.log10(positive(spectra[key]))
        known = values[np.isfinite(values)]
        high = known.max() if known.size else 0.0
        low = max(known.min(), high - DECADES) if known.size else -1.0
        ax.set_facecolor("#bbbbbb")  # what is not positive and finite stays grey
        drawn = ax.pcolormesh(
            steps, np.arange(first, k), values.T, vmin=low, vmax=high, cmap="viridis",
            shading="nearest",
        )  # fmt: skip
        fig.colorbar(drawn, ax=ax, label=r"$\log_{10}$ " + name)
        handles |= _draw_ranks(ax, spectra)
        dress(ax, "step", "$n$" * (key == "singular_values"), grid=False)
    axes[0].set_ylim(0, k - 1)
    axes[0].xaxis.set_major_locator(MaxNLocator(6, integer=True))
    legend(fig, handles)
    return fig


def _draw_ranks(ax: Axes, spectra: Arrays) -> dict[str, Artist]:
    steps, rank = spectra["step"], spectra["rank"]
    ranks = np.where(rank >= 0, rank, np.nan)
    handles: dict[str, Artist] = {"rank": ax.plot(steps, ranks, color=VERMILION, lw=1.8)[0]}
    every = -(-len(steps) // 40)  # more rings than that hide the map
    rings = [(crossings(spectra), CROSSING), (precision_ranks(spectra), PRECISION)]
    for values, mark in rings:
        if values is not None:
            handles[mark["label"]] = ax.plot(steps, values, ms=4, markevery=every, **mark, **RING)[
                0
            ]
    return handles


def cutoff(metrics: Metrics, spectra: Arrays) -> Figure:
    """What the cutoff did, step by step: the loss, the rank with r∩ and rε where a spectrum was
    recorded, λ or the squared cutoff, and the step size, with the steps that were refused."""
    fig = Figure(figsize=(11, 6.2), layout="constrained")
    (loss, rank), (level, size) = fig.subplots(2, 2, sharex=True)
    x, y = series(metrics, "mean_square_residual", "step")
    loss.plot(x, positive(y), color=BLUE, lw=1.8)
    dress(loss, y="mean square residual")
    log_y(loss, y)
    if len(spectra.get("step", ())):
        rank.plot(spectra["step"], crossings(spectra), ms=5, **CROSSING, **RING)
        if (eps := precision_ranks(spectra)) is not None:
            rank.plot(spectra["step"], eps, ms=5, **PRECISION, **RING)
    rank.plot(*series(metrics, "rank", "step"), color=COLOURS[2], lw=1.8, label="rank of the step")
    rank.set_ylim(bottom=0)
    rank.legend(frameon=False)
    dress(rank, y="rank")
    for ax, key, name in (
        (level, "regularization", r"$\lambda$, or squared cutoff"),
        (size, "step_size", "step size"),
    ):
        x, y = series(metrics, key, "step")
        ax.plot(x, positive(y), color=VERMILION, lw=1.4, marker="." if y.size <= 60 else "")
        dress(ax, "step", name)
        log_y(ax, y)
    refused = [row["step"] for row in metrics if row.get("accepted") is False]
    foot = np.full(len(refused), 0.03)
    at = size.get_xaxis_transform()
    size.plot(refused, foot, "x", color=BLACK, transform=at, label="refused")
    if refused:
        size.legend(frameon=False)
    return fig
