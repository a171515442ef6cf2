"""Curves of a run (convergence, spectrum) as matplotlib Figures made from plain arrays.

A logarithmic axis shows positive finite values only: zeros leave a gap, and a non-finite mean
square residual is marked by a cross at the foot of the panel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

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


def _log_y(ax: Axes, values: Any, decades: int = 40) -> None:
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
    """Mean square residual (total, by term, held-out) and L2 error against steps and seconds."""
    terms = dict.fromkeys(name for line in metrics for name in line.get("terms") or {})
    # thin over thick: a term that makes up nearly all of the total stays visible on it
    curves = [
        ("mean_square_residual", "mean square residual", BLUE, "-", 3.4),
        ("heldout_residual", "held-out mean square residual", BLACK, "--", 1.4),
        ("l2_error", r"$L^2$ error", VERMILION, "-", 2.0),
    ]
    curves += [
        (f"terms/{t}", f"term: {t}", TERM_COLOURS[i % 6], ":" if i >= 6 else "-", 1.2)
        for i, t in enumerate(terms)
    ]
    fig = Figure(figsize=(11, 4.6), layout="constrained")
    panels = fig.subplots(1, 2, sharey=True)
    handles = {}
    everything = [series(metrics, key, "step")[1] for key, *_ in curves]
    for ax, against, label in zip(panels, *ABSCISSAE, strict=True):
        for key, name, colour, line, width in curves:
            x, y = series(metrics, key, against)
            if y.size:
                mark = "." if y.size <= 25 else ""
                (handles[name],) = ax.plot(
                    x, positive(y), line, color=colour, linewidth=width, marker=mark, label=name
                )
        x, y = series(metrics, "mean_square_residual", against)
        bad = x[~np.isfinite(y)]
        if bad.size:
            foot = np.full(bad.size, 0.03)
            (handles["non-finite"],) = ax.plot(
                bad, foot, "x", color=BLACK, transform=ax.get_xaxis_transform(), label="non-finite"
            )
        dress(ax, label)
        ax.locator_params(axis="x", nbins=7)
    _log_y(panels[0], np.concatenate(everything))
    panels[0].set_ylabel(r"mean square residual, $L^2$ error")
    fig.legend(handles.values(), handles, loc="outside lower center", ncols=4, frameon=False)
    return fig


def overlay(problems: Mapping[str, Mapping[str, Sequence[Metrics]]]) -> Figure:
    """Convergence of groups of runs, two rows a problem; one colour a group, one line a run."""
    fig = Figure(figsize=(11, 6.4 * max(len(problems), 1)), layout="constrained")
    parts = np.asarray(fig.subfigures(len(problems), 1, squeeze=False))
    quantities = (("l2_error", r"$L^2$ error"), ("mean_square_residual", "mean square residual"))
    for part, (problem, groups) in zip(parts.ravel(), problems.items(), strict=True):
        axes = part.subplots(2, 2, sharex="col", sharey="row")
        handles = {}
        for row, (key, name) in zip(axes, quantities, strict=True):
            shown = [np.empty(0)]
            for ax, against in zip(row, ABSCISSAE[0], strict=True):
                for i, (label, runs) in enumerate(groups.items()):
                    colour, line = COLOURS[i % 8], ("-", "--", ":")[i // 8 % 3]
                    entry = f"{label} ({len(runs)} run{'s' * (len(runs) > 1)})"
                    for metrics in runs:
                        x, y = series(metrics, key, against)
                        shown.append(y)
                        alpha = 0.9 if len(runs) < 3 else 0.55
                        (handles[entry],) = ax.plot(
                            x, positive(y), line, color=colour, lw=1.4, alpha=alpha
                        )
                dress(ax, y=name if against == "step" else "")
            _log_y(row[0], np.concatenate(shown))
        for ax, against, label in zip(axes[1], *ABSCISSAE, strict=True):
            ax.set_xlabel(label)
            ends = [m[-1][against] for runs in groups.values() for m in runs]
            if max(ends) > 20 * max(min(ends), 1e-9):
                ax.set_xscale("log")
            else:
                ax.locator_params(axis="x", nbins=6)
        part.suptitle(problem, fontsize=12, fontweight="bold")
        legend = part.legend(
            handles.values(), handles, loc="outside lower center", ncols=2, frameon=False
        )
        for handle in legend.legend_handles:
            if handle is not None:
                handle.set_alpha(1.0)
    return fig


def chosen(steps: np.ndarray, most: int = 6) -> list[int]:
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


def spectrum(spectra: Arrays) -> Figure:
    """Singular values Δ_n and reconstruction errors RCE_n against n, with cutoff and rank.

    r∩ is the number of leading n with Δ_n > RCE_n, rε = #{n : RCE_n >= ε}.
    """
    rows = chosen(spectra["step"])
    columns = 2 if len(rows) == 4 else min(3, len(rows))
    height = -(-len(rows) // columns)
    fig = Figure(figsize=(3.7 * columns + 1, 2.9 * height + 0.8), layout="constrained")
    panels = fig.subplots(height, columns, sharex=True, sharey=True, squeeze=False)
    handles = {}
    for i, ax in enumerate(panels.ravel()):
        if i >= len(rows):
            ax.set_visible(False)
            continue
        row = rows[i]
        s, rce = spectra["singular_values"][row], spectra["rce"][row]
        n = np.arange(len(rce))
        handles[r"singular values $\Delta_n$"] = ax.plot(n[1:], positive(s), color=BLUE, lw=1.8)[0]
        handles[r"RCE$_n$"] = ax.plot(n, positive(rce), color=VERMILION, lw=1.8)[0]
        cutoff, rank = float(spectra["cutoff"][row]), int(spectra["rank"][row])
        if np.isfinite(cutoff) and cutoff > 0:
            line = ax.axhline(cutoff, color="#444444", ls="--", lw=1.1)
            handles["cutoff"] = line
        if rank >= 0:
            handles["rank"] = ax.axvline(rank, color="#444444", ls=":", lw=1.4)
        for key, curve, first, marker, label in (
            ("r_cap", s, 1, "o", r"$r_{\cap}$, crossing"),
            ("r_eps", rce, 0, "^", r"$r_{\varepsilon}$"),
        ):
            r = int(spectra[key][row]) if key in spectra else -1
            if first <= r < first + len(curve) and np.isfinite(positive(curve[r - first])):
                handles[label] = ax.plot(
                    r, curve[r - first], marker, mfc="white", mec=BLACK, ms=7, ls="", zorder=5
                )[0]
        lowest, left = i + columns >= len(rows), i % columns == 0
        dress(
            ax, "$n$" * lowest, r"$\Delta_n$, RCE$_n$" * left, f"step {int(spectra['step'][row])}"
        )
        ax.tick_params(labelbottom=lowest)
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    picked = [np.ravel(spectra[k][rows]) for k in ("singular_values", "rce", "cutoff")]
    _log_y(panels[0, 0], np.concatenate(picked), decades=20)
    fig.legend(
        handles.values(), handles, loc="outside lower center", ncols=2 * columns, frameon=False
    )
    return fig
