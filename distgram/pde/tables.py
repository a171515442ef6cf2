"""Tables of numbers in CSV files: a line of names, then one row of numbers a line."""

from __future__ import annotations

import csv
import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np

from distgram.errors import TableError

NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def read(
    path: Path, needed: Sequence[str], optional: Sequence[str] = ()
) -> Mapping[str, np.ndarray]:
    """The columns of a CSV file by name, each (n,), n >= 1, finite; in the order of the file.

    Rows are counted from 1, the line of names apart.

    Raises:
        TableError: a column that is missing, twice there or not known; a row of another length; a
        value that is no finite number; no rows. OSError: the file cannot be read.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            lines = [line for line in csv.reader(file) if any(cell.strip() for cell in line)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise TableError(f"{path}: is no CSV text: {error}.") from error
    if not lines:
        raise TableError(f"{path}: is empty: expected the columns {', '.join(needed)}.")
    names = [name.strip() for name in lines[0]]
    _check_names(path, names, needed, optional)
    if len(lines) == 1:
        raise TableError(f"{path}: has no rows under its line of names.")
    values = np.empty((len(lines) - 1, len(names)))
    for row, cells in enumerate(lines[1:], 1):
        if len(cells) != len(names):
            raise TableError(
                f"{path}, row {row}: {len(cells)} values: expected {len(names)}, "
                f"{', '.join(names)}."
            )
        for column, cell in enumerate(cells):
            values[row - 1, column] = _number(path, row, names[column], cell)
    return dict(zip(names, values.T.copy(), strict=True))


def _check_names(
    path: Path, names: Sequence[str], needed: Sequence[str], optional: Sequence[str]
) -> None:
    known = [*needed, *optional]
    for name in needed:
        if name not in names:
            raise TableError(
                f"{path}: column {name!r} is missing: expected a first line with "
                f"{', '.join(needed)}{_perhaps(optional)}; it is {', '.join(names)}."
            )
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise TableError(
                f"{path}: unknown column {name!r}: {hint}The columns are {', '.join(known)}."
            )
        if names.count(name) > 1:
            raise TableError(f"{path}: column {name!r} is there {names.count(name)} times.")


def _perhaps(optional: Sequence[str]) -> str:
    return f", and perhaps {', '.join(optional)}" if optional else ""


def _number(path: Path, row: int, column: str, cell: str) -> float:
    # Python's float reads more, as 1_000, and the digits of other scripts
    value = float(cell) if NUMBER.fullmatch(cell.strip()) else np.nan
    if not np.isfinite(value):
        raise TableError(
            f"{path}, row {row}, column {column!r}: {cell.strip()!r}: expected a finite number."
        )
    return value


def write(file: TextIO, columns: Iterable[tuple[str, np.ndarray]]) -> None:
    """Columns (n,) as CSV, each number with as many digits as bring it back to the last bit."""
    names, values = zip(*columns, strict=True)
    out = csv.writer(file, lineterminator="\n")
    out.writerow(names)
    out.writerows(zip(*(map(repr, column.tolist()) for column in values), strict=True))
