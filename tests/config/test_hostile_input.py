"""Input of every odd kind: exit code 0, 1 or 2, one sentence, and nothing outside --out touched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_runs import TINY

import distgram
from distgram.errors import RunError

HEAT = TINY.replace("laplace2d", "heat")


def with_data(name: str, file: str) -> str:
    """The tiny config with a file of measurements."""
    return f'{TINY}[data."{name}"]\nfile = "{file}"\n'


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("points.interior.count=1000000000000", ["points.interior.count", "memory.budget_gib"]),
        (f"points.interior.count={2**70}", ["points.interior.count", str(2**70)]),
        ("run.held_out=1000000000000", ["run.held_out", "memory.budget_gib"]),
        (f"run.held_out={2**70}", ["run.held_out", str(2**70)]),
        ("model.hidden=[1000000000]", ["model.hidden", "4000000001 parameters"]),
        (f"model.hidden=[{2**70}]", ["model.hidden", str(2**70)]),
        ("rule={name='extrapolation',validation=1000000000000}", ["rule.validation"]),
        ("memory.budget_gib=1e-300", ["memory.budget_gib", "1e-300"]),
        ("memory.budget_gib=inf", ["memory.budget_gib", "inf"]),
        ("time.slabs=1000000000", ["time.slabs", "at most"]),
        ("a=" + "[" * 2000 + "]" * 2000, ["--set", "recursion"]),
        ("a=1" + "0" * 5000, ["--set", "digits"]),
    ],
    ids=lambda part: part[:40] if isinstance(part, str) else "",
)
def test_a_number_beyond_all_memory_is_refused_at_once(folder, setting, words):
    sentence = folder.solve("--set", setting, text=HEAT if "time" in setting else TINY).sentence
    for word in words:
        assert word in sentence, sentence
    assert folder.folders() == []


@pytest.mark.parametrize(
    "setting",
    [
        *(f"run.{key}={2**70}" for key in ("log_every", "checkpoint_every", "patience")),
        *(f"memory.{key}={2**70}" for key in ("chunk", "row_block")),
        "memory.budget_gib=1e300",
    ],
)
def test_another_large_number_is_right(folder, setting):
    assert folder.solve("--set", setting, "--set", "run.steps=1").code == 0


def test_a_device_without_memory_is_a_sentence(folder, monkeypatch):
    def full(*_, **__):
        raise MemoryError("Unable to allocate 9 TiB")

    monkeypatch.setattr("distgram_launch.local.run", full)
    assert "not enough memory" in folder.solve().sentence


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a = " + b"[" * 2000 + b"]" * 2000, ["nested too deeply"]),
        (b"a = 1" + b"0" * 5000, ["not valid TOML", "digits"]),
        (TINY.encode("utf-16"), ["not valid TOML"]),
        (b'[problem]\nfile = "a\\u0000b.py"\n', ["a\\x00b.py"]),
        (with_data(name="a", file="a\\u0000b.csv").encode(), ["a\\x00b.csv"]),
        (with_data(name="../../a", file="b.csv").encode(), ["../../a"]),
        (with_data(name="a\\u0000", file="b.csv").encode(), ["a\\x00"]),
    ],
)
def test_a_config_of_an_odd_kind_is_named(folder, content, words):
    (folder.path / "odd.toml").write_bytes(content)
    command = ("solve", folder.path / "odd.toml", "--out", folder.path / "run")
    sentence = folder.call(*command).sentence
    for word in words:
        assert word in sentence, sentence
    assert folder.folders() == []


def test_a_config_with_a_byte_order_mark_is_read(folder):
    (folder.path / "marked.toml").write_bytes(b"\xef\xbb\xbf" + TINY.encode())
    assert folder.call("check", folder.path / "marked.toml").code == 0


@pytest.mark.parametrize("out", ["", "a\0b", "~nobody-of-this-name/a"])
def test_an_out_that_is_no_path_is_named(folder, monkeypatch, out):
    monkeypatch.chdir(folder.path)
    config = folder.write("tiny.toml", TINY)
    assert "expected a path" in folder.call("solve", config, "--out", out).sentence
    assert "expected a path" in folder.call("resume", out).sentence
    assert folder.folders() == []


def test_a_tilde_is_the_home(folder, monkeypatch):
    home = folder.path / "home"
    home.mkdir()
    monkeypatch.chdir(folder.path)
    monkeypatch.setenv("HOME", str(home))
    config = folder.write("tiny.toml", TINY)
    ended = folder.call("solve", config, "--out", "~/run", "--set", "run.steps=1", "--devices", 1)
    assert ended.code == 0 and (home / "run" / "config.toml").is_file()
    assert folder.folders() == ["home"]


@pytest.mark.parametrize("cell", ["1_0", "１", "٣", "0x1", "1e", "1d0", "infinity", "nan", "1 0"])
def test_a_cell_that_is_no_plain_number_is_named(folder, cell):
    folder.write("data.csv", f"x,y,u\n0.5,0.5,{cell}\n")
    sentence = folder.solve(text=with_data(name="a", file="data.csv")).sentence
    assert "row 1, column 'u'" in sentence and cell in sentence


@pytest.mark.parametrize("cell", ["1", " 1 ", "+1.", "-.5", "1e-3", "1E+3", '"1"'])
def test_a_plain_number_is_read(folder, cell):
    folder.write("data.csv", f"x,y,u\n0.5,0.5,{cell}\n")
    text = with_data(name="a", file="data.csv")
    assert folder.solve("--set", "run.steps=1", text=text).code == 0


@pytest.fixture(scope="module")
def solved(tmp_path_factory) -> Path:
    """A short run. Its files are spoilt, and put back."""
    from cli_runs import Folder, no_figures

    folder = Folder(tmp_path_factory.mktemp("solved"))
    with pytest.MonkeyPatch.context() as patch:
        no_figures(patch)
        assert folder.solve("--set", "run.steps=2").code == 0
    return folder.path / "run"


@pytest.mark.parametrize("step", ["²", "٣", "9" * 5000, "-1", "1.0"])
def test_a_step_that_is_no_number_is_named(folder, solved, step):
    points = folder.write("points.csv", "x,y\n0.5,0.5\n")
    assert "final" in folder.call("eval", solved, "--at", points, "--step", step).sentence
    assert "--steps" in folder.call("report", solved, "--steps", step).sentence
    (solved / "checkpoints" / "²").mkdir(exist_ok=True)
    assert folder.call("eval", solved, "--at", points).code == 0


@pytest.mark.parametrize("text", ["[1]", "{}", "3", "null", "{", "[" * 10**5, '{"reason": 7}'])
def test_a_result_of_another_shape_is_a_sentence(folder, solved, text):
    path, points = solved / "result.json", folder.write("points.csv", "x,y\n0.5,0.5\n")
    kept = path.read_bytes()
    try:
        path.write_text(text)
        ended = folder.call("eval", solved, "--at", points)
        damaged = text.startswith('{"reason"')  # of the shape of a result; others are passed over
        assert ended.code == (2 if damaged else 0) and "Traceback" not in ended.err
        path.write_text(json.dumps(json.loads(kept) | {"reason": None}))
        (solved / "environment.json").write_text(text)
        assert folder.call("eval", solved, "--at", points).code == 0
        path.write_text('{"reason": 7}')
        with pytest.raises(RunError, match="result.json"):
            distgram.load(solved)
    finally:
        path.write_bytes(kept)
