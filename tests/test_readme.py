"""Each code block of README.md: Python runs, TOML is a config, commands are understood."""

from __future__ import annotations

import re
import shlex
import tomllib

import pytest
import typer
from distgram_launch.cli import app
from readme import README, blocks, write

from distgram.config.schema import check, load
from distgram.pde.operators import partial
from distgram.pde.registry import load_file

SMALL = ["run.steps=2", "run.held_out=64", "points.interior.count=64", "points.boundary.count=32"]
BLOCKS = blocks()


def of(*languages: str) -> list:
    """The blocks in some languages, as parameters named by their line."""
    chosen = [block for block in BLOCKS if block.language in languages]
    return [pytest.param(block, id=f"line {block.line}") for block in chosen]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the files of the page and the run that it makes of its own equation."""
    from cli_runs import Folder, no_figures

    folder = tmp_path_factory.mktemp("readme")
    assert {"helmholtz.py", "helmholtz.toml"} <= set(write(folder))
    sets = [word for text in SMALL for word in ("--set", text)]
    with pytest.MonkeyPatch.context() as patch:
        no_figures(patch)
        patch.chdir(folder)
        ended = Folder(folder).call("solve", "helmholtz.toml", *sets, "--devices", 1)
    assert ended.code == 0, ended
    return folder


def test_every_block_is_in_a_language_that_is_tested():
    assert {block.language for block in BLOCKS} == {"console", "python", "toml"}
    # every fence is one of these blocks
    assert README.read_text(encoding="utf-8").count("```") == 2 * len(BLOCKS)


@pytest.mark.parametrize("block", of("python"))
def test_python_runs(block, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    exec(compile(block.text, f"README.md, line {block.line}", "exec"), {"__name__": "readme"})
    if "print(" in block.text:
        assert re.search(r"\d", capsys.readouterr().out)


@pytest.mark.parametrize("block", [p for p in of("python") if p.values[0].file])
def test_exact_solutions_of_the_problems_solve_them(block, place):
    import jax
    import numpy as np

    problem = load_file(str(place / block.file), {})
    assert problem.exact is not None
    for term in problem.terms:
        x = term.region.sample(50, 0)
        left, right = (jax.vmap(f)(x) for f in (term.operator(problem.exact), term.target))
        np.testing.assert_allclose(left - right, 0.0, atol=1e-13 * 5 * np.pi**2)
    assert partial(problem.exact, 0)(x[0]).shape == (problem.outputs,)


@pytest.mark.parametrize("block", of("toml"))
def test_configs_are_configs(block, place):
    tree = tomllib.loads(block.text)
    if "problem" not in tree:  # a table of the config that the page begins with
        tree = tomllib.loads((place / "helmholtz.toml").read_text()) | tree
    config = check(tree)
    if block.file:
        assert load(place / block.file).problem.file == str(place / "helmholtz.py")
    for table, keys in tomllib.loads(block.text).items():
        assert config.model_dump(exclude_unset=True, mode="json")[table] == keys


@pytest.mark.parametrize("block", of("console"))
def test_commands_are_understood(block):
    group = typer.main.get_command(app)
    for line in block.text.splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["make"]:
            targets = re.findall(r"^([\w./$()-]+):", (README.parent / "Makefile").read_text(), re.M)
            assert words[1] in [t.replace("$(VENV)", ".venv") for t in targets], line
        elif words[:1] == ["distgram"]:
            root = group.make_context("distgram", words[1:], resilient_parsing=False)
            _, command, rest = group.resolve_command(root, words[1:])  # type: ignore
            command.make_context(words[1], list(rest), parent=root)
        else:
            assert not words or words == ["source", ".venv/bin/activate"], line


def test_every_picture_is_there_is_small_and_has_words():
    pictures = re.findall(r"!\[([^]]*)\]\(([^)]*)\)", README.read_text(encoding="utf-8"))
    assert len(pictures) == 4
    for words, file in pictures:
        data = (README.parent / file).read_bytes()
        assert data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) < 200_000, file
        assert len(words) > 80, file


def test_a_picture_in_few_colours_keeps_the_rare_ones(tmp_path):
    from bench.talk import small
    from PIL import Image

    rare = (5, 48, 97)
    picture = Image.linear_gradient("L").convert("RGB").resize((1000, 1000))
    picture.paste(rare, (0, 0, 30, 30))
    picture.save(tmp_path / "large.png")
    small(tmp_path / "large.png", tmp_path / "small.png")
    with Image.open(tmp_path / "small.png") as copy:
        found = copy.convert("RGB").getpixel((15, 15))
    assert max(abs(a - b) for a, b in zip(found, rare, strict=True)) <= 8
