"""A solution for other programs: its network with the parameters, or its values on a grid.

`network` has the formats from which the function is had again, `fields` those of values. What a
format needs is imported where it is written.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distgram.errors import ExportError, nearest

if TYPE_CHECKING:
    from distgram.run.solution import Solution

# format -> module and function of it, which writes into a folder and gives the files written
FORMATS = {
    "safetensors": ("network", "write_safetensors"),
    "jax": ("network", "write_jax"),
    "netcdf": ("fields", "write_netcdf"),
    "vtk": ("fields", "write_vtk"),
}


def export(solution: Solution, kind: str, folder: Path) -> list[Path]:
    """Write a solution in one of FORMATS to a folder, which is made; the files written.

    Raises:
        ExportError: an unknown format, a package that is missing, or a solution that does not fit.
    """
    if kind not in FORMATS:
        raise ExportError(f"export to {kind!r}: no such format: {nearest(kind, FORMATS)}")
    module, name = FORMATS[kind]
    write: Callable[[Solution, Path], list[Path]] = getattr(
        importlib.import_module(f"distgram.export.{module}"), name
    )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return write(solution, folder)


def needed(package: str, kind: str) -> Any:
    """Import what a format needs.

    Raises:
        ExportError: it is not installed, with the command that does it.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ExportError(
            f"export to {kind}: {error}: expected {package}, pip install 'distgram[export]'."
        ) from error
