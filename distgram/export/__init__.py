"""A run's solution for other programs; what a format needs is imported where it is written."""

from __future__ import annotations

import importlib
from typing import Any

from distgram.errors import ExportError

FORMATS = ("safetensors", "jax", "netcdf", "vtk")


def needed(package: str, kind: str) -> Any:
    """Import what a format needs.

    Raises:
        ExportError: it is not installed, with the command that does it.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ExportError(
            f"--to {kind}: {error}: expected {package}, pip install 'distgram[export]'."
        ) from error


def check_whole(slabs: int, kind: str) -> None:
    """Raise an ExportError where a format that holds one network is to hold several time slabs."""
    if slabs > 1:
        raise ExportError(
            f"--to {kind}: it holds one network, and this solution is {slabs} time slabs: expected "
            "netcdf or vtk."
        )
