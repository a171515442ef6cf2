"""The READMEs: Python runs, TOML is a config, commands are understood, tables are those of the
result files, links and pictures are there."""

from __future__ import annotations

import re
import shlex
import shutil
import tomllib

import pytest
import typer
from bench import tables
from distgram_launch.cli import app
from readme import PAGES, ROOT, blocks, text, write

from distgram.config.schema import check, load
from distgram.pde.registry import load_file

SMALL = ["run.steps=2", "run.held_out=64", "points.interior.count=64", "points.edge.count=32"]
BLOCKS = blocks()
LINK = re.compile(r"(!?)\[([^]]*)\]\(([^)\s]+)\)")


def of(*languages: str, files: bool = False) -> list:
    """The blocks in some languages, as parameters named by their place."""
    return [
        pytest.param(
            block,
            id=f"{block.page}:{block.line}",
            marks=[pytest.mark.slow] if "dg.solve(" in block.text else [],
        )
        for block in BLOCKS
        if block.language in languages and (block.file or not files)
    ]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the files of the pages and the runs that they make of their own equation: from
    the config, and from Python."""
    from cli_runs import Folder, no_figures

    import distgram as dg
    from distgram.linalg.mesh import make_mesh

    folder = tmp_path_factory.mktemp("readme")
    assert {"helmholtz.py", "helmholtz.toml", "wave.py"} <= set(write(folder))
    sets = [word for setting in SMALL for word in ("--set", setting)]
    with pytest.MonkeyPatch.context() as patch:
        no_figures(patch)
        patch.chdir(folder)
        ended = Folder(folder).call("solve", "helmholtz.toml", *sets, "--devices", 1)
    assert ended.code == 1 and "target was not reached" in ended.err + ended.out, ended
    network, points = dg.MLP([4]), {"interior": 64, "edge": 32}
    problem, options = load_file(folder / "helmholtz.py"), {"steps": 2, "progress": False}
    u = dg.solve(problem, network=network, points=points, mesh=make_mesh(1), **options)
    u.save(folder / "runs" / "helmholtz")
    return folder


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_in_a_language_that_is_tested(page):
    here = [block for block in BLOCKS if block.page == page]
    assert {block.language for block in here} <= {"console", "python", "toml"}
    # every fence is one of these blocks
    assert text(page).count("```") == 2 * len(here)


@pytest.mark.parametrize("block", of("python"))
def test_python_runs(block, place, tmp_path, monkeypatch, capsys):
    """On one device. A run folder that a block loads is that of `place`: saved from Python, as the
    page does."""
    from distgram.linalg.mesh import make_mesh

    monkeypatch.setattr("distgram.run.front.make_mesh", lambda: make_mesh(1))
    monkeypatch.chdir(tmp_path)
    write(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for folder in re.findall(r'load\("([^"]+)"', block.text):
        shutil.copytree(place / folder, folder)
    code = compile(block.text, f"{block.page}, line {block.line}", "exec")
    exec(code, {"__name__": "__main__"})
    if "print(" in block.text:
        assert re.search(r"\d", capsys.readouterr().out)


@pytest.mark.parametrize("block", of("python", files=True))
def test_exact_solutions_of_the_problems_solve_them(block, place):
    import jax
    import jax.numpy as jnp
    import numpy as np

    problem = load_file(place / block.file)
    assert problem.exact is not None
    for term in problem.terms:
        x = term.region.sample(50, 0)
        residuals = jax.vmap(term.residual(problem.exact))(jnp.asarray(x))
        np.testing.assert_allclose(residuals, 0.0, atol=1e-13 * 5 * np.pi**2)


@pytest.mark.parametrize("block", of("toml"))
def test_configs_are_configs(block, place):
    tree = tomllib.loads(block.text)
    config = check(tree)
    if block.file:
        assert load(place / block.file).problem.file == str(place / "helmholtz.py")
    dumped = config.model_dump(exclude_unset=True, mode="json")
    for table, keys in tree.items():
        assert dumped[table] == keys


@pytest.mark.parametrize("block", of("console"))
def test_commands_are_understood(block):
    group = typer.main.get_command(app)
    for line in block.text.splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["make"]:
            targets = re.findall(r"^([\w./$()-]+):", (ROOT / "Makefile").read_text(), re.M)
            assert words[1] in [t.replace("$(VENV)", ".venv") for t in targets], line
        elif words[:1] == ["distgram"]:
            root = group.make_context("distgram", words[1:], resilient_parsing=False)
            _, command, rest = group.resolve_command(root, words[1:])  # type: ignore
            command.make_context(words[1], list(rest), parent=root)
        else:
            assert not words or words == ["source", ".venv/bin/activate"], line


def test_the_first_page_is_short():
    assert len(text("README.md").splitlines()) <= 150


@pytest.mark.parametrize("page", [str(path.relative_to(tables.ROOT)) for path in tables.PAGES])
def test_tables_are_those_of_the_result_files(page):
    """`make tables` mends it."""
    assert tables.generated(text(page)) == text(page)
    shown = re.findall(r"<!-- table ([\w-]+) -->", text(page))
    assert shown and text(page).count("<!-- end -->") == len(shown)


def test_every_table_is_shown_and_every_result_file_is_in_a_table():
    pages = "".join(text(str(path.relative_to(tables.ROOT))) for path in tables.PAGES)
    assert sorted(re.findall(r"<!-- table ([\w-]+) -->", pages)) == sorted(tables.TABLES)
    for path in tables.RESULTS.glob("*.json"):
        kind, day = path.stem[:-11], path.stem[-10:]
        (result,) = [r for r in tables.results(kind) if r["date"] == day]
        assert {"script", "date", "commit", "machine"} <= set(result), path.name


def test_a_table_is_generated_again_between_its_marks():
    page = "before\n<!-- table step -->\nold\n<!-- end -->\nafter\n"
    new = tables.generated(page)
    assert new.startswith("before\n<!-- table step -->\n| S |") and "old" not in new
    assert new.endswith("*\n<!-- end -->\nafter\n") and tables.generated(new) == new


def test_figures_are_written_as_they_are_read():
    for value, shown in ((2.66e-16, "2.7e-16"), (0.418, "0.42"), (4.8e8, "4.8e8"), (None, "")):
        assert tables.number(value) == shown


def test_every_config_says_what_it_knows_of_the_solution():
    for path in (ROOT / "configs").glob("*.toml"):
        knows = tables.knows(path.stem)
        named = load(path)
        assert ("hard constraint" in knows) == named.model.hard_constraint, path.name
        assert knows == "nothing" or not path.stem.endswith("-anagram"), path.name


def slug(heading: str) -> str:
    """The anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    anchors = {}
    for other in PAGES:
        headings = re.findall(r"^#+ (.*)$", text(other), re.MULTILINE)
        anchors[(ROOT / other).resolve()] = {slug(heading) for heading in headings}
    for _, _, target in LINK.findall(re.sub(r"`[^`\n]*`", "", text(page))):
        if "://" in target or not re.search(r"[./#]", target):  # [u](x) is a formula
            continue
        path, _, anchor = target.partition("#")
        there = ((ROOT / page).parent / path).resolve() if path else (ROOT / page).resolve()
        assert there.exists(), target
        assert not anchor or anchor in anchors[there], target


@pytest.mark.parametrize("page", PAGES)
def test_pictures_are_small_and_have_words(page):
    for words, file in re.findall(r"!\[([^]]*)\]\(([^)]*)\)", text(page)):
        path = (ROOT / page).parent / file
        data = path.read_bytes()
        in_gallery = path.parent.name == "pictures"
        assert data[:8] == b"\x89PNG\r\n\x1a\n", file
        assert len(data) < (60_000 if in_gallery else 200_000), file
        assert len(words) > (10 if in_gallery else 80), file


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
    assert isinstance(found, tuple)
    assert max(abs(a - b) for a, b in zip(found, rare, strict=True)) <= 8
