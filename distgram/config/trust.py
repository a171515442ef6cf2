"""Whose program the problem file of a run folder is: loading such a run executes it.

A solve notes what its run folder holds that Python could execute, by one hash, in
$XDG_STATE_HOME/distgram/own-programs (~/.local/state). A folder with the same programs is executed
without asking: this user has solved with them on this machine. Any other one is a stranger's, as a
fetched one may be: its programs are executed where the caller asks for that, and nowhere else.
"""

from __future__ import annotations

import hashlib
import logging
import os
from contextlib import suppress
from pathlib import Path

from distgram.errors import TrustError
from distgram.store import folder as run_folder
from distgram.store import storage
from distgram.store.storage import Folder

log = logging.getLogger("distgram")

# What an import finds, beside packages.
SUFFIXES = (".py", ".pyc", ".so", ".pyd")
# Folders that runs and their reports write into. One of them is no package without this file.
WRITTEN = (run_folder.CHECKPOINTS, "diagnostics", "export", "figures", "logs", "tensorboard")
INIT = "__init__"
# A folder with a config and one of these is a run's.
RECORDED = (run_folder.ENVIRONMENT, run_folder.METRICS, run_folder.CHECKPOINTS)
_OWN: set[str] = set()  # of this process, whose notes may have no place


def remember(place: Folder, file: str) -> None:
    """Note the programs of a run folder, one of which is its problem file, as this user's own."""
    fresh = {_programs(place, file)} - _noted()
    _OWN.update(fresh)
    with suppress(OSError, RuntimeError):  # no home, or none that can be written to
        notes = _notes()
        notes.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(notes, "a", encoding="utf-8") as written:
            written.write("".join(f"{one}\n" for one in sorted(fresh)))


def check(place: Folder, file: str | None, trust: bool) -> None:
    """Return where the problem file of a folder may be executed; say so where a stranger's is.

    Args:
        file: the problem file, the copy in the folder or the one that it is of; None: the problem
            is one of distgram's. trust: the caller's word.

    Raises:
        TrustError: it is not this user's own, and `trust` is not given.
    """
    if file is None:
        return
    if _programs(place, file) in _OWN | _noted():
        return
    if not trust:
        raise TrustError(
            f"{place}: its problem is a program, {file}, and no solve of yours on this machine "
            "has written it: read it, then give --trust (trust=True) to have it executed."
        )
    log.warning("%s is executed, as --trust (trust=True) says.", file)


def check_given(file: str | None, trust: bool) -> None:
    """Return where a problem file that a config names may be executed: what a user gives is the
    user's, but for a file within a run folder, which `check` asks about.

    Raises:
        TrustError: as `check`.
    """
    given = None if file is None else storage.folder(file)
    for place in given.parents if isinstance(given, Path) else ():
        if (place / run_folder.CONFIG).is_file() and any((place / n).exists() for n in RECORDED):
            return check(place, file, trust)


def _programs(place: Folder, file: str) -> str:
    """A hash of the names and the contents of all that Python could execute in a folder, and of all
    files beside the copies of its problem file, which may load them; with the place of the problem
    file where that is another one: modules beside it are imported."""
    copies = str(place / run_folder.PROBLEM)
    elsewhere = str(storage.folder(file).parent) != copies
    digest = hashlib.sha256(file.encode(errors="surrogateescape") if elsewhere else b"")
    for path in storage.files(place):
        name = path.relative_to(place)
        ours = len(name.parts) > 1 and name.parts[0] in WRITTEN and path.stem != INIT
        copy = name.parts[:1] == (run_folder.PROBLEM,)
        if copy or (path.suffix in SUFFIXES and not ours):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"{name}\0{content}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _notes() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "distgram" / "own-programs"


def _noted() -> set[str]:
    with suppress(OSError, RuntimeError):
        return set(_notes().read_text(encoding="utf-8", errors="replace").split())
    return set()
