"""One run, killed again and again, its files cut at random: bitwise, or it says what is gone.

DISTGRAM_KILLS=N kills N times in place of 4; `pytest -s` prints what became of each.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from cli_runs import TINY, environment, metrics

from distgram.store.checkpoint import newest, read_thetas

KILLS = int(os.environ.get("DISTGRAM_KILLS", "4"))
STEPS = 1500
COMMAND = "import sys; from distgram_launch.cli import main; sys.exit(main())"
TEXT = (
    TINY.replace("steps = 6", f"steps = {STEPS}")
    .replace("log_every = 2", "log_every = 10")
    .replace("spectra_every = 3", "spectra_every = 100")
    .replace("checkpoint_every = 2", "checkpoint_every = 10")
    + "patience = 1000000\nmin_decrease = 0.0\n"
)


def started(*arguments: object) -> subprocess.Popen:
    """`distgram ARGUMENTS` in a process of its own."""
    command = [sys.executable, "-c", COMMAND, *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment(), stdout=pipe, stderr=pipe, text=True)


def rows(run: Path) -> int:
    """The number of lines in metrics.jsonl."""
    path = run / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def killed(process: subprocess.Popen, run: Path, after_s: float) -> tuple[int, str]:
    """Kill a process some time after its next row; the exit code and stderr."""
    began, until = rows(run), time.monotonic() + 120
    while process.poll() is None and rows(run) in (0, began) and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(after_s)
    process.kill()
    _, err = process.communicate(timeout=60)
    return process.returncode, err


@pytest.mark.slow
def test_killed_and_cut_at_random(folder):
    random.seed(14)
    config, run = folder.write("tiny.toml", TEXT), folder.path / "run"
    assert folder.call("solve", config, "--out", folder.path / "whole", "--devices", 1).code == 0
    one = ("--devices", 1)
    process, said = started("solve", config, "--out", run, *one), ""
    done, ends = 0, []
    while done < KILLS:
        code, err = killed(process, run, random.uniform(0.0, 0.5))
        assert "Traceback" not in err, err
        said += err
        ends.append(code)
        if code == -9:
            done += 1
        elif code == 2:  # it has named a file that it cannot do without: that is put back
            assert str(cut[0]) in err or "no whole checkpoint" in err, (cut[0], err)
            cut[0].write_bytes(cut[1])
        else:
            assert code == 0, err
            break
        files = sorted(p for p in run.rglob("*") if p.is_file() and p.suffix != ".lock")
        file = random.choice(files)
        cut = (file, file.read_bytes())
        if code == -9 and done % 2:
            os.truncate(file, random.randrange(len(cut[1]) + 1))
        process = started("resume", run, *one)
    _, err = process.communicate(timeout=300)
    if process.returncode == 2:
        cut[0].write_bytes(cut[1])
        process = started("resume", run, *one)
        _, err = process.communicate(timeout=300)
    said += err
    assert process.returncode == 0, err
    print(f"\n{done} kills of {len(ends)} starts; exits {ends}\n{said}")
    whole = folder.path / "whole"
    assert np.array_equal(*(read_thetas(newest(p / "checkpoints"))[-1] for p in (run, whole)))
    here, there = ({row["step"]: row for row in metrics(p)} for p in (run, whole))
    assert all(there[step] == row for step, row in here.items())
    assert here == there or "are gone" in said
