"""Rows of metrics as TensorBoard events, in RUN/tensorboard: `tensorboard --logdir RUN`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from distgram.storage import Folder
from launch.errors import ClusterError

if TYPE_CHECKING:
    from tensorboardX import SummaryWriter

FOLDER = "tensorboard"
FLUSH_S = 10

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
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise ClusterError(
            f"--tensorboard: {error}: expected tensorboardX, pip install 'distgram[tensorboard]'."
        ) from error
    writer: SummaryWriter | None = None

    def both(row: dict[str, Any]) -> None:
        nonlocal writer
        if writer is None:
            # Not before the first row: a run that is refused leaves nothing. What an earlier job
            # has written from this step on is not shown: a resumed run writes it again.
            writer = SummaryWriter(
                f"{run_dir / FOLDER}", purge_step=row["step"], flush_secs=FLUSH_S
            )
        for name, value in scalars(row):
            writer.add_scalar(name, value, row["step"])
        watch(row)

    try:
        yield both
    finally:
        if writer is not None:
            writer.close()


def scalars(row: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of a row with their names, those of a table in it as table/name."""
    for name, value in row.items():
        if isinstance(value, dict):
            yield from scalars(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and name != "step":
            yield prefix + name, float(value)
