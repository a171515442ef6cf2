"""The record of a run: rows, spectra, solution, result; in memory, and in its folder if any."""

from __future__ import annotations

import io
import json
import logging
import platform
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import tomli_w
from jaxtyping import Float

from distgram.errors import FolderTaken
from distgram.linalg.mesh import gather
from distgram.store import storage
from distgram.store.folder import CONFIG, ENVIRONMENT, METRICS, RESULT, SOLUTION, SPECTRA
from distgram.store.read import check_row
from distgram.store.storage import Folder

log = logging.getLogger("distgram")

PACKAGES = "distgram jax jaxlib flax optax orbax-checkpoint numpy scipy folx".split()


class SpectrumRecord(NamedTuple):
    """The spectrum that led to a step: singular values, reconstruction errors RCE_0..RCE_k, the
    rank in use, the cutoff on the singular values, and AMStramGRAM's r∩ and rε, -1 elsewhere."""

    step: int
    singular_values: Float[np.ndarray, " k"]
    reconstruction_errors: Float[np.ndarray, " k+1"]
    rank: int
    cutoff: float
    r_cap: int
    r_eps: int

    def rce(self) -> Float[np.ndarray, " k+1"]:
        """RCE_n, n = 0..k: the rms residual that the n leading directions leave."""
        return self.reconstruction_errors


POINTS = "points_"  # before the name of a term, in solution.npz
# The names in spectra.npz, in the order of a SpectrumRecord.
SPECTRUM_NAMES = ("step", "singular_values", "rce", "rank", "cutoff", "r_cap", "r_eps")


