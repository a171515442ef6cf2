"""Rows of metrics as TensorBoard events, in RUN/tensorboard: `tensorboard --logdir RUN`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from distgram.errors import ClusterError
from distgram.store import storage
from distgram.store.storage import Folder

if TYPE_CHECKING:
    from tensorboardX.event_file_writer import EventsWriter

FOLDER = "tensorboard"
FLUSH_S = 5.0

Watch = Callable[[dict[str, Any]], None]


@contextmanager
def recording(run_dir: Folder | Literal[False], watch: Watch) -> Iterator[Watch]:
    """Inside, what is given rows writes them as events of this run, if any, and gives them on.

    Raises:
        ClusterError: there is no tensorboardX.
    """
    if not run_dir:
        yield watch
        return
    events = Events(run_dir / FOLDER)

    def both(row: dict[str, Any]) -> None:
        events.write(row)
        watch(row)

    try:
        yield both
    finally:
        events.close()


class Events:
    """One event file of one job, begun with its first row: a run that is refused leaves nothing.

    Raises:
        ClusterError: there is no tensorboardX.
    """

    def __init__(self, folder: Folder):
        try:
            from tensorboardX.record_writer import register_writer_factory
        except ImportError as error:
            raise ClusterError(
                f"--tensorboard: {error}: expected tensorboardX, "
                "pip install 'distgram[tensorboard]'."
            ) from error
        register_writer_factory("gs", ObjectFile)
        self._folder, self._file, self._flushed = folder, None, time.monotonic()

    def write(self, row: dict[str, Any]) -> None:
        """The numbers of a row, at its step."""
        from tensorboardX.proto.event_pb2 import Event  # type: ignore[attr-defined]
        from tensorboardX.proto.summary_pb2 import Summary  # type: ignore[attr-defined]

        values = [Summary.Value(tag=k, simple_value=v) for k, v in scalars(row)]
        if self._file is None:
            self._file = self._begun(row["step"])
        summary = Summary(value=values)
        self._file.write_event(Event(wall_time=time.time(), step=row["step"], summary=summary))
        if time.monotonic() - self._flushed >= FLUSH_S:
            self._file.flush()
            self._flushed = time.monotonic()

    def _begun(self, step: int) -> EventsWriter:
        """A new file, which takes back what an earlier one shows of this step and those after it:
        a resumed run writes it again."""
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog  # type: ignore[attr-defined]

        storage.of(self._folder).make(self._folder)
        file = EventsWriter(f"{self._folder / 'events'}", filename_suffix=f".{step:09}")
        start = SessionLog(status=SessionLog.START)
        file.write_event(Event(wall_time=time.time(), step=step, session_log=start))
        return file

    def close(self) -> None:
        """All of them are stored."""
        if self._file is not None:
            self._file.close()


class ObjectFile:
    """An event file on gs://, as tensorboardX writes one: a whole object at each flush."""

    def __init__(self, path: str):
        self._path, self._data = storage.folder(path), bytearray()

    @classmethod
    def open(cls, path: str) -> ObjectFile:
        """What tensorboardX calls to open one."""
        return cls(path)

    def write(self, data: bytes) -> None:
        self._data += data

    def flush(self) -> None:
        storage.of(self._path).write(self._path, bytes(self._data))

    close = flush


def scalars(row: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of a row with their names, those of a table in it as table/name."""
    for name, value in row.items():
        if isinstance(value, dict):
            yield from scalars(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and name != "step":
            yield prefix + name, float(value)
