"""Exporting a run folder: RUN/export/, one or a few files a format."""

from __future__ import annotations

from pathlib import Path

from distgram.config.saved import load
from distgram.errors import ExportError, nearest
from distgram.export import FORMATS, artefact, fields, weights

WRITERS = dict(
    zip(
        FORMATS,
        (weights.write, artefact.write, fields.write_netcdf, fields.write_vtk),
        strict=True,
    )
)


def export(run_dir: Path, kind: str, step: int | str = "final") -> list[Path]:
    """Write the solution of a run in one of FORMATS to RUN/export/; the files written.

    Raises:
        ExportError: an unknown format, a package that is missing, or a solution that does not fit.
        what `solution.load` raises.
    """
    if kind not in WRITERS:
        raise ExportError(f"--to {kind!r} is not known: {nearest(kind, WRITERS)}")
    solution = load(run_dir, step)
    folder = Path(run_dir).absolute() / "export"
    folder.mkdir(exist_ok=True)
    return WRITERS[kind](solution, folder)
