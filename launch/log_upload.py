"""The log of a worker on gs://: a file of its host, uploaded by a process that outlives the worker.

    python -m distgram_launch.log_upload FILE URL PID

What the process PID writes to FILE goes to the object URL, after what is there already, until the
process has ended: so that the last words of one that is killed come through.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

from distgram.store import storage

LOOK_S = 1.0


@cache
def local_log(url: str) -> Path:
    """A new file of this host whose content goes to an object from now on."""
    descriptor, name = tempfile.mkstemp(prefix="distgram-", suffix=".log")
    os.close(descriptor)
    command = [sys.executable, "-m", "distgram_launch.log_upload", name, url, str(os.getpid())]
    path = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    # Ray ends the children of a worker with it: this one forks, and is nobody's child.
    with open(os.devnull, "r+") as nothing:
        subprocess.run(
            command, check=True, env=path, start_new_session=True, stdin=nothing, stdout=nothing
        )
    return Path(name)


def upload(file: Path, url: str, pid: int) -> None:
    """Upload what FILE gets until the process PID has ended; then remove it."""
    path = storage.folder(url)
    lines = storage.of(path).lines(path)
    lines.restart(path.read_text() if path.exists() else "")
    running = True
    with open(file, encoding="utf-8", errors="replace") as source:
        while running:
            time.sleep(LOOK_S)
            running = _runs(pid)  # before the last look at what it has written
            text = source.read()
            if text:
                lines.append(text)
            elif not lines.sync():
                break  # the next worker of this rank writes there
        lines.sync()
    file.unlink()


def _runs(pid: int) -> bool:
    """Whether a process has not ended; one that is left as a zombie has."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat")
        return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


if __name__ == "__main__":
    if os.fork() == 0:
        upload(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
