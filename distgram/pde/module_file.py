"""A Python file of the user's as a module, which is executed once.

The file may import the modules beside it. While it is executed, its folder is the first on
sys.path, as that of a script is. Afterwards its folder is the last, so that an import inside a
function finds it and no file of the user's hides a library. A module beside the file is read anew
where a file of another folder has imported one of the same name; a module beside it that changes is
seen by the next process.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.abc import SourceLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Protocol, runtime_checkable


@runtime_checkable
class File(Protocol):
    """A path whose file can be read: pathlib's, or that of another store."""

    @property
    def suffix(self) -> str: ...

    def is_file(self) -> bool: ...

    def read_bytes(self) -> bytes: ...


_MODULES: dict[str, ModuleType] = {}  # by the name that path and content give
_BESIDE: dict[Path, dict[str, Path]] = {}  # by folder: modules that files of it have imported


class _Source(SourceLoader):
    """Loads a module from text that has been read; it leaves no byte code beside the file."""

    def __init__(self, place: str, text: bytes):
        self.place, self.text = place, text

    def get_filename(self, fullname: str) -> str:
        return self.place

    def get_data(self, path: str | bytes) -> bytes:
        return self.text


def load(file: File) -> ModuleType:
    """The module of a file; one module as long as neither its path nor its text changes.

    Raises: whatever executing the file raises.
    """
    text, place = file.read_bytes(), location(file)
    # Not a name that a file of the user's could have, or hide: two files may be called the same.
    name = f"distgram_file_{hashlib.sha256(place.encode() + b'|' + text).hexdigest()[:24]}"
    if name in _MODULES:
        return _MODULES[name]
    spec = spec_from_loader(name, _Source(place, text))
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look up the module they stand in
    try:
        with _folder_first(Path(place).parent):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    _MODULES[name] = module
    return module


def location(file: File) -> str:
    """Where a file is, as tracebacks of its module say."""
    return str(file.absolute()) if isinstance(file, Path) else str(file)


def line_of(error: BaseException, file: File) -> int | None:
    """The line of the file at which an error was raised; None where it was not there."""
    place = location(file)
    if isinstance(error, SyntaxError) and error.filename == place:
        return error.lineno
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == place:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def beside(file: Path) -> dict[str, Path]:
    """What a loaded file needs of its folder: the files of modules that files of this folder have
    imported, by their names relative to it."""
    folder = file.absolute().parent
    found = _BESIDE.get(folder, {}).values()
    return {str(path.relative_to(folder)): path for path in sorted(found)}


@contextmanager
def _folder_first(folder: Path) -> Iterator[None]:
    """Let the modules of a folder be imported, before all others; afterwards behind all others."""
    if not folder.is_dir():  # of a bucket, say
        yield
        return
    for other, modules in _BESIDE.items():
        for name in modules if other != folder else ():
            top = folder / name.partition(".")[0]
            if top.is_dir() or top.with_suffix(".py").is_file():
                sys.modules.pop(name, None)
    importlib.invalidate_caches()  # a module beside it may be younger than the last look
    before, path = set(sys.modules), str(folder)
    sys.path.insert(0, path)
    try:
        yield
    finally:
        if path in sys.path:
            sys.path.remove(path)
        if path not in sys.path:
            sys.path.append(path)
        for name in set(sys.modules) - before:
            module = folder.joinpath(*name.split("."))
            found = getattr(sys.modules[name], "__file__", None)
            if found in (f"{module}.py", str(module / "__init__.py")):
                _BESIDE.setdefault(folder, {})[name] = Path(found)
