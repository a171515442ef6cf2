"""From run folders to figures, one offline HTML page, and a comparison over seeds.

`figures` and `report` read one run folder; `summary` and `compare` read several, and group the
runs that differ in nothing but their seed. Statistics are the mean and the sample standard
deviation (n - 1) over the finished runs of a group in which the value is known.
"""

from __future__ import annotations

import json
import math
import shlex
import statistics
from collections import Counter
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from distgram import maps, page
from distgram.diagnostics import overfitting
from distgram.figures import Metrics, convergence, overlay, spectrum
from distgram.run_folder import ReportError, Run, ended

__all__ = ["ReportError", "cells", "compare", "figures", "report", "summary"]

QUANTITIES = {
    "l2_error": "L2 error",
    "mean_square_residual": "mean square residual",
    "heldout_residual": "held-out mean square residual",
    "seconds": "solving time (s)",
    "steps": "steps",
}
HEADER = ["problem", "rule", "configuration", "seeds", *QUANTITIES.values(), "ended by"]
DPI = 150


def _draw(run: Run) -> dict[str, Figure]:
    """The figures for which the folder has data, by name, in the order of the page."""
    drawn: dict[str, Figure] = {}
    field, spectra = run.arrays("solution.npz"), run.arrays("spectra.npz")
    if "x" in field and "u" in field:
        drawn["solution"] = maps.solution(field)
    drawn["convergence"] = convergence(run.metrics)
    if len(spectra.get("step", ())):
        drawn["spectrum"] = spectrum(spectra)
    if any(key.startswith("points_") for key in field):
        drawn["points"] = maps.collocation(field)
    if residual := overfitting.residual_maps(run.path):
        drawn["residual"] = overfitting.picture(residual)
    return drawn


def figures(run_dir: Path) -> list[Path]:
    """Write figures/{solution,convergence,spectrum,points,residual}.png, as far as the run has the
    data.

    Raises:
        ReportError: no run folder, no logged step, or a file that cannot be read.
    """
    run = Run(Path(run_dir))
    drawn = _draw(run)
    folder = run.path / "figures"
    folder.mkdir(exist_ok=True)
    for name, figure in drawn.items():
        figure.savefig(folder / f"{name}.png", dpi=DPI)
    return [folder / f"{name}.png" for name in drawn]


def report(run_dir: Path) -> Path:
    """Write the figures and report.html, one page that needs nothing beside itself.

    Raises:
        ReportError: as `figures`.
    """
    run = Run(Path(run_dir))
    # what is cheap to read is read first, so that a broken file is reported before any drawing
    last, result, environment = run.metrics[-1], run.result, run.json("environment.json")
    texts = _alternatives(run)
    state = ended(result) or "not finished: the values are those of the last logged step"
    body = [
        f"<h1>{escape(run.problem)}</h1>",
        f'<p class="soft">rule {escape(run.rule)}, seed {run.seed}. Ended by: '
        f"{escape(str(state))}.</p>",
    ]
    overfitted = {**last, **result}.get("overfitted")
    if overfitted:
        residual, heldout = ({**last, **result}[key] for key in list(QUANTITIES)[1:3])
        body.append(
            f'<p class="warn">Overfitted ({escape(", ".join(overfitted))}): the held-out mean '
            f"square residual is {heldout / residual:.2g} times that on the collocation points: "
            "the equation may hold at those only. More or better placed points would help.</p>"
        )
    for path in figures(run.path):
        body.append(f"<h2>{path.stem.capitalize()}</h2>{page.image(path, texts[path.stem])}")
    values = result or {k: v for k, v in last.items() if not isinstance(v, dict)}
    body.append(
        "<h2>Result</h2>"
        + page.table(["quantity", "value"], [[k, _text(v)] for k, v in values.items()])
    )
    command = f"distgram solve {shlex.quote(f'{run.path}/config.toml')} --out NEW_FOLDER"
    body.append(f"<h2>Repeat this run</h2><pre>{escape(command)}</pre>")
    body.append(f"<h2>Configuration</h2><pre>{escape(run.config_text)}</pre>")
    described = json.dumps(environment, indent=2, ensure_ascii=False)
    body.append(f"<h2>Environment</h2><pre>{escape(described)}</pre>")
    return page.write(run.path / "report.html", f"{run.problem}, {run.rule}", body)


def _alternatives(run: Run) -> dict[str, str]:
    """What each figure shows, in words, for those who can't see it."""
    first, last = run.metrics[0], run.metrics[-1]
    falls = (
        f"from {_text(first.get(key))} at step {first['step']} to {_text(last.get(key))} at step "
        f"{last['step']}"
        for key in ("mean_square_residual", "l2_error")
    )
    return {
        "solution": "The solution, the reference where one is known, and the base-10 logarithm "
        f"of the absolute error; L2 error {_text(last.get('l2_error'))}.",
        "convergence": "Convergence against steps and against solving time: mean square residual "
        "{}; L2 error {}.".format(*falls),
        "spectrum": "Singular values of the Jacobian and reconstruction errors RCE against their "
        "index n at steps from the first to the last logged; the cutoff is the dashed horizontal "
        "line, the rank the dotted vertical line, r_cap where the two curves cross.",
        "points": "The collocation points, one colour and marker a term.",
        "residual": "The base-10 logarithm of the absolute residual on a dense grid, one panel a "
        "term on a box, with the collocation points over it.",
    }


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
        raise ReportError("compare: no run folder given, expected at least one.")
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
        "reasons": Counter((ended(r.result) or "?") if r.result else "unfinished" for r in runs),
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
    shown = [row["problem"], row["rule"], row["configuration"], str(row["seeds"])]
    for key in QUANTITIES:
        mean, std, count = (row[f"{key}_{part}"] for part in ("mean", "std", "count"))
        text = _text(mean) if std is None else f"{_text(mean)} ± {std:.2g}"
        shown.append(text + (f" ({count} of {row['runs']})" if 0 < count < row["runs"] else ""))
    shown.append(", ".join(f"{reason} ({n})" for reason, n in row["reasons"].items()))
    return shown


def compare(run_dirs: Iterable[Path], out: Path) -> Path:
    """Write compare.png (convergence of all runs) and compare.html (with the table) to `out`.

    Raises:
        ReportError: no folder given, or as `figures`.
    """
    run_dirs, out = list(run_dirs), Path(out)
    rows = summary(run_dirs)
    curves: dict[str, dict[str, list[Metrics]]] = {}
    for row, runs in zip(rows, _groups(run_dirs), strict=True):
        label = ": ".join(filter(None, (row["rule"], row["configuration"])))
        curves.setdefault(row["problem"], {})[label] = [run.metrics for run in runs]
    out.mkdir(parents=True, exist_ok=True)
    overlay(curves).savefig(out / "compare.png", dpi=DPI)
    body = [
        "<h1>Comparison of runs</h1>",
        '<p class="soft">Mean ± sample standard deviation over the finished runs of each group; '
        "the runs of a group differ in their seed only.</p>",
        page.table(HEADER, [cells(row) for row in rows]),
        page.image(
            out / "compare.png",
            "Convergence of L2 error and mean square residual against "
            "steps and solving time: one colour a group, one line a run.",
        ),
    ]
    return page.write(out / "compare.html", "Comparison of runs", body)


def _text(value: Any) -> str:
    if value is None:
        return "not known"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
