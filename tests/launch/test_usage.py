"""A command line that cannot be read: one sentence with what is nearest, exit code 2."""

from __future__ import annotations

import pytest


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
