"""Run folders from anybody: what they hold is text on a page, and what is broken is a sentence."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import tomli_w
from distgram_launch.web import now, shell
from synthetic_runs import Page, make_run

from distgram.errors import RunError
from distgram.report import report
from distgram.report.compare import cells, compare, summary
from distgram.report.html import Picture
from distgram.store.read import Run

SCRIPT = "<script>alert(1)</script>"
KNOWN_TAGS = set(
    "html head meta title style body main h1 h2 p div table tr th td nav a figure img figcaption "
    "pre".split()
)


@pytest.fixture
def blank(monkeypatch):
    """No pixels at all, where only the words of a page matter."""
    for module in ("page", "compare"):
        monkeypatch.setattr(
            f"distgram.report.{module}.picture", lambda _, *words: Picture(b"", *words)
        )


def poison(run: Path) -> Path:
    """A run folder with a script in every text of every file."""
    config = {
        "problem": {"name": SCRIPT, "file": SCRIPT, "parameters": {SCRIPT: SCRIPT}},
        "rule": {"name": SCRIPT, SCRIPT: [SCRIPT]},
        "run": {"seed": SCRIPT},
        "data": {SCRIPT: {"file": SCRIPT}},
        SCRIPT: SCRIPT,
    }
    (run / "config.toml").write_text(tomli_w.dumps(config))
    result = json.loads((run / "result.json").read_text())
    terms = {SCRIPT: 1.0, f"$\\frac{SCRIPT}": 2.0}
    more = {
        "overfitted": [SCRIPT], "reason": SCRIPT, "problem": SCRIPT, "rule": SCRIPT,
        "seconds_by_part": {SCRIPT: 1.0}, "slabs": [{SCRIPT: SCRIPT}], "run_dir": SCRIPT,
        SCRIPT: SCRIPT, "unknown": {SCRIPT: {SCRIPT: SCRIPT}},
    }  # fmt: skip
    (run / "result.json").write_text(json.dumps(result | more))
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    more |= {"terms": terms, "heldout_terms": terms}
    text = "".join(json.dumps(row | more) + "\n" for row in rows)
    (run / "metrics.jsonl").write_text(text)
    environment = {"devices": [SCRIPT], SCRIPT: {SCRIPT: SCRIPT}}
    (run / "environment.json").write_text(json.dumps(environment))
    (run / "diagnostics").mkdir()
    (run / "diagnostics" / "ntk.png").write_bytes(SCRIPT.encode())
    told = {"title": SCRIPT, "alt": SCRIPT, SCRIPT: SCRIPT}
    (run / "diagnostics" / "ntk.json").write_text(json.dumps(told))
    arrays = dict(np.load(run / "solution.npz"))
    arrays |= {f"points_{SCRIPT}".replace("/", "\\"): arrays["points_interior"]}
    arrays["names"] = np.array([SCRIPT] * arrays["x"].shape[1])
    np.savez(run / "solution.npz", **arrays)
    return run


def test_every_text_of_a_run_folder_is_text_on_its_pages(tmp_path):
    runs = [poison(make_run(tmp_path / f"run{seed}", seed=seed)) for seed in (0, 1)]
    runs.append(poison(make_run(tmp_path / "five", dim=5)))
    pages = [report(runs[0]), report(runs[2]), compare(runs, tmp_path / "out")]
    texts = [path.read_text() for path in pages]
    (runs[1] / "result.json").unlink()  # while it goes on
    (runs[1] / "solution.npz").unlink()
    texts += [report(runs[1]).read_text(), now(Run(runs[0]).metrics)]
    for text in texts:
        assert SCRIPT in Page(text).text
        assert "<script" not in text.lower() and "script" not in Page(text).tags
        assert set(Page(text).tags) <= KNOWN_TAGS
    # the page of a run that goes on has one script, its own
    page = shell(SCRIPT, "once")
    assert Page(page).tags.count("script") == 1 and "<script nonce=" in page
    assert SCRIPT in Page(page).text and SCRIPT not in page


def test_the_policy_allows_no_script_and_one_style_by_its_hash(tmp_path, blank):
    text = report(make_run(tmp_path / "run")).read_text()
    (policy,) = (line for line in text.splitlines() if "Content-Security-Policy" in line)
    assert "default-src &#39;none&#39;" in policy and "script-src" not in policy
    assert "unsafe" not in policy and "style=" not in text
    assert "unsafe" not in shell("a", "once") and "&#39;nonce-once&#39;" in shell("a", "once")


def test_no_template_lets_a_text_through():
    folder = Path(report.__globals__["__file__"]).parent / "templates"
    for template in folder.iterdir():
        text = template.read_text()
        assert "|safe" not in text.replace(" ", "") and "autoescape" not in text, template


@pytest.mark.parametrize(
    ("name", "text", "key"),
    [
        ("metrics.jsonl", None, "metrics.jsonl"),
        ("metrics.jsonl", '{"step": 1', "metrics.jsonl"),
        ("metrics.jsonl", '{"step": 1}\n{"step": 2, "seconds": 1}', "line 1.*seconds"),
        ("metrics.jsonl", '[1]\n{"step": 2, "seconds": 1}', "line 1"),
        ("metrics.jsonl", '{"step": 1e400, "seconds": 1}\n{}', "line 1.*step"),
        ("metrics.jsonl", '{"step": 1, "seconds": NaN}', "seconds"),
        ("metrics.jsonl", '{"step": 1, "seconds": 1, "terms": [1]}', "terms"),
        ("metrics.jsonl", '{"step": 1, "seconds": 1, "terms": {"a": "b"}}', "terms.a"),
        ("metrics.jsonl", '{"step": 1, "seconds": 1, "l2_error": {}}', "l2_error"),
        ("metrics.jsonl", '{"step": 1, "seconds": 1, "rank": "many"}', "rank"),
        ("metrics.jsonl", "[" * 100_000 + "\n{}", "line 1"),
        ("metrics.jsonl", b"\xff\xfe", "metrics.jsonl"),
        ("result.json", "{", "result.json"),
        ("result.json", "[1, 2]", "result.json"),
        ("result.json", '{"P": 1' + "0" * 5000 + "}", "result.json"),
        ("result.json", "3", "result.json"),
        ("result.json", '{"slabs": 3}', "slabs"),
        ("result.json", '{"slabs": [3]}', "slabs"),
        ("result.json", '{"seconds_by_part": {"a": null}}', "seconds_by_part.a"),
        ("result.json", '{"reason": 7}', "reason"),
        ("result.json", '{"problem": {}}', "problem"),
        ("result.json", '{"overfitted": {"a": 1}}', "overfitted"),
        ("result.json", '{"devices": "two"}', "devices"),
        ("result.json", '{"l2_error": "small"}', "l2_error"),
        ("result.json", '{"l2_error": 1' + "0" * 400 + "}", "l2_error"),
        ("result.json", b"\xff", "result.json"),
        ("environment.json", "null", "environment.json"),
        ("environment.json", '{"devices": 2}', "devices"),
        ("environment.json", '{"processes": "x"}', "processes"),
        ("config.toml", "[problem", "config.toml"),
        ("config.toml", "problem = 3", "problem"),
        ("config.toml", "a = 1" + "0" * 5000, "config.toml"),
        ("config.toml", "[run]\nseed=1\n[[data]]", "data"),
        ("config.toml", b"\xff", "config.toml"),
        ("solution.npz", "PK", "solution.npz"),
        ("spectra.npz", "", "spectra.npz"),
        ("diagnostics/a.json", None, "a.json"),
        ("diagnostics/a.json", "[]", "a.json"),
        ("diagnostics/a.json", '{"title": "a"}', "alt"),
        ("diagnostics/a.json", '{"title": ["a"], "alt": "b"}', "title"),
        ("diagnostics/a.json", '{"title": "a", "alt": "b", "final": "c"}', "final"),
    ],
)
def test_broken_files_are_named(tmp_path, blank, name, text, key):
    run = make_run(tmp_path / "run")
    (run / "diagnostics").mkdir()
    (run / "diagnostics" / "a.png").write_bytes(b"png")
    (run / "diagnostics" / "a.json").write_text('{"title": "a", "alt": "b"}')
    file = run / name
    if text is None:
        file.unlink()
    else:
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(RunError, match=f"(?s){key}"):
        report(run)
    assert not (run / "report.html").exists()
    if name in ("metrics.jsonl", "result.json", "config.toml"):
        with pytest.raises(RunError, match=f"(?s){key}"):
            compare([run], tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "key", "change"),
    [
        ("spectra", "step", lambda a: a.astype(float)),
        ("spectra", "step", lambda a: None),
        ("spectra", "rce", lambda a: a[:, :-1]),
        ("spectra", "rce", lambda a: a.astype(str)),
        ("spectra", "rank", lambda a: a[:3]),
        ("spectra", "cutoff", lambda a: a[:, None]),
        ("spectra", "singular_values", lambda a: a[:, :0]),
        ("spectra", "singular_values", lambda a: np.array([{}], object)),
        ("solution", "u", lambda a: a[:5]),
        ("solution", "u", lambda a: a[:, 0]),
        ("solution", "u", lambda a: None),
        ("solution", "x", lambda a: a + np.nan),
        ("solution", "x", lambda a: a[0, 0]),
        ("solution", "reference", lambda a: a.astype(complex)),
        ("solution", "axis_0", lambda a: a[:-1]),
        ("solution", "axis_1", lambda a: a[None]),
        ("solution", "axis_1", lambda a: a.astype(str)),
        ("solution", "points_interior", lambda a: a[:, :1]),
        ("solution", "points_interior", lambda a: a.astype(str)),
    ],
)
def test_arrays_that_do_not_fit_are_named(tmp_path, blank, name, key, change):
    run = make_run(tmp_path / "run")
    arrays = dict(np.load(run / f"{name}.npz"))
    changed = change(arrays.pop(key))
    np.savez(run / f"{name}.npz", **arrays | ({} if changed is None else {key: changed}))
    with pytest.raises(RunError, match=f"{name}.npz"):
        report(run)


def test_a_damaged_file_of_arrays_is_named(tmp_path):
    run = make_run(tmp_path / "run")
    whole = (run / "spectra.npz").read_bytes()
    for at in range(0, len(whole), len(whole) // 40):
        damaged = whole[:at] + bytes(b ^ 0xFF for b in whole[at : at + 50]) + whole[at + 50 :]
        (run / "spectra.npz").write_bytes(damaged)
        with suppress(RunError):
            Run(run).arrays("spectra.npz")  # or else the values changed, and no more


@pytest.mark.parametrize("key", ["slice_axes", "slice_nodes", "slice_at", "slice_u"])
def test_slices_that_do_not_fit_are_named(tmp_path, blank, key):
    run = make_run(tmp_path / "run", dim=5)
    arrays = dict(np.load(run / "solution.npz"))
    for changed in (None, arrays[key][:1], arrays[key] * 100, np.zeros(3)):
        if key in ("slice_at", "slice_u", "slice_nodes") and changed is not None:
            if changed.shape == arrays[key].shape:
                continue  # other numbers, which may be
        more = {} if changed is None else {key: changed}
        rest = {k: v for k, v in arrays.items() if k != key}
        np.savez(run / "solution.npz", **rest | more)
        with pytest.raises(RunError, match="solution.npz"):
            report(run)


def test_folders_that_are_no_runs_are_named(tmp_path):
    with pytest.raises(RunError, match="nowhere"):
        report(tmp_path / "nowhere")
    make_run(tmp_path / "runs" / "seed1")
    with pytest.raises(RunError, match="seed1"):
        report(tmp_path / "runs")


def test_what_is_odd_but_harmless_is_shown(tmp_path, blank):
    run = make_run(tmp_path / "run")
    result = json.loads((run / "result.json").read_text())
    odd = {"deep": {"a": [1]}, "list": [1.0, None, "a"], "lone": "\ud800", "nothing": None}
    (run / "result.json").write_text(json.dumps(result | odd))
    rows = Page(report(run).read_text(encoding="utf-8")).rows
    assert ["list", "1, not known, a"] in rows and ["nothing", "not known"] in rows
    (row,) = summary([run])
    assert "heat" in cells(row)
