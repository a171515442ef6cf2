"""`distgram check` for devices here and not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cli_runs import TINY

from distgram.linalg.memory import GIB, Shape, largest_p

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.slow
def test_check_plans_for_devices_that_are_not_there(folder):
    config = CONFIGS / "laplace2d.toml"
    ended = folder.call(
        *("check", config, "--devices", 64, "--set", "points.interior.count=1000000"),
        *("--set", "model.hidden=[70, 70]", "--memory-gib", 8),
    )
    assert ended.code == 0 and folder.folders() == []
    cells = (re.split(" {2,}", line.strip()) for line in ended.out.splitlines())
    rows = {found[0]: found[1:] for found in reversed([*cells])}  # the first of each name
    p = 2 * 70 + 70 + 70 * 71 + 71
    assert rows["P, parameters"] == [str(p)] and rows["devices"] == ["64"]
    assert rows["factorization"] == [f"tsqr (1000000 rows >= P = {p})"]
    assert int(rows["bytes per device, planned"][0]) <= 8 * GIB
    assert "bytes per device, temporaries" not in rows  # nothing is compiled for 64 devices
    assert rows["tsqr"][1:] == [str(largest_p("tsqr", Shape(10**6, p, 64), 8 * GIB)), "any"]


def test_check_shows_the_widths_of_a_randomized_step(folder):
    config = folder.write("tiny.toml", TINY)
    keys = ("name=randomized", "width=4", "capacity=20")
    settings = [word for key in keys for word in ("--set", f"factorization.{key}")]
    ended = folder.call("check", config, "--devices", 64, *settings)
    assert ended.code == 0
    assert "randomized (named)" in ended.out and "4, 8, 16, 20; then none" in ended.out


def test_check_refuses_what_does_not_fit(folder):
    config = folder.write("tiny.toml", TINY)
    wide = ("--set", "model.hidden=[400, 400]", "--set", "points.interior.count=200000")
    for devices in (8, 64):
        sentence = folder.call(
            *("check", config, "--devices", devices, "--memory-gib", 0.5, *wide),
            *("--set", "factorization.name=tsqr"),
        ).sentence
        assert sentence.startswith("distgram: tsqr needs") and "memory.budget_gib = 0.5" in sentence
        most = largest_p("tsqr", Shape(200040, 1, devices), GIB // 2)
        assert f"at most {most} parameters" in sentence
    assert "memory.budget_gib" in folder.call("check", config, "--memory-gib", 0).sentence
    assert folder.call("check", config, "--devices", 0).code == 2


def test_check_of_a_baseline_has_no_factorization(folder):
    config = folder.write("tiny.toml", TINY)
    ended = folder.call("check", config, "--devices", 64, "--set", "rule={name='adam'}")
    assert ended.code == 0 and "factorization" not in ended.out and "SVD" not in ended.out
