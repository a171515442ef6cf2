"""Several runs on one page: means and spreads over seeds, convergence, time to accuracy.

Runs that differ in nothing but their seed are a group. Statistics are the mean and the sample
standard deviation (n - 1) over the finished runs of a group in which the value is known.
"""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from distgram.errors import RunError
from distgram.report.curves import (
    ABSCISSAE,
    COLOURS,
    Metrics,
    dress,
    legend,
    log_y,
    plain,
    positive,
    series,
)
from distgram.report.html import Block, Note, Table, number, page, picture, save
from distgram.store.read import (
    QUANTITIES,
    Run,
    ended,
    problem_name,
    rule_name,
    seed,
    settings,
)

HEADER = ["problem", "rule", "configuration", "seeds", *QUANTITIES.values(), "ended by"]
CURVES = {"l2_error": r"$L^2$ error", "mean_square_residual": "mean square residual"}
NODES = 200

# problem -> group -> the metrics of its runs
Groups = Mapping[str, Mapping[str, Sequence[Metrics]]]


def summary(run_dirs: Iterable[Path]) -> list[dict[str, Any]]:
    """One row per group of runs with the same problem, rule and configuration, whatever the seed.

    Keys: problem, rule, configuration (where the groups of one problem and rule differ), seeds,
    runs, reasons (reason -> count), and for each of QUANTITIES NAME_mean, NAME_std (None below
    two values) and NAME_count, the number of finished runs in which the value is known.

    Raises:
        RunError: no folder given, or one that is no run folder, or a file that cannot be read.
    """
    groups = _groups(run_dirs)
    return [_row(runs, groups) for runs in groups]


def _groups(run_dirs: Iterable[Path]) -> list[list[Run]]:
    groups: dict[str, list[Run]] = {}
    for path in dict.fromkeys(Path(p).resolve() for p in run_dirs):
        run = Run(path)
        same = [problem_name(run), rule_name(run), settings(run)]
        groups.setdefault(json.dumps(same, sort_keys=True, default=str), []).append(run)
    if not groups:
        raise RunError("compare: no run folder given, expected at least one.")
    return [groups[key] for key in sorted(groups, key=lambda k: json.loads(k)[:2])]


def _row(runs: list[Run], groups: list[list[Run]]) -> dict[str, Any]:
    first = runs[0]
    finished = [run for run in runs if run.result]
    row: dict[str, Any] = {
        "problem": problem_name(first),
        "rule": rule_name(first),
        "configuration": _configuration(first, [group[0] for group in groups]),
        "seeds": len({str(seed(run)) for run in runs}),
        "runs": len(runs),
        "reasons": Counter(_ended(r) for r in runs),
    }
    for key in QUANTITIES:
        values = [float(r.result[key]) for r in finished if r.result.get(key) is not None]
        row[f"{key}_mean"] = statistics.fmean(values) if values else None
        spread = len(values) > 1 and all(map(math.isfinite, values))
        row[f"{key}_std"] = statistics.stdev(values) if spread else None
        row[f"{key}_count"] = len(values)
    return row


def _configuration(run: Run, others: list[Run]) -> str:
    """The settings in which this run differs from others of the same problem and rule."""
    mine, named = settings(run), (problem_name(run), rule_name(run))
    rivals = [settings(o) for o in others if (problem_name(o), rule_name(o)) == named]
    keys = [k for k, v in mine.items() if any(o.get(k) != v for o in rivals)]
    return ", ".join(f"{key} = {mine[key]}" for key in keys)


def _ended(run: Run) -> str:
    return (ended(run.result) or "?") if run.result else "unfinished"


def cells(row: dict[str, Any]) -> list[str]:
    """A row of `summary` as text, one cell per column of HEADER: mean ± standard deviation."""
    shown = [row["problem"], row["rule"], row["configuration"] or "-", str(row["seeds"])]
    for key in QUANTITIES:
        mean, std, count = (row[f"{key}_{part}"] for part in ("mean", "std", "count"))
        text = number(mean) if std is None else f"{number(mean)} ± {std:.2g}"
        shown.append(text + (f" ({count} of {row['runs']})" if 0 < count < row["runs"] else ""))
    shown.append(", ".join(f"{reason} ({n})" for reason, n in row["reasons"].items()))
    return shown


def compare(run_dirs: Iterable[Path], out: Path) -> Path:
    """Write compare.png (convergence of all runs) and compare.html (with the tables) to `out`.

    Raises:
        RunError: as `summary`.
    """
    groups, out = _groups(run_dirs), Path(out)
    rows = [_row(runs, groups) for runs in groups]
    curves: dict[str, dict[str, list[Metrics]]] = {}
    for row, runs in zip(rows, groups, strict=True):
        label = ": ".join(filter(None, (row["rule"], row["configuration"])))
        curves.setdefault(row["problem"], {})[label] = [run.metrics for run in runs]
    words = (
        "L2 error and mean square residual against steps and solving time: one colour per group, "
        "one thin line per run; of several runs the thick line is the mean of log10 and the band "
        f"one standard deviation of it. {_last_values(curves)}"
    )
    drawn = picture(overlay(curves), words)
    out.mkdir(parents=True, exist_ok=True)
    (out / "compare.png").write_bytes(drawn.png)
    lead = [
        Note(
            "Mean ± sample standard deviation over the finished runs of each group; the runs of a "
            "group differ in their seed only."
        ),
        Table(HEADER, [cells(row) for row in rows]),
    ]
    times = Note(
        "Seconds of solving (and steps) until a logged step first was at most so large: mean ± "
        "standard deviation over the runs that got there, and how many of them did."
    )
    named = [[str(run.path), number(seed(run)), _ended(run)] for runs in groups for run in runs]
    sections: dict[str, list[Block]] = {
        "Convergence": [drawn],
        "Time to accuracy": [times, *(_times(*problem) for problem in curves.items())],
        "Runs": [Table(["folder", "seed", "ended by"], named)],
    }
    return save(out / "compare.html", page("Comparison of runs", lead, sections))


