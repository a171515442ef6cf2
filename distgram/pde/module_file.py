"""A Python file of the user's as a module, which is executed once.

The file may import the modules beside it and read the files there. While it is executed, its folder
is the working directory and the first on sys.path, as that of a script is. Afterwards its folder is
the last on sys.path, so that an import inside a function finds it and no file of the user's hides a
library. A module beside the file is read anew where a file of another folder has imported one of
the same name; a module beside it that changes is seen by the next process. No byte code is read
from such a folder, or left there: the text of a program is all that is executed.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib
import os
import site
import sys
import sysconfig
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.abc import SourceLoader
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, FileFinder
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class File(Protocol):
    """A path whose file can be read: pathlib's, or that of another store."""

    @property
    def suffix(self) -> str: ...

    def is_file(self) -> bool: ...

    def read_bytes(self) -> bytes: ...


_MODULES: dict[str, ModuleType] = {}  # by the name that path and content give
_BESIDE: dict[Path, set[Path]] = {}  # by folder: the modules that files of it have imported
_READ: dict[Path, set[Path]] = {}  # by folder: files that it has read
_reading: Path | None = None  # the folder of the file that is executed now
_HOME = threading.RLock()
# Where modules and files are that are none of a user's, though the folder may be below the user's.
_LIBRARIES = {
    Path(place)
    for place in (
        *(sys.prefix, sys.base_prefix, site.getusersitepackages()),
        *sysconfig.get_paths().values(),
    )
} | {Path(__file__).parents[1]}


class _Source(SourceLoader):
    """Loads a module from its text; without `path_stats` it neither reads nor leaves byte code."""

    def __init__(self, name: str, place: str, text: bytes | None = None):
        self.place, self.text = place, text

    def get_filename(self, fullname: str) -> str:
        return self.place

    def get_data(self, path: str | bytes) -> bytes:
        return Path(os.fsdecode(path)).read_bytes() if self.text is None else self.text


def load(file: File) -> ModuleType:
    """The module of a file; one module as long as neither its path nor its text changes.

    Raises: whatever executing the file raises.
    """
    text, place = file.read_bytes(), location(file)
    # Not a name that a file of the user's could have, or hide: two files may be called the same.
    name = f"distgram_file_{hashlib.sha256(place.encode() + b'|' + text).hexdigest()[:24]}"
    if name in _MODULES:
        return _MODULES[name]
    spec = spec_from_loader(name, _Source(name, place, text))
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look up the module they stand in
    try:
        with at_home(file):
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
    """What a file needs of its folder, by names relative to it: the modules that it imports, or
    could, also within functions, and those that these import; the files that it has read while it
    was executed. The file itself is not among them."""
    folder = file.absolute().parent
    found = {*_BESIDE.get(folder, ()), *_loaded(folder).values(), *_READ.get(folder, ())}
    found |= _imported(file.absolute(), folder)
    found = {path for path in found if path.is_file()} - {file.absolute()}
    return {str(path.relative_to(folder)): path for path in sorted(found)}


def _imported(file: Path, folder: Path) -> set[Path]:
    """The files of a folder that the import statements of a file lead to."""
    found: set[Path] = set()
    waiting = [file]
    while waiting:
        path = waiting.pop()
        try:
            statements = list(ast.walk(ast.parse(path.read_bytes())))
        except (OSError, SyntaxError, ValueError, RecursionError):
            continue
        for statement in statements:
            for name in _names(statement, path.parent.relative_to(folder).parts):
                reached = {p for p in _files_of(name, folder) if p != file} - found
                found |= reached
                waiting += reached
    return found


