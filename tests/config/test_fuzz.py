"""Random input: exit code 0, 1 or 2, never a traceback, and nothing touched outside --out.

DISTGRAM_FUZZ=N tries N inputs a test in place of 40; `pytest -s` prints how many ended how.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomli_w
from cli_runs import TINY, Ended, Folder, no_figures

from distgram.config.schema import Config

hypothesis = pytest.importorskip("hypothesis")
given, st = hypothesis.given, hypothesis.strategies

pytestmark = pytest.mark.slow
COUNT = int(os.environ.get("DISTGRAM_FUZZ", "40"))
settings = hypothesis.settings(
    max_examples=COUNT,
    deadline=None,
    derandomize=COUNT == 40,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
)

NUMBERS = st.one_of(
    st.integers(1, 70),
    st.floats(0.01, 1.0),
    st.integers(-3, 70),
    st.sampled_from([2**31, 2**53, 2**63, 2**70, 10**12, -(2**70)]),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([1e-300, 1e300, 1e-9, 0.5, -0.0]),
)
WORDS = st.one_of(
    st.sampled_from(["", "~", "..", "/", "tanh", "adam", "grid", "auto", "<script>", "a\0b"]),
    st.text(max_size=8),
)
LEAVES = st.one_of(NUMBERS, WORDS, st.booleans())
VALUES = st.one_of(
    NUMBERS,
    st.recursive(
        LEAVES,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
        ),
        max_leaves=6,
    ),
)
TABLES = [name for name in Config.model_fields if name not in ("problem", "data")]
KEYS = st.one_of(
    st.sampled_from(
        [
            *(f"model.{key}" for key in ("hidden", "activation", "gain", "features", "modes")),
            *(f"model.{key}" for key in ("even", "stretch", "feature_scale", "hard_constraint")),
            *(f"run.{key}" for key in ("steps", "log_every", "held_out", "seed", "tolerance")),
            *(f"run.{key}" for key in ("patience", "min_decrease", "target_l2", "time_budget_s")),
            *(f"memory.{key}" for key in ("budget_gib", "row_block", "chunk")),
            *(f"points.interior.{key}" for key in ("count", "sampler", "weight", "focus", "decay")),
            *(f"rule.{key}" for key in ("ratio", "excursion", "name")),
            *("problem.name", "problem.parameters", "problem.file", "problem.without"),
            *("points.boundary", "data", "unknown", "time", "time.slabs", "sampling.name"),
            *("factorization.name", "data.a.file", "data.a.weight", "unknown.k.initial"),
            *TABLES,
        ]
    ),
    st.text(min_size=1, max_size=6),
)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Iterator[Folder]:
    """A place that is also the working directory, with a run of 2 steps in it."""
    folder = Folder(tmp_path_factory.mktemp("fuzz"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distgram.report.html.DPI", 20)
        patch.chdir(folder.path)
        with pytest.MonkeyPatch.context() as quick:
            no_figures(quick)
            assert folder.solve("--set", "run.steps=2", out="whole").code == 0
        no_figures(patch)
        folder.write("points.csv", "x,y\n0.5,0.5\n")
        (folder.path / "out").mkdir()
        yield folder


@pytest.fixture(scope="module")
def ends() -> Iterator[Counter]:
    """How many inputs ended how."""
    ends: Counter = Counter()
    yield ends
    print(f"\n{sum(ends.values())} inputs: {dict(ends)}")


def outside(folder: Folder) -> dict[str, bytes]:
    """All files but those below out/."""
    files = (p for p in folder.path.rglob("*") if p.is_file())
    names = ((p.relative_to(folder.path), p) for p in files)
    return {str(name): p.read_bytes() for name, p in names if name.parts[0] != "out"}


def check(ended: Ended, kind: str, ends: Counter) -> None:
    """It ended by name."""
    assert ended.code in (0, 1, 2), ended
    assert "Traceback" not in ended.err + ended.out, ended
    if ended.code == 2:
        assert ended.err.strip(), ended
    ends[f"{kind}, exit {ended.code}"] += 1


@settings
@given(changes=st.lists(st.tuples(KEYS, VALUES), min_size=1, max_size=2))
def test_values_of_a_config(place, ends, changes):
    tree = {
        "problem": {"name": "laplace2d"},
        "model": {"hidden": [4]},
        "points": {"interior": {"count": 50}, "boundary": {"count": 20}},
        "run": {"steps": 1, "held_out": 16},
    }
    for key, value in changes:
        *tables, last = key.split(".")
        inner = tree
        for name in tables:
            inner = inner.setdefault(name, {})
            if not isinstance(inner, dict):
                return
        inner[last] = value
    run = tree.get("run")
    if isinstance(run, dict) and isinstance(run.get("steps"), int) and run["steps"] > 3:
        run["steps"] = 3
    try:
        text = tomli_w.dumps(tree)
        (place.path / "config.toml").write_text(text, encoding="utf-8")
    except (ValueError, TypeError):  # no text: a lone surrogate
        return
    before = outside(place)
    shutil.rmtree(place.path / "out", ignore_errors=True)
    ended = place.call("solve", "config.toml", "--out", place.path / "out", "--devices", 1)
    check(ended, "config", ends)
    assert outside(place) == before


@settings
@given(
    cells=st.lists(
        st.one_of(
            st.just("0.5"),
            st.floats(0.0, 1.0).map(repr),
            st.one_of(st.text(max_size=6), st.floats().map(repr)),
            st.sampled_from(["0.5", "1_0", "nan", "1e300", "1e-300", "٣", '"', "#", "\ufeff"]),
        ),
        min_size=3,
        max_size=8,
    ),
    head=st.sampled_from(["x,y,u", "x,y,u,sigma", "x;y;u", "y,x,u", "x,y", "", "x,y,u,,"]),
)
def test_cells_of_a_table(place, ends, cells, head):
    lines = [",".join(cells[i : i + 3]) for i in range(0, len(cells), 3)]
    text = "\n".join([head, *lines]).encode("utf-8", "replace")
    (place.path / "data.csv").write_bytes(text)
    (place.path / "points.csv").write_bytes(text)
    data = f'{TINY}[data.a]\nfile = "data.csv"\n'
    place.write("config.toml", data)
    before = outside(place)
    shutil.rmtree(place.path / "out", ignore_errors=True)
    solve = ("solve", "config.toml", "--out", place.path / "out", "--devices", 1)
    check(place.call(*solve, "--set", "run.steps=1"), "table", ends)
    check(place.call("eval", "whole", "--at", "points.csv"), "table", ends)
    assert outside(place) == before


@settings
@given(
    which=st.integers(0, 1000),
    at=st.floats(0, 1),
    what=st.sampled_from(["cut", "flip", "put", "replace", "remove", "lengthen"]),
    text=st.sampled_from([b"", b"\xff\xfe", b"{", b"[1]", b"null", b"\0" * 20, b'"step": "a"']),
    command=st.sampled_from(["resume", "report", "eval", "export", "diagnose", "compare", "load"]),
)
def test_files_of_a_run_folder(place, ends, which, at, what, text, command):
    out = place.path / "out"
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(place.path / "whole", out)
    place.write("points.csv", "x,y\n0.5,0.5\n")
    below = sorted(p for p in (out / "checkpoints").rglob("*") if p.is_file())
    files = [*sorted(p for p in out.iterdir() if p.is_file())] * 6 + below  # as many of each kind
    spoil(files[which % len(files)], at, what, text)
    before = outside(place)
    commands = {
        "resume": ("resume", out, "--set", "run.steps=3"),
        "report": ("report", out),
        "eval": ("eval", out, "--at", "points.csv"),
        "export": ("export", out, "--to", "safetensors"),
        "diagnose": ("diagnose", out, "--kernel", "ntk", "--at", "0.5,0.5"),
        "compare": ("compare", out, "--out", out / "compared"),
        "load": ("eval", out, "--at", "points.csv", "--step", "initial"),
    }
    check(place.call(*commands[command]), f"run folder, {command}", ends)
    assert outside(place) == before


def spoil(file: Path, at: float, what: str, text: bytes) -> None:
    """Damage a file at a place of it, from 0 to 1."""
    content = file.read_bytes()
    where = int(at * len(content))
    changed = {
        "cut": content[:where],
        "flip": content[:where] + bytes(b ^ 0x55 for b in content[where : where + 3])
        + content[where + 3 :],
        "put": content[:where] + text + content[where:],
        "replace": text,
        "lengthen": content + text,
    }  # fmt: skip
    if what == "remove":
        file.unlink()
    else:
        file.write_bytes(changed[what])
