"""The page of one run: its figures, their words, and the tables, from a folder or from memory."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import tomli_w

from distgram.errors import CheckpointError, UserError
from distgram.report import curves, maps
from distgram.report.curves import Arrays
from distgram.report.html import Block, Code, Note, Picture, Table, number, page, picture, save
from distgram.report.maps import Evaluated
from distgram.store.folder import PROBLEM
from distgram.store.read import (
    QUANTITIES,
    Run,
    RunRecord,
    ended,
    problem_name,
    rule_name,
    seed,
    value,
)

HEADINGS = {
    "solution": "Solution",
    "slices": "Slices",
    "convergence": "Convergence",
    "spectrum": "Spectrum",
    "flattening": "All spectra",
    "cutoff": "What the cutoff did",
    "points": "Points",
    "residual": "Residual",
}

WORDS = QUANTITIES | {
    "P": "P, parameters",
    "S": "S, collocation points",
    "relative_l2_error": "relative L2 error",
    "compile_seconds": "compiling (s)",
    "run_dir": "run folder",
}


def report(run_dir: Path, steps: Sequence[int] | None = None, trust: bool = False) -> Path:
    """Write report.html into a run folder, and the figures beside it: figures/NAME.png, NAME one of
    HEADINGS for which the run has the data. The map of the residual needs the solution: where the
    problem is a file of the folder, that file is run.

    Args:
        steps: the steps whose spectra are shown, each the nearest that was recorded.
        trust: as of `distgram.load`: without it a stranger's file is not run, and there is no map.

    Raises:
        RunError: no run folder, no logged step, or a file that cannot be read.
    """
    run = Run(Path(run_dir))
    # what is cheap to read is read first, so that a broken file is reported before any drawing
    heading, rest = _heading(run), _tables(run)
    solution, missing = _solution(run, trust)
    drawn = figures(run, steps, solution)
    folder = run.path / "figures"
    folder.mkdir(exist_ok=True)
    for name, shown in drawn.items():
        (folder / f"{name}.png").write_bytes(shown.png)
    sections = _sections(run, drawn, steps)
    if missing:
        sections[HEADINGS["residual"]] = [Note(f"There is no map of the residual: {missing}")]
    return save(run.path / "report.html", _page(run, heading, sections | rest))


def write(
    run: RunRecord,
    path: Path,
    steps: Sequence[int] | None = None,
    solution: Evaluated | None = None,
) -> Path:
    """Write the page of a run to a file, which needs nothing beside itself; the file.

    Args:
        steps: as in `report`.
        solution: what the run has found, for the map of its residual; None: there is no such map.

    Raises:
        RunError: of a run folder, as in `report`.
    """
    sections = _sections(run, figures(run, steps, solution), steps) | _tables(run)
    return save(Path(path), _page(run, _heading(run), sections))


def figures(
    run: RunRecord, steps: Sequence[int] | None = None, solution: Evaluated | None = None
) -> dict[str, Picture]:
    """The figures for which the run has the data, by the names of HEADINGS, in its order."""
    field, spectra, last = run.arrays("solution.npz"), run.arrays("spectra.npz"), run.metrics[-1]
    drawn: dict[str, Picture] = {}
    sliced = "slice_u" in field
    # without a reference a map says more than points scattered over the same plane
    if "u" in field and not (sliced and "reference" not in field):
        words = (
            "The solution, the reference where one is known, and the base-10 logarithm of the "
            f"absolute error; L2 error {number(value(run, 'l2_error'))}."
        )
        kind = "map" if maps.grid(field) else "lines"
        drawn["solution"] = picture(maps.solution(field), words, kind)
    if sliced:
        u = field["slice_u"]
        words = (
            "The solution on planes through the centre of the domain, its values from "
            f"{u.min():.3g} to {u.max():.3g}; where it is known the exact solution and the base-10 "
            "logarithm of the absolute error."
        )
        drawn["slices"] = picture(maps.slices(field), words, "map")
    drawn["convergence"] = picture(curves.convergence(run.metrics), _convergence_words(run))
    if spectra:
        drawn["spectrum"] = picture(curves.spectrum(spectra, steps), _spectrum_words(spectra))
        if len(spectra["step"]) > 1:
            # A static map and no film: all steps at once, on paper too, and no script in the page.
            precision = "" if curves.precision_ranks(spectra) is None else " and rε"
            words = (
                "Every recorded spectrum as one column: the base-10 logarithms of the singular "
                "values and of the reconstruction errors over step and n, with the rank of the "
                f"step, r∩{precision}. Where a column of RCE is of one colour, RCE is flat."
            )
            drawn["flattening"] = picture(curves.flattening(spectra), words, "map")
    if any(row.get("regularization") is not None for row in run.metrics):
        refused = sum(row.get("accepted") is False for row in run.metrics)
        words = (
            "Against the step: mean square residual; rank of the step with r∩ and rε; λ, "
            "Tikhonov's or the square of the cutoff; step size. At the end rank "
            f"{number(last.get('rank'))}, λ {number(last.get('regularization'))}; {refused} logged "
            "steps refused."
        )
        drawn["cutoff"] = picture(curves.cutoff(run.metrics, spectra), words)
    if points := maps.points_by_term(field):
        counted = ", ".join(f"{len(x)} in {term}" for term, x in points.items())
        words = f"The collocation points, one colour and marker per term: {counted}."
        drawn["points"] = picture(maps.points(field), words)
    if solution is not None and (found := maps.residual_maps(solution, field)):
        rms = ", ".join(f"rms {m.rms:.2g} in {term}" for term, m in found.items())
        words = (
            "The base-10 logarithm of the absolute residual on a dense grid, one panel per term on "
            f"a box, with the collocation points over it: {rms}."
        )
        drawn["residual"] = picture(maps.residual(found), words, "map")
    return drawn


def _solution(run: Run, trust: bool) -> tuple[Evaluated | None, str]:
    """The solution of a run folder; or None and why, where its checkpoint cannot be used. None and
    no reason where there is none yet."""
    from distgram.config.saved import load
    from distgram.store.checkpoint import newest

    if not run.arrays("solution.npz"):
        return None, ""
    try:
        newest(run.path / "checkpoints")
    except CheckpointError:
        return None, ""
    try:
        return load(run.path, trust=trust), ""
    except UserError as error:
        return None, str(error)


def _page(run: RunRecord, heading: Sequence[Block], sections: Mapping[str, Sequence[Block]]) -> str:
    return page(f"{problem_name(run)}, {rule_name(run)}", heading, sections)


def _heading(run: RunRecord) -> list[Block]:
    """How the run ended, its figures in one table, and a warning where one is due."""
    reason = ended(run.result)
    state = f"Ended by: {reason}" if reason else "Not finished: the values of the last logged step"
    blocks: list[Block] = [
        Note(f"Seed {number(seed(run))}. {state}."),
        Table(list(QUANTITIES.values()), [[number(value(run, key)) for key in QUANTITIES]]),
    ]
    if overfitted := value(run, "overfitted"):
        residual, heldout = value(run, "mean_square_residual"), value(run, "heldout_residual")
        ratio = f"{heldout / residual:.2g}" if residual and heldout is not None else "many"
        text = (
            f"Overfitted ({', '.join(overfitted)}): the held-out mean square residual is {ratio} "
            "times that on the collocation points: the equation may hold at those only. More or "
            "better placed points would help."
        )
        blocks.append(Note(text, "warn"))
    return blocks


def _convergence_words(run: RunRecord) -> str:
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


def _spectrum_words(spectra: Arrays) -> str:
    steps, crossing = spectra["step"], curves.crossings(spectra)
    triangle = "" if curves.precision_ranks(spectra) is None else ", rε the triangle"
    return (
        "Singular values of the Jacobian and reconstruction errors RCE against their index n at "
        "chosen steps; the cutoff is the dashed horizontal line, the rank the dotted vertical "
        f"line, r∩ the circle where the curves cross{triangle}. From r∩ = {crossing[0]} at step "
        f"{steps[0]} to {crossing[-1]} at step {steps[-1]}."
    )


def _sections(
    run: RunRecord, drawn: Mapping[str, Picture], steps: Sequence[int] | None
) -> dict[str, list[Block]]:
    """The figures under their headings."""
    sections: dict[str, list[Block]] = {HEADINGS[name]: [shown] for name, shown in drawn.items()}
    if steps and "spectrum" in drawn:
        recorded = run.arrays("spectra.npz")["step"]
        near = [(s, int(recorded[curves.recorded_nearest(recorded, [s])[0]])) for s in steps]
        if off := [f"{found} for {asked}" for asked, found in near if found != asked]:
            text = (
                f"The nearest recorded spectra: {', '.join(off)}; run.spectra_every sets how many "
                "there are. That of step 1 belongs to the initial parameters."
            )
            sections[HEADINGS["spectrum"]].append(Note(text))
    return sections


def _tables(run: RunRecord) -> dict[str, list[Block]]:
    """The sections after the figures."""
    result, last = run.result, run.metrics[-1]
    sections = _kernels(run) if isinstance(run, Run) else {}
    if spent := value(run, "seconds_by_part"):
        sections["Time"] = [_time(spent, result.get("compile_seconds"), last)]
    if slabs := result.get("slabs"):
        keys = list(slabs[0])
        cells = [[number(slab.get(key)) for key in keys] for slab in slabs]
        sections["Time slabs"] = [Table([_words(key) for key in keys], cells)]
    sections["Result"] = [quantities(result or last)]
    if run.path is not None:
        command = _command(run.path, run)
        sections["Repeat this run"] = [Code(command, "command")]
    if run.config:
        sections["Configuration"] = [Code(tomli_w.dumps(run.config))]
    if run.environment:
        described = json.dumps(run.environment, indent=2, ensure_ascii=False)
        sections["Environment"] = [Code(described)]
    return sections


def quantities(values: Mapping[str, Any]) -> Table:
    """The single values of a row or a result, a row each."""
    listed = [[_words(k), number(v)] for k, v in values.items() if not _nested(v)]
    return Table(["quantity", "value"], listed)


def _nested(value: Any) -> bool:
    return isinstance(value, dict) or (
        isinstance(value, list) and any(isinstance(item, dict | list) for item in value)
    )


def _words(key: str) -> str:
    return WORDS.get(key, key.replace("_", " "))


def _kernels(run: Run) -> dict[str, list[Block]]:
    """What `distgram diagnose` has left in the folder: NAME.png, described in NAME.json."""
    sections: dict[str, list[Block]] = {}
    for path in sorted((run.path / "diagnostics").glob("*.png")):
        told = run.kernel(path.stem)
        blocks = sections.setdefault(told["title"], [])
        blocks.append(Picture(path.read_bytes(), told["alt"]))
        if (told.get("final") or math.inf) < run.metrics[-1]["step"]:
            text = (
                f"Final is step {told['final']} here; the run has gone on since: `distgram "
                "diagnose` draws it again."
            )
            blocks.append(Note(text))
    return sections


def _time(spent: Mapping[str, float], compiling: float | None, last: Mapping[str, Any]) -> Table:
    """Where the seconds went: a row a part, with its share of the solving."""
    whole = sum(spent.values())
    rows = [[part, f"{s:.3g}", f"{s / whole:.1%}" if whole else ""] for part, s in spent.items()]
    if last["step"]:
        per_step = spent.get("steps", 0.0) / last["step"]
        rows.append(["one step, on average", f"{per_step:.3g}", ""])
    if compiling is not None:
        rows.append(["compiling, before solving", f"{compiling:.3g}", ""])
    return Table(["part", "seconds", "share of solving"], rows)


def _command(folder: Path, run: RunRecord) -> str:
    """The command that repeats a run from its own folder."""
    words = ["distgram", "solve", f"{folder}/config.toml", "--out", "NEW_FOLDER"]
    file = PurePath(str(run.config.get("problem", {}).get("file", ""))).name
    copies = {f"{PROBLEM}/{file}": "problem.file"} if file else {}
    copies |= {f"data-{name}.csv": f"data.{name}.file" for name in run.config.get("data", {})}
    for copy, key in copies.items():
        if (folder / copy).is_file():
            words += ["--set", f'{key}="{folder / copy}"']
    environment = run.environment
    devices, processes = len(environment.get("devices", ())), environment.get("processes", 1)
    if processes > 1:
        words += ["--ray", "--workers", str(processes)]
    elif used := run.result.get("devices"):
        words += ["--devices", str(used)] if used < devices else []
    return shlex.join(words)