def _names(statement: ast.AST, package: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The modules that an import statement may name, in a file of a package, each as its path."""
    if isinstance(statement, ast.Import):
        return [tuple(alias.name.split(".")) for alias in statement.names]
    if not isinstance(statement, ast.ImportFrom):
        return []
    up = package[: len(package) + 1 - statement.level] if statement.level else ()
    base = (*up, *(statement.module.split(".") if statement.module else ()))
    return [(*base, alias.name) for alias in statement.names]


def _files_of(name: tuple[str, ...], folder: Path) -> Iterator[Path]:
    """The files of a folder that importing a module executes: its packages' and its own."""
    origin = getattr(sys.modules.get(name[0] if name else ""), "__file__", None)
    if origin is not None and not any(Path(origin).is_relative_to(f) for f in (folder, *_BESIDE)):
        return  # a library, which a file beside does not hide
    for length in range(1, len(name) + 1):
        path = folder.joinpath(*name[:length])
        for file in (path.with_name(f"{path.name}.py"), path / "__init__.py"):
            if file.is_file() and not _is_library(file):
                yield file


@contextmanager
def at_home(file: File) -> Iterator[None]:
    """Inside, what a file's program does itself is done in its folder: modules and files beside
    it are found, and noted for `beside`. A file of another store has no such folder."""
    if not (isinstance(file, Path) and file.parent.is_dir()):
        yield
        return
    global _reading
    folder = file.absolute().parent
    with _HOME:  # a process has one working directory
        outer, _reading = _reading, folder
        try:
            with contextlib.chdir(folder), _folder_first(folder):
                yield
        finally:
            _reading = outer


@contextmanager
def _folder_first(folder: Path) -> Iterator[None]:
    """Let the modules of a folder be imported, before all others; afterwards behind the libraries,
    and before those of other such folders."""
    if folder not in _BESIDE:
        _BESIDE[folder] = set()
        sys.path_importer_cache.pop(str(folder), None)
    for other, known in _BESIDE.items():
        for name, path in _loaded(other).items() if other != folder else ():
            known.add(path)
            top = folder / name.partition(".")[0]
            if top.is_dir() or top.with_suffix(".py").is_file():
                sys.modules.pop(name, None)
    importlib.invalidate_caches()  # a module beside it may be younger than the last look
    first = str(folder)
    sys.path.insert(0, first)
    try:
        yield
    finally:
        sys.path[:] = [path for path in sys.path if path != first]
        others = [k for k, path in enumerate(sys.path) if Path(path) in _BESIDE]
        sys.path.insert(min(others, default=len(sys.path)), first)
        _BESIDE[folder] |= set(_loaded(folder).values())


def _loaded(folder: Path) -> dict[str, Path]:
    """The modules of a folder that are imported now, by name."""
    found = {}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        inside = isinstance(file, str) and file.startswith(f"{folder}{os.sep}")
        if isinstance(file, str) and inside and not _is_library(Path(file)):
            path = folder.joinpath(*name.split("."))
            if file in (f"{path}.py", str(path / "__init__.py")):
                found[name] = Path(file)
    return found


def _is_library(path: Path) -> bool:
    return any(path.is_relative_to(place) for place in _LIBRARIES)


def _finder(path: str) -> FileFinder:
    """Finds the modules in a folder that files are loaded from, and in its packages."""
    beside = any(Path(path).is_relative_to(folder) for folder in _BESIDE)
    if not beside or _is_library(Path(path)):
        raise ImportError("another folder")
    return FileFinder(path, (ExtensionFileLoader, EXTENSION_SUFFIXES), (_Source, [".py"]))


def _note_reading(event: str, args: tuple[Any, ...]) -> None:
    """Note the files that a program reads in its own folder while it is executed."""
    if event != "open" or _reading is None or not isinstance(args[0], str | bytes | os.PathLike):
        return
    if isinstance(args[2], int) and args[2] & os.O_ACCMODE != os.O_RDONLY:
        return
    with suppress(ValueError):
        path = Path(os.path.abspath(os.fsdecode(args[0])))
        if path.is_relative_to(_reading) and not _is_library(path):
            _READ.setdefault(_reading, set()).add(path)


sys.path_hooks.insert(0, _finder)
sys.addaudithook(_note_reading)
