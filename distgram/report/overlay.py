"""Convergence of several runs in one figure, and the time they took to an accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from distgram.report.figures import ABSCISSAE, COLOURS, Metrics, dress, log_y, positive, series

QUANTITIES = (("l2_error", r"$L^2$ error"), ("mean_square_residual", "mean square residual"))
NODES = 200


def overlay(problems: Mapping[str, Mapping[str, Sequence[Metrics]]]) -> Figure:
    """Convergence of groups of runs, two rows a problem; one colour a group, one thin line a run.

    Groups of several runs get the mean of log10 as a thick line, and one standard deviation of it
    to both sides as a band.
    """
    fig = Figure(figsize=(11, 6.4 * max(len(problems), 1)), layout="constrained")
    parts = np.asarray(fig.subfigures(len(problems), 1, squeeze=False))
    for part, (problem, groups) in zip(parts.ravel(), problems.items(), strict=True):
        axes = part.subplots(2, 2, sharex="col", sharey="row")
        handles = {}
        for row, (key, name) in zip(axes, QUANTITIES, strict=True):
            shown = [np.empty(0)]
            for ax, against in zip(row, ABSCISSAE[0], strict=True):
                for i, (label, runs) in enumerate(groups.items()):
                    style = {"color": COLOURS[i % 8], "ls": ("-", "--", ":")[i // 8 % 3]}
                    curves = [series(metrics, key, against) for metrics in runs]
                    shown += [y for _, y in curves]
                    entry = f"{label} ({len(runs)} run{'s' * (len(runs) > 1)})"
                    handles[entry] = _group(ax, curves, style)
                dress(ax, y=name if against == "step" else "")
            log_y(row[0], np.concatenate(shown))
        everything = [metrics for runs in groups.values() for metrics in runs]
        for ax, against, label in zip(axes[1], *ABSCISSAE, strict=True):
            ax.set_xlabel(label)
            ends = [metrics[-1][against] for metrics in everything]
            if max(ends) > 20 * max(min(ends), 1e-9):
                ax.set_xscale("log")
                # step 0 is logged after no time at all
                begun = [line[against] for m in everything for line in m if line["step"] > 0]
                ax.set_xlim(left=min(begun, default=None))
            else:
                ax.locator_params(axis="x", nbins=6)
        part.suptitle(problem, fontsize=12, fontweight="bold")
        part.legend(handles.values(), handles, loc="outside lower center", ncols=2, frameon=False)
    return fig


def _group(ax: Axes, curves: list[tuple[np.ndarray, np.ndarray]], style: dict):
    """Draw the runs of one group; the line that stands for it in the legend."""
    several = len(curves) > 1
    line = None
    for x, y in curves:
        width, alpha = (0.7, 0.5) if several else (1.8, 1.0)
        (line,) = ax.plot(x, positive(y), lw=width, alpha=alpha, **style)
    if several:
        x, mean, spread = mean_of_logs(curves)
        low, high = 10 ** (mean - spread), 10 ** (mean + spread)
        ax.fill_between(x, low, high, color=style["color"], alpha=0.18, lw=0)
        (line,) = ax.plot(x, 10**mean, **style, lw=2.2)
    return line


def mean_of_logs(
    curves: Sequence[tuple[np.ndarray, np.ndarray]],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(x, mean, sample standard deviation) of log10 y over several curves.

    At the logged x where the curves have them in common, else at NODES of the range of them all;
    between, log10 y is linear. A run that ended earlier keeps its last value.
    """
    curves = [(x[np.isfinite(positive(y))], y[np.isfinite(positive(y))]) for x, y in curves]
    curves = [(x, np.log10(y)) for x, y in curves if x.size]
    if not curves:
        return np.empty(0), np.empty(0), np.empty(0)
    longest = max((x for x, _ in curves), key=len)
    common = all(np.isin(x, longest).all() for x, _ in curves)
    first, last = min(x[0] for x, _ in curves), max(x[-1] for x, _ in curves)
    nodes = longest if common else np.linspace(first, last, NODES)
    values = np.stack([np.interp(nodes, x, y) for x, y in curves])
    spread = values.std(axis=0, ddof=1) if len(curves) > 1 else np.zeros_like(nodes)
    return nodes, values.mean(axis=0), spread


def reached(metrics: Metrics, key: str, level: float) -> tuple[int, float] | None:
    """(step, seconds) of the first logged step at which a quantity is at most `level`."""
    for line in metrics:
        value = line.get(key)
        if value is not None and value <= level:
            return int(line["step"]), float(line["seconds"])
    return None


def levels(runs: Sequence[Metrics], key: str, most: int = 6) -> list[float]:
    """Powers of ten that some run comes down to, at most `most`, evenly over the decades."""
    logged = [
        positive([line[key] for line in m if line.get(key) is not None] or [np.nan]) for m in runs
    ]
    known = [v[np.isfinite(v)] for v in logged]
    known = [v for v in known if v.size]
    if not known:
        return []
    high = int(np.ceil(np.log10(max(v[0] for v in known)))) - 1
    low = int(np.ceil(np.log10(min(v.min() for v in known))))
    decades = range(high, low - 1, -1)
    every = -(-len(decades) // most) if len(decades) else 1
    return [float(f"1e{d}") for d in decades[::-1][::every][::-1]]
