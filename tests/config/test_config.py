"""Configurations: what is read, what is refused, and how the refusal is worded."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import tomli_w
from pydantic import ValidationError

from distgram.config.build import setup
from distgram.config.schema import Config, check, dump, load
from distgram.errors import ConfigError, ModelError, ProblemError, RuleError, UserError

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.toml"))

TEXT = """
[problem]
name = "laplace2d"
[model]
hidden = [8, 8]
[points]
interior = {count = 100}
boundary = {count = 40, sampler = "grid"}
[rule]
name = "anagram"
cutoff = 1e-6
"""


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text(TEXT, encoding="utf-8")
    return file


def tree(**changes):
    """The configuration of TEXT as dictionaries; `section__key = value` changes one of them."""
    out = tomllib.loads(TEXT)
    for key, value in changes.items():
        *parts, last = key.split("__")
        here = out
        for part in parts:
            here = here.setdefault(part, {})
        here[last] = value
    return out


def refused(changed, kind: type[UserError] = ConfigError) -> str:
    with pytest.raises(kind) as error:
        setup(check(changed))
    message = str(error.value)
    assert "\n" not in message and message.endswith(".")
    return message


def test_values_and_defaults(path):
    config = load(path)
    assert config.problem.name == "laplace2d" and config.model.hidden == [8, 8]
    assert config.points["boundary"].sampler == "grid"
    assert config.points["interior"].count == 100
    assert config.rule.name == "anagram" and config.rule.cutoff == 1e-6
    assert config.model.activation == "tanh" and config.run.seed == 0
    assert config.rule.line_search.name == "grid"


@pytest.mark.parametrize(
    "changes, key, near",
    [
        ({"modle": {}}, "modle", "model"),
        ({"model__activaton": "tanh"}, "model.activaton", "activation"),
        ({"run__step": 10}, "run.step", "steps"),
        ({"problem__nmae": "heat"}, "problem.nmae", "name"),
        ({"points__interior__cuont": 5}, "points.interior.cuont", "count"),
        ({"points__interior__focus": {"axs": 0}}, "points.interior.focus.axs", "axis"),
        ({"rule__cutof": 1e-3}, "rule.cutof", "cutoff"),
        ({"rule__line_search": {"name": "grid", "cont": 3}}, "rule.line_search.cont", "count"),
        (
            {"rule__line_search": {"name": "backtracking", "armjo": 3}},
            "rule.line_search.armjo",
            "armijo",
        ),
        ({"memory__chunks": 5}, "memory.chunks", "chunk"),
    ],
)
def test_an_unknown_key_names_the_nearest(changes, key, near):
    message = refused(tree(**changes))
    assert message.startswith(f"unknown key '{key}': did you mean '{near}'?")


def test_a_key_like_nothing_lists_the_keys():
    message = refused(tree(run__qqqq=1))
    assert "unknown key 'run.qqqq'" in message and "did you mean" not in message
    assert "steps" in message and "seed" in message


def test_a_key_of_another_rule_is_unknown():
    message = refused(tree(rule__epsilon=1e-8))
    assert "unknown key 'rule.epsilon'" in message and "cutoff" in message


@pytest.mark.parametrize(
    "name, near", [("anagramm", "anagram"), ("amstragram", "amstramgram"), ("adamm", "adam")]
)
def test_an_unknown_rule_names_the_nearest(name, near):
    message = refused(tree(rule={"name": name}))
    assert message.startswith(f"rule.name = '{name}' is not known: did you mean '{near}'?")


@pytest.mark.parametrize(
    "changes, key, value",
    [
        ({"run__steps": "many"}, "run.steps", "'many'"),
        ({"run__steps": 1.5}, "run.steps", "1.5"),
        ({"run__time_budget_s": float("inf")}, "run.time_budget_s", "inf"),
        ({"model__hidden": [8, 0.5]}, "model.hidden.1", "0.5"),
        ({"model__gain": float("nan")}, "model.gain", "nan"),
        ({"model__activation": 3}, "model.activation", "3"),
        ({"rule__cutoff": "small"}, "rule.cutoff", "'small'"),
    ],
)
def test_a_value_of_another_type_is_named_with_its_key(changes, key, value):
    assert refused(tree(**changes)).startswith(f"{key} = {value}: ")


FOCUS = {"axis": 0, "center": 0.0, "width": 1.0, "fraction": 0.5}


@pytest.mark.parametrize(
    "changes, key, value, kind",
    [
        ({"run__steps": -1}, "run.steps", "-1", UserError),
        ({"run__min_decrease": 1.0}, "run.min_decrease", "1.0", UserError),
        ({"run__target_l2": 0.0}, "run.target_l2", "0.0", UserError),
        ({"run__log_every": 0}, "run.log_every", "0", UserError),
        ({"model__hidden": []}, "model.hidden", "()", ModelError),
        ({"model__hidden": [8, 0]}, "model.hidden", "(8, 0)", ModelError),
        ({"model__stretch": [{"axis": 0, "center": 0.5, "width": 0.0}]}, "model.stretch.0.width",
         "0.0", ModelError),
        ({"points__interior__count": 0}, "points.interior.count", "0", ProblemError),
        ({"points__interior__focus": FOCUS | {"fraction": 1.0}}, "points.interior.focus.fraction",
         "1.0", ProblemError),
        ({"rule": {"name": "adaptive_ratio", "window": 0.0}}, "rule.window", "0.0", RuleError),
        ({"rule__line_search": {"name": "grid", "count": 0}}, "rule.line_search.count", "0",
         RuleError),
        ({"sampling": {"name": "rad", "every": 0}}, "sampling.every", "0", RuleError),
        ({"sampling": {"name": "rad", "every": 1, "grow": {"budget": 9, "factor": 1.0}}},
         "sampling.grow.factor", "1.0", RuleError),
        ({"problem__name": "burgers", "unknown": {"viscosity": {"initial": 1.0, "scale": -1.0}}},
         "unknown.viscosity.scale", "-1.0", ProblemError),
        ({"time": {"slabs": 0}}, "time.slabs", "0", ProblemError),
        ({"memory__budget_gib": 0.0}, "memory.budget_gib", "0.0", UserError),
    ],
)  # fmt: skip
def test_a_value_outside_its_range_is_named_with_its_key(changes, key, value, kind):
    """The objects refuse it; the config says where it stands."""
    assert refused(tree(**changes), kind).startswith(f"{key} = {value}: ")


def test_exactly_one_of_name_and_file():
    for problem in ({}, {"name": "heat", "file": "my.py"}):
        message = refused(tree(problem=problem))
        assert "exactly one of 'name'" in message and "'file'" in message


def test_a_missing_problem():
    changed = tree()
    del changed["problem"]
    assert refused(changed) == "problem is missing."


@pytest.mark.parametrize("points", [None, {}])
def test_points_may_be_left_out(points):
    """All of them: the run then chooses. Some of them: that is a mistake."""
    changed = tree()
    del changed["points"]
    if points is not None:
        changed["points"] = points
    assert setup(check(changed)).points is None


def test_a_rule_without_a_name_lists_them():
    message = refused(tree(rule={"cutoff": 1e-6}))
    assert "rule.name is missing" in message and "anagram" in message


@pytest.mark.parametrize(
    "override, read",
    [
        ("run.steps=7", lambda c: c.run.steps == 7),
        ("run.steps = 7", lambda c: c.run.steps == 7),
        ("model.hidden=[3,4]", lambda c: c.model.hidden == [3, 4]),
        ("model.activation=sin", lambda c: c.model.activation == "sin"),
        ("model.activation='sin'", lambda c: c.model.activation == "sin"),
        ("model.activation_scale=true", lambda c: c.model.activation_scale is True),
        ("rule.cutoff=1e-3", lambda c: c.rule.cutoff == 1e-3),
        ("points.interior.count=9", lambda c: c.points["interior"].count == 9),
        ("points.interior={count=9}", lambda c: c.points["interior"].count == 9),
        ("memory.chunk=16", lambda c: c.memory.chunk == 16),  # a table that the file has not
    ],
)
def test_overrides(path, override, read):
    assert not read(load(path))
    assert read(load(path, [override]))


def test_the_last_override_counts(path):
    assert load(path, ["run.steps=1", "run.steps=2"]).run.steps == 2


@pytest.mark.parametrize(
    "override, message",
    [
        ("run.steps", "expected key.sub=value"),
        ("=3", "expected key.sub=value"),
        ("run..steps=3", "expected key.sub=value"),
        ("problem.name.x=3", "'name' is a value"),
        ("run.stpes=3", "did you mean 'steps'"),
        ("run.steps=abc", "run.steps = 'abc'"),
    ],
)
def test_overrides_that_cannot_be(path, override, message):
    with pytest.raises(ConfigError) as error:
        load(path, [override])
    assert message in str(error.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="missing.toml"):
        load(tmp_path / "missing.toml")


@pytest.mark.parametrize("content", [b"[problem\n", b"a = \xff\n", b"a = 1\na = 2\n"])
def test_a_file_that_is_no_toml(tmp_path, content):
    file = tmp_path / "bad.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"bad\.toml.* is not valid TOML"):
        load(file)


def test_a_problem_file_is_found_beside_the_config(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text(TEXT.replace('name = "laplace2d"', 'file = "my_pde.py"'), encoding="utf-8")
    assert load(file).problem.file == str(tmp_path / "my_pde.py")


def test_a_config_does_not_change(path):
    config = load(path)
    with pytest.raises(ValidationError):
        config.run.steps = 3  # type: ignore[misc]


@pytest.mark.parametrize("file", CONFIGS, ids=lambda f: f.stem)
def test_what_is_written_reads_the_same(file, tmp_path):
    """Every config of the project, through a config.toml and back; 40 lines at most."""
    config = load(file)
    copy = tmp_path / "config.toml"
    copy.write_text(tomli_w.dumps(dump(config)), encoding="utf-8")
    assert load(copy) == config
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 40


def test_there_are_configs():
    assert len(CONFIGS) >= 6


@pytest.mark.parametrize(
    "rule",
    [
        {"name": "adaptive_ratio", "trials": 6},
        {"name": "anagram", "relative_cutoff": 1e-5, "line_search": {"name": "backtracking"}},
        {"name": "amstramgram", "epsilon": 1e-8, "line_search": {"name": "grid", "count": 5}},
        {"name": "extrapolation", "validation": 64},
        {"name": "engd"},
        {"name": "adam", "learning_rate": 1e-2},
        {"name": "lbfgs"},
        {"name": "ssbroyden"},
    ],
    ids=lambda r: r["name"],
)
def test_every_rule_is_written_and_read(rule):
    config = check(tree(rule=rule))
    assert config.rule.name == rule["name"]
    again = Config.model_validate(tomllib.loads(tomli_w.dumps(dump(config))))
    assert again == config


def test_the_default_rule_is_the_one_of_the_best_configs():
    without = tree()
    del without["rule"]
    assert check(without).rule.name == "adaptive_ratio"
