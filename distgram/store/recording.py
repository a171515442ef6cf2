"""Writing a run folder: configuration, environment, metrics, spectra, solution, result."""

from __future__ import annotations

import io
import json
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tomli_w

from distgram.errors import FolderTaken, RunError
from distgram.linalg.mesh import gather
from distgram.rules.rule import StepInfo
from distgram.run.step import Seen
from distgram.store import storage
from distgram.store.storage import Folder

PACKAGES = "distgram jax jaxlib flax optax orbax-checkpoint numpy scipy folx".split()


# A file of this name that appears in a run folder asks the run to save and end.
STOP = "stop"


def start(run_dir: Folder, config: dict[str, Any], force: bool = False) -> None:
    """Make the folder of a new run and write its configuration.

    Raises:
        RunError: `force` is not given and it holds something; it cannot be made.
        StorageError: its storage cannot be reached.
    """
    place = storage.of(run_dir)
    place.reach(run_dir)
    if run_dir.exists() and (not run_dir.is_dir() or any(run_dir.iterdir())):
        if not force:
            raise RunError(
                f"{run_dir}: holds another run or other files; nothing was written. "
                f"Choose another --out, go on with `distgram resume {run_dir}`, or give --force."
            )
        if not (run_dir / "config.toml").is_file():
            raise RunError(f"{run_dir}: --force replaces a run folder only, and this is none.")
        place.remove(run_dir)
    try:
        place.make(run_dir)
        place.write(run_dir / "config.toml", tomli_w.dumps(config).encode())
    except OSError as error:
        raise RunError(
            f"{run_dir}: the run folder cannot be made ({error.strerror or error}): choose "
            "another --out."
        ) from error


@contextmanager
def sole_writer(run_dir: Folder) -> Iterator[None]:
    """Inside, no other job writes into this run folder, as far as its storage can see to that.

    Raises:
        StorageError: another one still does.
    """
    if jax.process_index() != 0:
        yield
        return
    with storage.of(run_dir).sole_writer(run_dir):
        yield


class Recorder:
    """Appends what a run measures to its folder. A resumed run first drops what came after the
    step it goes on from, so that nothing is lost and nothing stands twice. Only the first process
    writes.

    Args:
        step: the step the run goes on from; -1 for a run that starts, which drops all.
    """

    def __init__(self, run_dir: Folder, step: int):
        self._dir, self._writes = run_dir, jax.process_index() == 0
        self._place = storage.of(run_dir)
        self._lines = self._place.lines(run_dir / "metrics.jsonl")
        self._spectra: list[dict[str, np.ndarray]] = []
        if not self._writes:
            return
        (run_dir / "result.json").unlink(missing_ok=True)  # it is that of an earlier end
        environment = json.dumps(_environment(), indent=1)
        self._write_text("environment.json", environment)
        kept = [row for row in _rows(run_dir / "metrics.jsonl") if row["step"] <= step]
        text = "".join(json.dumps(row) + "\n" for row in kept)
        self._lines.restart(text)
        if step > 0 and (run_dir / "spectra.npz").is_file():
            with np.load(io.BytesIO((run_dir / "spectra.npz").read_bytes())) as file:
                old = dict(file)
            for i in np.flatnonzero(old["step"] <= step):
                self._spectra.append({name: old[name][i] for name in old})

    def metrics(self, row: dict[str, Any]) -> None:
        """Append one row to metrics.jsonl."""
        if self._writes:
            self._lines.append(json.dumps(finite(row)) + "\n")

    def spectrum(self, step: int, seen: Seen, info: StepInfo, cutoff: float) -> None:
        """Keep the singular values and RCE that led to `step`, for spectra.npz."""
        if seen.singular_values.size:
            self._spectra.append(
                {
                    "step": np.asarray(step),
                    "singular_values": np.asarray(seen.singular_values),
                    "rce": np.asarray(seen.rce),
                    "rank": np.asarray(info.rank),
                    "cutoff": np.asarray(cutoff),
                    "r_cap": np.asarray(info.r_cap),
                    "r_eps": np.asarray(info.r_eps),
                }
            )

    def flush(self) -> None:
        """Bring all rows to the storage: a checkpoint may come only after the rows before it.

        Raises:
            FolderTaken: another job has begun to write here; on every process alike.
        """
        ours = not self._writes or self._lines.sync()
        if not gather([ours]).all():
            raise FolderTaken(
                f"{self._dir}: another job has begun to solve in it, and owns it from there on: "
                "this one has ended without a further checkpoint."
            )
        if self._writes and self._spectra:
            names = self._spectra[0]
            stacked = {name: _stacked([s[name] for s in self._spectra]) for name in names}
            self._write_npz("spectra.npz", stacked)

    def finish(
        self, result: dict[str, Any], solution: dict[str, Any], points: dict[str, np.ndarray]
    ) -> None:
        """Write solution.npz and result.json: the run has ended."""
        self.flush()
        if self._writes:
            arrays = solution | {f"points_{name}": x for name, x in points.items()}
            self._write_npz("solution.npz", arrays)
            self._write_text("result.json", json.dumps(finite(result), indent=1) + "\n")

    def config(self, config: dict[str, Any]) -> None:
        """Bring config.toml up to a resume that changed a budget, once a checkpoint holds it."""
        text, path = tomli_w.dumps(config), self._dir / "config.toml"
        if self._writes and path.read_text(encoding="utf-8") != text:
            self._write_text(path.name, text)

    def _write_text(self, name: str, text: str) -> None:
        self._place.write(self._dir / name, text.encode())

    def _write_npz(self, name: str, arrays: dict[str, Any]) -> None:
        packed = io.BytesIO()
        np.savez_compressed(packed, **arrays)
        self._place.write(self._dir / name, packed.getvalue())


def clear_stop(run_dir: Folder) -> None:
    """Forget an earlier request to stop: the run starts or goes on."""
    (run_dir / STOP).unlink(missing_ok=True)


def _stacked(rows: list[np.ndarray]) -> np.ndarray:
    """Values or rows as one array, nan after the end of those from before the points grew."""
    longest = max(row.size for row in rows)

    def filled(row: np.ndarray) -> np.ndarray:
        return np.pad(row, (0, longest - row.size), constant_values=np.nan)

    return np.stack([filled(row) if row.ndim else row for row in rows])


def _rows(path: Folder) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:  # the last line of a killed run
            break
    return rows


def finite(value: Any) -> Any:
    """A value for JSON, which has neither nan nor infinity: they become null."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def _environment() -> dict[str, Any]:
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