def _last_values(groups: Groups) -> str:
    """Where the curves of each group end, in words."""
    ends = []
    for problem, by_label in groups.items():
        for label, runs in by_label.items():
            last = [m[-1].get("l2_error") or m[-1].get("mean_square_residual") for m in runs]
            last = sorted(v for v in last if v is not None)
            if last:
                span = number(last[0]) + (f" to {number(last[-1])}" if len(last) > 1 else "")
                ends.append(f"{problem} by {label} ends at {span}")
    return "; ".join(ends) + "."


def _times(problem: str, by_label: Mapping[str, Sequence[Metrics]]) -> Block:
    """The table of one problem: a row per group, a column per accuracy."""
    everything = [metrics for runs in by_label.values() for metrics in runs]
    known = any(row.get("l2_error") is not None for m in everything for row in m)
    key = "l2_error" if known else "mean_square_residual"
    columns = levels(everything, key)
    if not columns:
        return Note(f"{problem}: no run came below where it began.", "text")
    table = [
        [label, *(_time([reached(m, key, level) for m in runs]) for level in columns)]
        for label, runs in by_label.items()
    ]
    return Table([f"{problem}: {QUANTITIES[key]} at most", *(f"{v:g}" for v in columns)], table)


def _time(times: list[tuple[int, float] | None]) -> str:
    """Seconds and steps in words: mean ± standard deviation, (steps), how many of how many."""
    there = [t for t in times if t is not None]
    if not there:
        return "not reached"
    steps, seconds = ([float(t[i]) for t in there] for i in (0, 1))
    spread = f" ± {statistics.stdev(seconds):.2g}" if len(there) > 1 else ""
    text = f"{statistics.fmean(seconds):.3g}{spread} s ({statistics.fmean(steps):.0f} steps)"
    return text + (f", {len(there)} of {len(times)}" if len(there) < len(times) else "")


def reached(metrics: Metrics, key: str, level: float) -> tuple[int, float] | None:
    """(step, seconds) of the first logged step at which a quantity is at most `level`."""
    for row in metrics:
        value = row.get(key)
        if value is not None and value <= level:
            return int(row["step"]), float(row["seconds"])
    return None


def levels(runs: Sequence[Metrics], key: str, most: int = 6) -> list[float]:
    """Powers of ten that some run comes down to, at most `most`, evenly over the decades."""
    logged = [
        positive([row[key] for row in m if row.get(key) is not None] or [np.nan]) for m in runs
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


def overlay(groups: Groups) -> Figure:
    """Convergence of groups of runs: two rows per problem, a colour per group, a thin line per run.

    Groups of several runs get the mean of log10 as a thick line, and one standard deviation of it
    to both sides as a band.
    """
    fig = Figure(figsize=(11, 6.4 * max(len(groups), 1)), layout="constrained")
    parts = np.asarray(fig.subfigures(len(groups), 1, squeeze=False))
    for part, (problem, by_label) in zip(parts.ravel(), groups.items(), strict=True):
        axes = part.subplots(2, 2, sharex="col", sharey="row")
        handles = {}
        for row, (key, name) in zip(axes, CURVES.items(), strict=True):
            shown = [np.empty(0)]
            for ax, against in zip(row, ABSCISSAE, strict=True):
                for i, (label, runs) in enumerate(by_label.items()):
                    style = {"color": COLOURS[i % 8], "ls": ("-", "--", ":")[i // 8 % 3]}
                    curves = [series(metrics, key, against) for metrics in runs]
                    shown += [y for _, y in curves]
                    entry = f"{plain(label)} ({len(runs)} run{'s' * (len(runs) > 1)})"
                    handles[entry] = _draw_group(ax, curves, style)
                dress(ax, y=name if against == "step" else "")
            log_y(row[0], np.concatenate(shown))
        everything = [metrics for runs in by_label.values() for metrics in runs]
        for ax, (against, label) in zip(axes[1], ABSCISSAE.items(), strict=True):
            ax.set_xlabel(label)
            ends = [metrics[-1][against] for metrics in everything]
            if max(ends) > 20 * max(min(ends), 1e-9):
                ax.set_xscale("log")
                # step 0 is logged after no time at all
                begun = [row[against] for m in everything for row in m if row["step"] > 0]
                ax.set_xlim(left=min((x for x in begun if x > 0), default=None))
            else:
                ax.locator_params(axis="x", nbins=6)
        part.suptitle(plain(problem), fontsize=12, fontweight="bold")
        legend(part, handles, 2)
    return fig


def _draw_group(ax: Axes, curves: list[tuple[np.ndarray, np.ndarray]], style: dict[str, Any]):
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
