"""The packages of the extra `geometry`, imported where they are needed."""

from __future__ import annotations

import importlib
from typing import Any

from distgram.errors import RegionError


def needed(package: str, what: str) -> Any:
    """Import a package that `what` asks for.

    Raises: RegionError where it is not installed, with the command that does it.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise RegionError(
            f"{what}: {error}: expected {package}, pip install 'distgram[geometry]'."
        ) from error
