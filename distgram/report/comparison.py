"""Several runs on one page: means and spreads over seeds, convergence, time to accuracy.

Runs that differ in nothing but their seed are a group. Statistics are the mean and the sample
standard deviation (n - 1) over the finished runs of a group in which the value is known.
"""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from distgram.errors import RunError
from distgram.report import page
from distgram.report.figures import Metrics
from distgram.report.overlay import levels, overlay, reached
from distgram.report.page import DPI, number
from distgram.store.run_folder import QUANTITIES, Run, ended

HEADER = ["problem", "rule", "configuration", "seeds", *QUANTITIES.values(), "ended by"]


def summary(run_dirs: Iterable[Path]) -> list[dict[str, Any]]:
    """One row a group of runs with the same problem, rule and configuration, whatever the seed.

    Keys: problem, rule, configuration (where the groups of one problem and rule differ), seeds,
    runs, reasons (reason -> count), and for each of QUANTITIES NAME_mean, NAME_std (None below
    two values) and NAME_count, the number of finished runs in which the value is known.
    """
    groups = _groups(run_dirs)
    return [_row(runs, groups) for runs in groups]


def _groups(run_dirs: Iterable[Path]) -> list[list[Run]]:
    groups: dict[str, list[Run]] = {}
    for path in dict.fromkeys(Path(p).resolve() for p in run_dirs):
        run = Run(path)
        key = json.dumps([run.problem, run.rule, run.settings], sort_keys=True, default=str)
        groups.setdefault(key, []).append(run)
    if not groups:
        raise RunError("compare: no run folder given, expected at least one.")
    return [groups[key] for key in sorted(groups, key=lambda k: json.loads(k)[:2])]


def _row(runs: list[Run], groups: list[list[Run]]) -> dict[str, Any]:
    first = runs[0]
    finished = [run for run in runs if run.result]
    row: dict[str, Any] = {
        "problem": first.problem,
        "rule": first.rule,
        "configuration": _configuration(first, [group[0] for group in groups]),
        "seeds": len({run.seed for run in runs}),
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
    rivals = [o.settings for o in others if (o.problem, o.rule) == (run.problem, run.rule)]
    keys = [k for k, v in run.settings.items() if any(o.get(k) != v for o in rivals)]
    return ", ".join(f"{key} = {run.settings[key]}" for key in keys)


def cells(row: dict[str, Any]) -> list[str]:
    """A row of `summary` as text, one cell a column of HEADER: mean ± standard deviation."""
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
        RunError: no folder given, or one that is no run folder, or a file that cannot be read.
    """
    run_dirs, out = list(run_dirs), Path(out)
    rows = summary(run_dirs)
    groups = _groups(run_dirs)
    curves: dict[str, dict[str, list[Metrics]]] = {}
    for row, runs in zip(rows, groups, strict=True):
        label = ": ".join(filter(None, (row["rule"], row["configuration"])))
        curves.setdefault(row["problem"], {})[label] = [run.metrics for run in runs]
    out.mkdir(parents=True, exist_ok=True)
    overlay(curves).savefig(out / "compare.png", dpi=DPI)
    body = [
        "<h1>Comparison of runs</h1>",
        '<p class="soft">Mean ± sample standard deviation over the finished runs of each group; '
        "the runs of a group differ in their seed only.</p>",
        page.table(HEADER, [cells(row) for row in rows]),
        "<h2>Convergence</h2>",
        page.image(
            out / "compare.png",
            "L2 error and mean square residual against steps and solving time: one colour a group, "
            "one thin line a run; of several runs the thick line is the mean of log10 and the band "
            f"one standard deviation of it. {_falls(curves)}",
            "lines",
        ),
        "<h2>Time to accuracy</h2>",
        '<p class="soft">Seconds of solving (and steps) until a logged step first was at most so '
        "large: mean ± standard deviation over the runs that got there, and how many of them "
        "did.</p>",
    ]
    for problem, by_label in curves.items():
        body += _times(problem, by_label)
    named = [[str(run.path), str(run.seed), _ended(run)] for runs in groups for run in runs]
    body += ["<h2>Runs</h2>", page.table(["folder", "seed", "ended by"], named)]
    return page.write(out / "compare.html", "Comparison of runs", body)


def _times(problem: str, groups: dict[str, list[Metrics]]) -> list[str]:
    """The table of one problem: a row a group, a column an accuracy."""
    everything = [metrics for runs in groups.values() for metrics in runs]
    known = any(line.get("l2_error") is not None for m in everything for line in m)
    key = "l2_error" if known else "mean_square_residual"
    columns = levels(everything, key)
    if not columns:
        return [f"<p>{problem}: no run came below where it began.</p>"]
    table = [
        [label, *(_time([reached(m, key, level) for m in runs]) for level in columns)]
        for label, runs in groups.items()
    ]
    header = [f"{problem}: {QUANTITIES[key]} at most", *(f"{level:g}" for level in columns)]
    return [page.table(header, table)]


def _time(times: list[tuple[int, float] | None]) -> str:
    """Seconds and steps in words: mean ± standard deviation, (steps), how many of how many."""
    there = [t for t in times if t is not None]
    if not there:
        return "not reached"
    steps, seconds = ([float(t[i]) for t in there] for i in (0, 1))
    spread = f" ± {statistics.stdev(seconds):.2g}" if len(there) > 1 else ""
    text = f"{statistics.fmean(seconds):.3g}{spread} s ({statistics.fmean(steps):.0f} steps)"
    return text + (f", {len(there)} of {len(times)}" if len(there) < len(times) else "")


def _falls(curves: dict[str, dict[str, list[Metrics]]]) -> str:
    """Where the curves of each group end, in words."""
    ends = []
    for problem, groups in curves.items():
        for label, runs in groups.items():
            last = [m[-1].get("l2_error") or m[-1].get("mean_square_residual") for m in runs]
            last = sorted(v for v in last if v is not None)
            if last:
                span = number(last[0]) + (f" to {number(last[-1])}" if len(last) > 1 else "")
                ends.append(f"{problem} by {label} ends at {span}")
    return "; ".join(ends) + "."


def _ended(run: Run) -> str:
    return (ended(run.result) or "?") if run.result else "unfinished"
