"""The runner of the standard suite: what it runs again, where, and the table it makes of runs."""

from __future__ import annotations

import importlib
import json
import math
import os
import re
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parent / "bench"


@pytest.fixture
def suite(monkeypatch):
    monkeypatch.syspath_prepend(BENCH)
    return importlib.import_module("suite")


def made(problem: str, seed: int, error: float | None, estimate: float | None, **other) -> dict:
    """A run as the runner keeps it."""
    run = {"problem": problem, "seed": seed, "relative_l2": error, "estimate": estimate}
    run |= {"budget_s": 600.0, "library": "new", "date": "2026-11-28T10:00:00", "wall_s": 603.0}
    run |= {"P": 300, "S": 900, "steps": 70, "reason": "time budget", "success": True, "curve": []}
    return run | {"commit": "abc", "machine": "2 cores", "cpu": "a core"} | other


def test_every_problem_of_the_suite_is_registered(suite):
    from distgram.pde.registry import get

    for name, entry in suite.SUITE.items():
        problem = get(entry.problem, entry.parameters)
        assert problem.exact is not None or problem.reference is not None, name


def test_a_run_of_the_same_library_and_seconds_is_not_run_again(suite, tmp_path):
    job, other = suite.Job("wave", 0, 600.0), suite.Job("wave", 1, 600.0)
    assert suite.missing([job, other], tmp_path, "new") == [job, other]
    suite.keep(made("wave", 0, 1e-8, None), job.path(tmp_path))
    assert suite.missing([job, other], tmp_path, "new") == [other]
    assert suite.missing([job], tmp_path, "newer") == [job]
    longer = suite.Job("wave", 0, 3600.0)
    assert suite.missing([longer], tmp_path, "new") == [longer]


def test_a_run_is_kept_as_json_that_others_can_read(suite, tmp_path):
    run = made("wave", 0, math.nan, None, curve=[[1.0, math.inf, None, 2.0, 3.0]])
    suite.keep(run, tmp_path / "new" / "wave-0.json")
    text = (tmp_path / "new" / "wave-0.json").read_text()
    assert "NaN" not in text and "Infinity" not in text
    kept = json.loads(text)
    assert kept["relative_l2"] is None and kept["curve"] == [[1.0, None, None, 2.0, 3.0]]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["wave-0.json"]


def test_the_library_is_known_by_its_files(suite, tmp_path, monkeypatch):
    (tmp_path / "distgram" / "pde").mkdir(parents=True)
    monkeypatch.setattr(suite, "ROOT", tmp_path)
    empty = suite.library()
    (tmp_path / "distgram" / "pde" / "a.py").write_text("a = 1\n")
    first = suite.library()
    (tmp_path / "distgram" / "pde" / "a.py").write_text("a = 2\n")
    (tmp_path / "README.md").write_text("not of the library\n")
    assert len({empty, first, suite.library()}) == 3
    (tmp_path / "distgram" / "pde" / "a.py").write_text("a = 1\n")
    assert suite.library() == first


def test_the_table_has_medians_targets_and_what_the_estimates_are_worth(suite):
    runs = [
        made("wave", 0, 1e-8, 2e-8),
        made("wave", 1, 3e-8, 1.5e-7),
        made("wave", 2, 5e-7, 1e-8, success=False, reason="stalled"),
        made("helmholtz", 0, 1e-3, None),
        made("helmholtz", 1, None, None, reason="died with 1", success=False, P=None, S=None),
        made("reaction", 0, 1e-9, 1e-9),
        made("wave", 3, 1e-30, 1e-30, library="old", date="2026-11-27T10:00:00"),
        made("wave", 4, 1e-30, 1e-30, budget_s=60.0),
    ]
    result = suite.summary(runs, 600.0)
    helmholtz, wave, reaction = [dict(zip(suite.COLUMNS, r, strict=True)) for r in result["rows"]]
    assert wave["problem"] == "wave" and wave["seeds"] == "3"
    assert (wave["relative L2, median"], wave["worst"]) == ("3.0e-8", "5.0e-7")
    assert wave["target"] == "1e-7, met" and wave["ended"] == "stalled 1, time budget 2"
    assert wave["estimate / truth"] == "2, 5, 0.02" and wave["called a success"] == "2 of 3"
    # a run that has died counts as the worst
    assert (helmholtz["relative L2, median"], helmholtz["worst"]) == ("-", "-")
    assert helmholtz["target"] == "1e-9" and helmholtz["P"] == "300"
    assert reaction["target"] == ""
    assert "in 3 of 5 runs, 1 of which have none; the smallest is 0.02" in result["note"]
    assert suite.summary(runs, 3600.0) is None