@dataclass
class Record:
    """Everything a run has measured, in memory.

    Args:
        rows: of metrics. spectra: at some steps. result: how the run ended. solution: the arrays of
            solution.npz. points: of every term, (n, d).
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    spectra: list[SpectrumRecord] = field(default_factory=list)
    result: dict[str, Any] = field(default_factory=dict)
    solution: dict[str, Any] = field(default_factory=dict)
    points: dict[str, np.ndarray] = field(default_factory=dict)

    def solution_arrays(self) -> dict[str, Any]:
        """What solution.npz holds."""
        return self.solution | {POINTS + name: x for name, x in self.points.items()}

    def spectra_arrays(self) -> dict[str, np.ndarray]:
        """What spectra.npz holds: nan after the end of shorter rows, from before points grew."""
        columns = zip(*self.spectra, strict=True)
        return {
            name: _stacked([np.asarray(value) for value in column])
            for name, column in zip(SPECTRUM_NAMES, columns, strict=True)
        }

    def write(self, run_dir: Folder) -> None:
        """Write everything to a run folder that has just been made."""
        place = storage.of(run_dir)
        place.write(run_dir / ENVIRONMENT, json.dumps(environment(), indent=1).encode())
        text = "".join(json.dumps(finite(row)) + "\n" for row in self.rows)
        place.write(run_dir / METRICS, text.encode())
        if self.spectra:
            place.write(run_dir / SPECTRA, _packed(self.spectra_arrays()))
        place.write(run_dir / SOLUTION, _packed(self.solution_arrays()))
        if self.result:
            result = finite(self.result | {"run_dir": str(run_dir)})
            place.write(run_dir / RESULT, (json.dumps(result, indent=1) + "\n").encode())


class Recorder:
    """Keeps what a run measures, and appends it to its folder. A resumed run first drops what came
    after the step it goes on from, so that nothing is lost and nothing stands twice. Only the first
    process writes; without a folder nobody does.

    last: the step of the last row.
    """

    def __init__(self, run_dir: Folder | None):
        self.record, self.last = Record(), -1
        self._dir = run_dir if jax.process_index() == 0 else None
        self._shared = run_dir
        if self._dir is not None:
            self._place = storage.of(self._dir)
            self._lines = self._place.lines(self._dir / METRICS)

    def start(self, step: int, expected: Mapping[str, int] | None = None) -> None:
        """Begin after a step, with what the folder holds up to there; -1: with nothing. All of it
        is read before anything is written; a damaged file is kept beside the new one.

        Args:
            expected: the numbers of rows and spectra up to there, as `counts` gave them; None: they
                are not known.
        """
        self.last = step
        if self._dir is None:
            return
        rows, damaged = _rows(self._dir / METRICS)
        spectra = _spectra(self._dir / SPECTRA)
        self.record.rows = [row for row in rows if row["step"] <= step]
        self.record.spectra = [one for one in spectra or () if one.step <= step]
        if damaged:
            self._keep(METRICS, f"line(s) {', '.join(map(str, damaged))} cannot be read")
        if spectra is None:
            self._keep(SPECTRA, "it cannot be read")
            (self._dir / SPECTRA).unlink()
        for name, count in self.counts().items():
            if expected is not None and (gone := expected.get(name, 0) - count) > 0:
                log.warning(
                    "%s: %d of the %d %s up to step %d are gone.",
                    *(self._dir, gone, expected[name], name, step),
                )
        self._write(ENVIRONMENT, json.dumps(environment(), indent=1))
        self._lines.restart("".join(json.dumps(finite(row)) + "\n" for row in self.record.rows))
        (self._dir / RESULT).unlink(missing_ok=True)  # it is that of an earlier end

    def counts(self) -> dict[str, int]:
        """The numbers of rows and spectra so far."""
        return {"rows": len(self.record.rows), "spectra": len(self.record.spectra)}

    def row(self, row: dict[str, Any]) -> None:
        """Append one row of metrics."""
        self.record.rows.append(row)
        self.last = row["step"]
        if self._dir is not None:
            self._lines.append(json.dumps(finite(row)) + "\n")

    def spectrum(self, record: SpectrumRecord) -> None:
        """Keep the spectrum that led to a step."""
        self.record.spectra.append(record)

    def flush(self) -> None:
        """Bring all rows to the storage: a checkpoint may come only after the rows before it.

        Raises:
            FolderTaken: another job has begun to write here; on every process alike.
        """
        if self._shared is None:
            return
        ours = self._dir is None or self._lines.sync()
        if not gather([ours]).all():
            raise FolderTaken(
                f"{self._shared}: another job has begun to solve in it, and owns it from there on: "
                "this one has ended without a further checkpoint."
            )
        if self._dir is not None and self.record.spectra:
            self._write(SPECTRA, self.record.spectra_arrays())

    def finish(
        self, result: dict[str, Any], solution: dict[str, Any], points: dict[str, np.ndarray]
    ) -> None:
        """Keep the solution and the result: the run has ended."""
        self.record.result, self.record.solution = result, solution
        self.record.points = points
        self.flush()
        if self._dir is not None:
            self._write(SOLUTION, self.record.solution_arrays())
            self._write(RESULT, json.dumps(finite(result), indent=1) + "\n")

    def config(self, config: dict[str, Any]) -> None:
        """Bring config.toml up to a resume that changed a budget, once a checkpoint holds it."""
        if self._dir is None or not config:
            return
        text = tomli_w.dumps(config)
        if (self._dir / CONFIG).read_text(encoding="utf-8") != text:
            self._write(CONFIG, text)

    def _keep(self, name: str, why: str) -> None:
        """Keep a damaged file under a name that is free."""
        assert self._dir is not None
        number, beside = 1, self._dir / f"{name}.damaged"
        while beside.exists():
            number, beside = number + 1, self._dir / f"{name}.damaged-{number + 1}"
        self._place.write(beside, (self._dir / name).read_bytes())
        log.warning("%s: %s: it is kept as %s.", self._dir / name, why, beside.name)

    def _write(self, name: str, content: str | dict[str, Any]) -> None:
        assert self._dir is not None
        data = content.encode() if isinstance(content, str) else _packed(content)
        self._place.write(self._dir / name, data)


def _packed(arrays: dict[str, Any]) -> bytes:
    """Arrays as the bytes of an npz file."""
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)
    return packed.getvalue()


def read_spectra(path: Folder) -> list[SpectrumRecord]:
    """The spectra of a spectra.npz, without the nan after the end of shorter rows; none where it is
    missing or cannot be read."""
    return _spectra(path) or []


def _spectra(path: Folder) -> list[SpectrumRecord] | None:
    """As `read_spectra`; None where the file is there and cannot be read."""
    if not path.is_file():
        return []
    arrays, records = _arrays(path), []
    if not set(SPECTRUM_NAMES) <= set(arrays):
        return None
    try:
        for row in zip(*(arrays[name] for name in SPECTRUM_NAMES), strict=True):
            step, s, rce, rank, cutoff, r_cap, r_eps = row
            k = int(np.isfinite(s).sum())
            records.append(
                SpectrumRecord(
                    int(step), s[:k], rce[: k + 1], int(rank), float(cutoff), int(r_cap), int(r_eps)
                )
            )
    except (TypeError, ValueError, IndexError):  # arrays that are none of a spectrum
        return None
    return records


def _arrays(path: Folder) -> dict[str, np.ndarray]:
    """The arrays of an npz file; none where it is missing or cannot be read."""
    try:
        with np.load(io.BytesIO(path.read_bytes())) as file:
            return dict(file)
    except Exception:  # of zipfile, zlib, or NumPy's reader of headers
        return {}


def _stacked(rows: list[np.ndarray]) -> np.ndarray:
    """Values or rows as one array; nan fills rows that are shorter, from before the points grew."""
    longest = max(row.size for row in rows)

    def filled(row: np.ndarray) -> np.ndarray:
        return np.pad(row, (0, longest - row.size), constant_values=np.nan)

    return np.stack([filled(row) if row.ndim else row for row in rows])


def _rows(path: Folder) -> tuple[list[dict[str, Any]], list[int]]:
    """The rows of a metrics.jsonl, and the numbers of the lines that cannot be read. A last line
    without its end is that of a killed run: it is neither."""
    if not path.is_file():
        return [], []
    rows, damaged = [], []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
        try:
            rows.append(check_row(json.loads(line), path))
        except (ValueError, RecursionError):  # a RunError is a ValueError
            damaged.append(number)
    return rows, damaged


def finite(value: Any) -> Any:
    """A value for JSON, which has neither nan nor infinity: they become null."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def environment() -> dict[str, Any]:
    """Versions of the packages, devices, and the commit of a source checkout, if it is one."""

    def installed(name: str) -> str | None:
        try:
            return version(name)
        except PackageNotFoundError:
            return None

    def commit() -> str | None:
        here = Path(__file__).resolve().parent
        try:
            out = subprocess.run(
                ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, timeout=10
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return out.stdout.strip() or None if out.returncode == 0 else None

    devices = jax.devices()
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "packages": {name: installed(name) for name in PACKAGES},
        "devices": [f"{d.platform}:{d.id} {d.device_kind}" for d in devices],
        "processes": jax.process_count(),
        "commit": commit(),
    }


def read_record(run_dir: Folder) -> Record:
    """What a run folder holds of a run; what is missing, or cannot be read, is left out."""
    record = Record(rows=_rows(run_dir / METRICS)[0], spectra=read_spectra(run_dir / SPECTRA))
    for name, array in _arrays(run_dir / SOLUTION).items():
        if name.startswith(POINTS):
            record.points[name.removeprefix(POINTS)] = array
        else:
            record.solution[name] = array
    with suppress(OSError, ValueError, RecursionError):
        result = json.loads((run_dir / RESULT).read_text(encoding="utf-8"))
        record.result = result if isinstance(result, dict) else {}
    return record
