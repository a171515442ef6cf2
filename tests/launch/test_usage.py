"""A command line that cannot be read: one sentence with what is nearest, exit code 2."""

from __future__ import annotations

import click
import pytest
from distgram_launch import options
from distgram_launch.cli import app
from typer.main import get_command

from distgram.errors import ConfigError

VERBS = """Add Compare Count Draw Drop Find Fix Give Join Plan Print Reach Read Replace Restart Run
    Serve Set Show Start Take Upload Use Wait Write""".split()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["solve"], ["missing argument 'CONFIG'. `distgram solve -h`"]),
        (["solv", "a.toml"], ["'solv': did you mean 'solve'? `distgram -h`"]),
        (["solve", "--sed", "3"], ["no such option: --sed: did you mean '--seed'?"]),
        (["solve", "a.toml", "--zzz"], ["no such option: --zzz. `distgram solve -h`"]),
        (["solve", "a.toml", "--seed", "x"], ["'--seed'", "integer"]),
        (["solve", "a.toml", "--seed"], ["'--seed' requires an argument. "]),
        (["solve", "a.toml", "b.toml"], ["unexpected extra argument", "b.toml"]),
        (["solve", "a.toml", "--json=3"], ["'--json'"]),
        (["diagnose", "run", "--at", "0,0"], ["missing option '--kernel'", "`distgram diagnose"]),
        (["eval", "run", "--at", "a.csv", "--derivatives", "7"], ["'--derivatives'", "2"]),
        (["--versio"], ["no such option: --versio"]),
    ],
)
def test_a_wrong_command_line_is_one_sentence(folder, arguments, words):
    sentence = folder.call(*arguments).sentence
    for word in ("distgram: ", *words):
        assert word in sentence, sentence
    assert folder.folders() == []


def test_without_a_command_there_is_help_and_no_complaint(folder):
    ended = folder.call()
    assert ended.code == 2 and ended.err == "" and "Usage: distgram" in ended.out, ended


@pytest.mark.parametrize("arguments", [["--help"], ["solve", "-h"]])
def test_help_is_a_success(folder, arguments):
    ended = folder.call(*arguments)
    assert ended.code == 0 and ended.err == "" and "Usage: distgram" in ended.out, ended


def commands() -> dict[str, click.Command]:
    group = get_command(app)
    return {name: command for name, command in group.commands.items()}  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", commands())
def test_every_option_says_what_it_does(name):
    """With a verb, of which there are few, and a full stop."""
    for option in commands()[name].params:
        help = getattr(option, "help", None) or ""
        assert help.split()[0] in VERBS and help.endswith("."), (name, option.name, help)
        assert "[" not in help, help  # rich takes it for markup


def test_options_for_keys_of_the_config_come_after_set():
    given = options.overrides(
        steps=9,
        tolerance=1e-8,
        seed=3,
        points=["interior=64", "edge=32"],
        hidden="20,20",
        set_=["run.seed=1"],
    )
    assert given == [
        *("run.seed=1", "run.steps=9", "run.tolerance=1e-08", "run.seed=3"),
        *("points.interior.count=64", "points.edge.count=32", "model.hidden=[20,20]"),
    ]
    for wrong in ("interior", "=64", "interior="):
        with pytest.raises(ConfigError, match="--points"):
            options.overrides(points=[wrong])
    assert options.overrides() == []


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (("--points", "interior=many"), "points.interior.count"),
        (("--points", "inside=64"), "points.inside"),
        (("--hidden", "20;20"), "model.hidden"),
        (("--hidden", "0"), "model.hidden"),
        (("--tolerance", "-1"), "run.tolerance"),
        (("--steps", "-1"), "run.steps"),
    ],
)
def test_a_wrong_value_names_the_key(folder, arguments, key):
    assert key in folder.solve(*arguments).sentence
    assert folder.folders() == []