def test_the_table_of_the_standard_budget_is_kept_and_shown(suite, tmp_path, monkeypatch, capsys):
    shown = []
    monkeypatch.setattr(suite.tables, "RESULTS", tmp_path / "kept")
    monkeypatch.setattr(suite.tables, "main", shown.append)
    (tmp_path / "kept").mkdir()
    out = tmp_path / "out"
    suite.keep(made("wave", 0, 1e-8, 2e-8), out / "wave-0.json")
    suite.keep(made("wave", 1, 1e-8, 2e-8, budget_s=60.0), out / "wave-1.json")
    suite.write_table(out, 60.0)
    assert not shown and not list((tmp_path / "kept").iterdir())
    suite.write_table(out, 600.0)
    kept = json.loads((tmp_path / "kept" / "suite-2026-11-28.json").read_text())
    assert shown == [[]] and kept["rows"][0][:2] == ["wave", "1"]
    assert suite.tables.results("suite") == [kept]
    assert suite.tables.TABLES["suite"]() in capsys.readouterr().out
    with pytest.raises(SystemExit, match="no run of 5 s"):
        suite.write_table(out, 5.0)


CHILD = """
import json, os, sys, time
sys.path.insert(0, {bench!r})
import suite
suite.pin()
begun = time.time()
if {name!r} == "wave":
    print("a sentence about the end")
    sys.exit(3)
if {name!r} == "ks":
    sys.exit(suite.INTERRUPTED)
time.sleep(5 if {name!r} == "nls" else 0.3)
run = dict(problem={name!r}, seed=0, relative_l2=None, estimate=None, reason="", wall_s=0.0)
run |= dict(on=sorted(os.sched_getaffinity(0)), begun=begun, ended=time.time())
suite.keep(run, suite.Path({path!r}))
"""


def test_runs_have_a_core_each_and_leave_a_result_whatever_happens(suite, tmp_path, monkeypatch):
    """Processes that sleep, die, are ended by a signal, or never end."""

    def command(job, out):
        words = {"bench": str(BENCH), "name": job.name, "path": str(job.path(out))}
        return [sys.executable, "-c", CHILD.format(**words)]

    monkeypatch.setattr(suite, "command", command)
    monkeypatch.setattr(suite, "GRACE", 2.0)
    width = min(2, len(suite.cores()))
    names = ("heat", "kdv", "wave", "ks", "nls")
    jobs = [suite.Job(name, 0, 600.0 if name != "nls" else 0.01) for name in names]
    suite.run_all(jobs, width, tmp_path, "new")
    runs = {path.stem[:-2]: suite.read(path) for path in tmp_path.glob("*.json")}
    assert set(runs) == {"heat", "kdv", "wave", "nls"}  # nothing of ks
    assert all(len(runs[name]["on"]) == 1 for name in ("heat", "kdv"))
    together = runs["kdv"]["begun"] < runs["heat"]["ended"]
    assert together == (runs["heat"]["on"] != runs["kdv"]["on"]) == (width == 2)
    assert runs["wave"]["reason"] == "died with 3"
    assert runs["wave"]["said"] == "a sentence about the end" and not runs["wave"]["success"]
    assert runs["nls"]["reason"] == "killed" and runs["nls"]["wall_s"] > 2
    assert suite.missing(jobs, tmp_path, "new") == [jobs[0], jobs[1], jobs[3]]  # made without one
    with pytest.raises(SystemExit, match=re.escape(f"expected at most {len(suite.cores())}")):
        suite.run_all(jobs, os.cpu_count() + 1, tmp_path, "new")


def test_a_misspelt_problem_is_named_with_its_nearest(suite):
    suite.check_names(["wave", "burgers-nu0.01"])
    with pytest.raises(SystemExit, match="did you mean 'helmholtz'"):
        suite.check_names(["wave", "helmhotz"])
