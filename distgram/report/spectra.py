"""The cutoff's story: singular values against reconstruction errors, and what each step did.

A recorded spectrum belongs to the step it led to: that of step 1 is the spectrum of the initial
parameters. r∩ is the number of leading n with Δ_n > RCE_n, rε = #{n : RCE_n >= ε}.
Source: Schwencke, Rousselot, Shilova, Furtlehner 2025 (AMStramGRAM).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from distgram.report.figures import (
    BLACK,
    BLUE,
    COLOURS,
    VERMILION,
    Arrays,
    Metrics,
    dress,
    log_y,
    positive,
    series,
)

MARK = {"mfc": "white", "mec": BLACK, "ls": "", "zorder": 5}


def r_cap(spectra: Arrays, row: int) -> int:
    """r∩ of a recorded spectrum, for any rule."""
    leading = spectra["singular_values"][row] > spectra["rce"][row][1:]
    return int(np.cumprod(leading).sum())


def r_eps(spectra: Arrays, row: int) -> int | None:
    """rε of a recorded spectrum; None where the rule has no ε."""
    rank = int(spectra["r_eps"][row]) if "r_eps" in spectra else -1
    return rank if rank >= 0 else None


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


def nearest(steps: np.ndarray, wanted: Sequence[int]) -> list[int]:
    """The rows recorded nearest to the wanted steps, each once."""
    steps = np.asarray(steps)
    return sorted({int(np.abs(steps - step).argmin()) for step in wanted})


def spectrum(spectra: Arrays, wanted: Sequence[int] | None = None) -> Figure:
    """Δ_n and RCE_n against n at some steps, with cutoff, rank, r∩ and rε.

    Args:
        wanted: the steps; those recorded nearest are shown. None: a choice over the whole run.
    """
    steps = spectra["step"]
    rows = chosen(steps) if wanted is None else nearest(steps, wanted)
    columns = 2 if len(rows) == 4 else min(3, len(rows))
    height = -(-len(rows) // columns)
    fig = Figure(figsize=(3.7 * columns + 1, 2.9 * height + 0.8), layout="constrained")
    panels = fig.subplots(height, columns, sharex=True, sharey=True, squeeze=False)
    handles = {}
    for i, ax in enumerate(panels.ravel()):
        if i >= len(rows):
            ax.set_visible(False)
            continue
        handles |= _story(ax, spectra, rows[i])
        lowest, left = i + columns >= len(rows), i % columns == 0
        dress(ax, "$n$" * lowest, r"$\Delta_n$, RCE$_n$" * left, f"step {int(steps[rows[i]])}")
        ax.tick_params(labelbottom=lowest)
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    picked = [np.ravel(spectra[k][rows]) for k in ("singular_values", "rce", "cutoff")]
    log_y(panels[0, 0], np.concatenate(picked), decades=20)
    fig.legend(
        handles.values(), handles, loc="outside lower center", ncols=2 * columns, frameon=False
    )
    return fig


def _story(ax: Axes, spectra: Arrays, row: int) -> dict:
    """One panel of `spectrum`; its handles by name."""
    s, rce = spectra["singular_values"][row], spectra["rce"][row]
    n = np.arange(len(rce))
    handles = {}
    handles[r"singular values $\Delta_n$"] = ax.plot(n[1:], positive(s), color=BLUE, lw=1.8)[0]
    handles[r"RCE$_n$"] = ax.plot(n, positive(rce), color=VERMILION, lw=1.8)[0]
    cutoff, rank = float(spectra["cutoff"][row]), int(spectra["rank"][row])
    if np.isfinite(cutoff) and cutoff > 0:
        handles["cutoff"] = ax.axhline(cutoff, color="#444444", ls="--", lw=1.1)
    if rank >= 0:
        handles["rank"] = ax.axvline(rank, color="#444444", ls=":", lw=1.4)
    eps = r_eps(spectra, row)
    for r, curve, first, marker, label in (
        (r_cap(spectra, row), s, 1, "o", r"$r_{\cap}$, crossing"),
        (-1 if eps is None else eps, rce, 0, "^", r"$r_{\varepsilon}$"),
    ):
        if first <= r < first + len(curve) and np.isfinite(positive(curve[r - first])):
            handles[label] = ax.plot(r, curve[r - first], marker, ms=7, **MARK)[0]
    return handles


def cutoff(metrics: Metrics, spectra: Arrays) -> Figure:
    """What the cutoff did, step by step: the loss, the rank with r∩ and rε where a spectrum was
    recorded, the cutoff or λ, and the step size, with the steps that were refused."""
    fig = Figure(figsize=(11, 6.2), layout="constrained")
    (loss, rank), (level, size) = fig.subplots(2, 2, sharex=True)
    x, y = series(metrics, "mean_square_residual", "step")
    loss.plot(x, positive(y), color=BLUE, lw=1.8)
    dress(loss, y="mean square residual")
    log_y(loss, y)
    if len(spectra.get("step", ())):
        rows = range(len(spectra["step"]))
        cap = [r_cap(spectra, row) for row in rows]
        eps = [e for row in rows if (e := r_eps(spectra, row)) is not None]
        rank.plot(spectra["step"], cap, "o", ms=5, label=r"$r_{\cap}$", **MARK)
        if len(eps) == len(cap):
            rank.plot(spectra["step"], eps, "^", ms=5, label=r"$r_{\varepsilon}$", **MARK)
    rank.plot(*series(metrics, "rank", "step"), color=COLOURS[2], lw=1.8, label="rank of the step")
    rank.set_ylim(bottom=0)
    rank.legend(frameon=False)
    dress(rank, y="rank")
    for ax, key, name in (
        (level, "regularization", r"cutoff on $\Delta$, or $\lambda$"),
        (size, "step_size", "step size"),
    ):
        x, y = series(metrics, key, "step")
        ax.plot(x, positive(y), color=VERMILION, lw=1.4, marker="." if y.size <= 60 else "")
        dress(ax, "step", name)
        log_y(ax, y)
    refused = [line["step"] for line in metrics if line.get("accepted") is False]
    foot = np.full(len(refused), 0.03)
    at = size.get_xaxis_transform()
    size.plot(refused, foot, "x", color=BLACK, transform=at, label="refused")
    if refused:
        size.legend(frameon=False)
    return fig
