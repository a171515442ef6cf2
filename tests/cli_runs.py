"""Tiny configs and a way to run the command line inside the tests' process."""

from __future__ import annotations

import io
import json
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from distgram_launch.cli import main

TINY = """
[problem]
name = "laplace2d"
[model]
hidden = [8]
[points]
interior = {count = 100}
boundary = {count = 40}
[rule]
name = "adaptive_ratio"
[run]
steps = 6
log_every = 2
spectra_every = 3
checkpoint_every = 2
held_out = 64
"""


# What differs from one run to the next: what clocks say.
CLOCKS = ("seconds", "compile_seconds", "seconds_by_part")


class Ended(NamedTuple):
    """How a command ended: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """The one sentence on stderr of a user's error."""
        assert self.code == 2, self
        assert self.out == "" and self.err.count("\n") == 1, self
        assert "Traceback" not in self.err
        return self.err


class Folder:
    """A place for configs and runs, and the command line to be called in it."""

    def __init__(self, path: Path):
        self.path = path

    def write(self, name: str, text: str) -> Path:
        """Write a file; its path."""
        (self.path / name).write_text(text, encoding="utf-8")
        return self.path / name

    def call(self, *args: object) -> Ended:
        """`distgram ARGS...`"""
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = main([str(a) for a in args])
        return Ended(code, out.getvalue(), err.getvalue())

    def solve(self, *args: object, out: str = "run", text: str = TINY) -> Ended:
        """`distgram solve` of a config of this text into the folder `out`, on one device."""
        config = self.write("config.toml", text)
        return self.call("solve", config, "--out", self.path / out, "--devices", 1, *args)

    def folders(self) -> list[str]:
        """The folders in it: none, where a command has written nothing."""
        return sorted(p.name for p in self.path.iterdir() if p.is_dir())


def environment(**more: str) -> dict[str, str]:
    """That of a process which imports what this one imports."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))} | more


def no_figures(patch: pytest.MonkeyPatch) -> None:
    """Drawing is the report's, and takes longer than a tiny run."""
    patch.setattr("distgram_launch.show.report", lambda run_dir: run_dir / "report.html")


def metrics(run: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl without what clocks say."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in CLOCKS} for row in rows]
