"""From one run folder to its figures and one offline HTML page."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from distgram.errors import RunError
from distgram.report import maps, page
from distgram.report.diagnostics import overfitting
from distgram.report.figures import convergence
from distgram.report.film import film
from distgram.report.page import DPI, number
from distgram.report.slice_maps import slices
from distgram.report.spectra import cutoff, r_cap, r_eps, spectrum
from distgram.store.run_folder import QUANTITIES, Run, ended

__all__ = ["RunError", "figures", "report"]


@dataclass(frozen=True)
class Drawn:
    """A figure of the page: its heading, what it shows in words, and how a dark page treats it."""

    title: str
    figure: Figure
    text: str
    kind: str = "lines"


def _draw(run: Run, steps: Sequence[int] | None) -> dict[str, Drawn]:
    """The figures for which the folder has data, by file name, in the order of the page."""
    drawn: dict[str, Drawn] = {}
    field, spectra, last = run.arrays("solution.npz"), run.arrays("spectra.npz"), run.metrics[-1]
    sliced = "slice_u" in field
    # without a reference a map says more than points scattered over the same plane
    if "x" in field and "u" in field and not (sliced and "reference" not in field):
        text = (
            "The solution, the reference where one is known, and the base-10 logarithm of the "
            f"absolute error; L2 error {number(run.value('l2_error'))}."
        )
        drawn["solution"] = Drawn("Solution", maps.solution(field), text, "map")
    if sliced:
        text = (
            "The solution on planes through the centre of the domain, its values from "
            f"{field['slice_u'].min():.3g} to {field['slice_u'].max():.3g}; where it is known the "
            "exact solution and the base-10 logarithm of the absolute error."
        )
        drawn["slices"] = Drawn("Slices", slices(field), text, "map")
    drawn["convergence"] = Drawn("Convergence", convergence(run.metrics), _fall(run))
    if len(spectra.get("step", ())):
        text = (
            "Singular values of the Jacobian and reconstruction errors RCE against their index n "
            "at chosen steps; the cutoff is the dashed horizontal line, the rank the dotted "
            "vertical line, r∩ the circle where the curves cross"
            + (", rε the triangle. " if r_eps(spectra, 0) is not None else ". ")
            + f"From r∩ = {r_cap(spectra, 0)} at step {spectra['step'][0]} "
            f"to {r_cap(spectra, -1)} at step {spectra['step'][-1]}."
        )
        drawn["spectrum"] = Drawn("Spectrum", spectrum(spectra, steps), text)
    if any(line.get("regularization") is not None for line in run.metrics):
        refused = sum(line.get("accepted") is False for line in run.metrics)
        text = (
            "Against the step: mean square residual; rank of the step with r∩ and rε; cutoff on "
            f"the singular values or λ; step size. At the end rank {number(last.get('rank'))}, "
            f"cutoff or λ {number(last.get('regularization'))}; {refused} logged steps refused."
        )
        drawn["cutoff"] = Drawn("What the cutoff did", cutoff(run.metrics, spectra), text)
    if points := {k[7:]: len(v) for k, v in field.items() if k.startswith("points_")}:
        counted = ", ".join(f"{count} in {term}" for term, count in points.items())
        text = f"The collocation points, one colour and marker a term: {counted}."
        drawn["points"] = Drawn("Points", maps.collocation(field), text, "map")
    if residual := overfitting.residual_maps(run.path):
        rms = ", ".join(f"rms {m.rms:.2g} in {term}" for term, m in residual.items())
        text = (
            "The base-10 logarithm of the absolute residual on a dense grid, one panel a term on a "
            f"box, with the collocation points over it: {rms}."
        )
        drawn["residual"] = Drawn("Residual", overfitting.picture(residual), text, "map")
    return drawn


def _fall(run: Run) -> str:
    """The convergence of a run in words."""
    first, last = run.metrics[0], run.metrics[-1]
    mean_square, error = (
        f"from {number(first.get(key))} at step {first['step']} to {number(last.get(key))} at "
        f"step {last['step']}"
        for key in ("mean_square_residual", "l2_error")
    )
    return (
        "Convergence against steps and against solving time, on training and held-out points, in "
        f"total and by term: mean square residual {mean_square}, held-out at the end "
        f"{number(last.get('heldout_residual'))}; L2 error {error}."
    )


def _written(run: Run, steps: Sequence[int] | None) -> dict[str, tuple[Path, Drawn]]:
    """The figures of a run and the PNG files they were written to, by name."""
    drawn = _draw(run, steps)
    folder = run.path / "figures"
    folder.mkdir(exist_ok=True)
    for name, one in drawn.items():
        one.figure.savefig(folder / f"{name}.png", dpi=DPI)
    return {name: (folder / f"{name}.png", one) for name, one in drawn.items()}


def figures(run_dir: Path) -> list[Path]:
    """Write figures/{solution,slices,convergence,spectrum,cutoff,points,residual}.png, as far as
    the run has the data.

    Raises:
        RunError: no run folder, no logged step, or a file that cannot be read.
    """
    return [path for path, _ in _written(Run(Path(run_dir)), None).values()]


def report(run_dir: Path, steps: Sequence[int] | None = None) -> Path:
    """Write the figures and report.html, one page that needs nothing beside itself.

    Args:
        steps: the steps whose spectra are shown, each the nearest that was recorded.

    Raises:
        RunError: as `figures`.
    """
    run = Run(Path(run_dir))
    # what is cheap to read is read first, so that a broken file is reported before any drawing
    last, result, environment = run.metrics[-1], run.result, run.json("environment.json")
    kernels = _kernels(run)
    parts: dict[str, str] = {}
    for path, one in _written(run, steps).values():
        parts[one.title] = page.image(path, one.text, one.kind)
        if path.stem == "spectrum":
            parts[one.title] += _asked(run, steps) + film(run.arrays("spectra.npz"))
    parts |= kernels
    if spent := run.value("seconds_by_part"):
        parts["Time"] = _time(spent, result.get("compile_seconds"), last)
    if slabs := result.get("slabs"):
        cells = [[number(value) for value in slab.values()] for slab in slabs]
        parts["Time slabs"] = page.table([key.replace("_", " ") for key in slabs[0]], cells)
    values = {k: v for k, v in (result or last).items() if not isinstance(v, dict) and k != "slabs"}
    listed = [[QUANTITIES.get(k, k.replace("_", " ")), number(v)] for k, v in values.items()]
    parts["Result"] = page.table(["quantity", "value"], listed)
    parts["Repeat this run"] = f'<pre class="command">{escape(_command(run, environment))}</pre>'
    parts["Configuration"] = f'<pre tabindex="0">{escape(run.config_text)}</pre>'
    described = json.dumps(environment, indent=2, ensure_ascii=False)
    parts["Environment"] = f'<pre tabindex="0">{escape(described)}</pre>'
    body = [*_heading(run), *page.sections(parts)]
    return page.write(run.path / "report.html", f"{run.problem}, {run.rule}", body)


def _heading(run: Run) -> list[str]:
    """What the run is, how it ended, its figures in one table, and a warning where one is due."""
    reason = ended(run.result)
    state = f"Ended by: {reason}" if reason else "Not finished: the values of the last logged step"
    body = [
        f"<h1>{escape(run.problem)}</h1>",
        f'<p class="soft">rule {escape(run.rule)}, seed {run.seed}. '
        f"{escape(state)}.</p>",
        page.table(
            list(QUANTITIES.values()), [[number(run.value(key)) for key in QUANTITIES]]
        ),
    ]  # fmt: skip
    if overfitted := run.value("overfitted"):
        residual, heldout = run.value("mean_square_residual"), run.value("heldout_residual")
        body.append(
            f'<p class="warn">Overfitted ({escape(", ".join(overfitted))}): the held-out mean '
            f"square residual is {heldout / residual:.2g} times that on the collocation points: "
            "the equation may hold at those only. More or better placed points would help.</p>"
        )
    return body


def _asked(run: Run, steps: Sequence[int] | None) -> str:
    """A line about steps that were asked for and not recorded."""
    recorded = run.arrays("spectra.npz")["step"]
    off = [step for step in steps or () if step not in recorded]
    if not off:
        return ""
    near = ", ".join(f"{int(recorded[np.abs(recorded - s).argmin()])} for {s}" for s in off)
    return (
        f'<p class="soft">The nearest recorded spectra: {near}; run.spectra_every sets how '
        "many there are. That of step 1 belongs to the initial parameters.</p>"
    )


def _kernels(run: Run) -> dict[str, str]:
    """What `distgram diagnose` has left in the folder: NAME.png, with its title and alternative
    text in NAME.json."""
    parts: dict[str, str] = {}
    for path in sorted((run.path / "diagnostics").glob("*.png")):
        told = run.json(f"diagnostics/{path.stem}.json")
        if not {"title", "alt"} <= told.keys():
            raise RunError(
                f"{path.with_suffix('.json')}: expected a JSON object with `title` and `alt`, "
                f"which describe {path.name}: `distgram diagnose` writes both."
            )
        title = str(told["title"])
        parts[title] = parts.get(title, "") + page.image(path, str(told["alt"]))
        if (told.get("final") or math.inf) < run.metrics[-1]["step"]:
            parts[title] += (
                f'<p class="soft">Final is step {told["final"]} here; the run has gone on since: '
                "`distgram diagnose` draws it again.</p>"
            )
    return parts


def _time(spent: dict[str, float], compiling: float | None, last: dict[str, Any]) -> str:
    """Where the seconds went: a row a part, with its share of the solving."""
    whole = sum(spent.values())
    rows = [[part, f"{s:.3g}", f"{s / whole:.1%}" if whole else ""] for part, s in spent.items()]
    if last["step"]:
        per_step = spent.get("steps", 0.0) / last["step"]
        rows.append(["one step, on average", f"{per_step:.3g}", ""])
    if compiling is not None:
        rows.append(["compiling, before solving", f"{compiling:.3g}", ""])
    return page.table(["part", "seconds", "share of solving"], rows)


def _command(run: Run, environment: dict[str, Any]) -> str:
    """The command that repeats a run from its own folder."""
    words = ["distgram", "solve", f"{run.path}/config.toml", "--out", "NEW_FOLDER"]
    copies = {"problem.py": "problem.file"}
    copies |= {f"data-{name}.csv": f"data.{name}.file" for name in run.config.get("data", {})}
    for copy, key in copies.items():
        if (run.path / copy).is_file():
            words += ["--set", f'{key}="{run.path / copy}"']
    devices, processes = len(environment.get("devices", ())), environment.get("processes", 1)
    if processes > 1:
        words += ["--ray", "--workers", str(processes)]
    elif used := run.result.get("devices"):
        words += ["--devices", str(used)] if used < devices else []
    return shlex.join(words)
