"""What is checked, made up and uploaded before a cluster is asked for anything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray
from cli_runs import TINY, environment
from distgram_launch import folders
from distgram_launch.ray.client import check_room
from distgram_launch.ray.cluster import request, take_variables
from distgram_launch.ray.follow import row_of
from distgram_launch.ray.jobs import Job, changed, found_in
from synthetic_runs import make_run

from distgram.config.schema import load
from distgram.errors import ClusterError, ConfigError

# A file that is sound here, and raises where the job's environment has this variable.
BROKEN = """
import os
from distgram.pde.problems.laplace2d import laplace2d as problem

if "BROKEN" in os.environ:
    raise ValueError("no table of coefficients on this host")
"""


def test_a_copy_leaves_out_checkpoints_that_are_not_sealed(tmp_path):
    run = tmp_path / "run"
    for step in ("1", "2.orbax-checkpoint-tmp"):
        (run / "checkpoints" / step / "state").mkdir(parents=True)
        (run / "checkpoints" / step / "state" / "d").write_bytes(b"arrays")
    (run / "checkpoints" / "1" / "seal.json").write_text("{}")
    (run / "metrics.jsonl").write_text("{}")
    folders.fetch(str(run), tmp_path / "copy")
    copied = {str(p.relative_to(tmp_path / "copy")) for p in (tmp_path / "copy").rglob("*")}
    assert {"metrics.jsonl", "checkpoints/1/seal.json", "checkpoints/1/state/d"} < copied
    assert not any("tmp" in name for name in copied)
    folders.copy(run, tmp_path / "light", without=("checkpoints",))
    assert [p.name for p in (tmp_path / "light").iterdir()] == ["metrics.jsonl"]


def test_a_fetch_into_a_folder_that_is_there_is_refused(tmp_path):
    run, out = make_run(tmp_path / "run"), tmp_path / "mine"
    (run / "job.lock").write_text("process 1 on far\n")
    out.mkdir()
    (out / "thesis.txt").write_text("all of it")
    with pytest.raises(ClusterError, match="is there already: choose another --out"):
        folders.fetch(str(run), out)
    assert (out / "thesis.txt").read_text() == "all of it" and len(list(out.iterdir())) == 1
    folders.fetch(str(run), tmp_path / "new")
    assert (tmp_path / "new" / "config.toml").is_file()
    assert not (tmp_path / "new" / "job.lock").exists()


def test_a_stop_is_asked_for_where_there_is_a_run(tmp_path):
    ask = [sys.executable, "-m", "distgram_launch.folders", str(tmp_path)]
    assert subprocess.run(ask, env=environment()).returncode == folders.NOT_BEGUN
    (tmp_path / "config.toml").touch()
    assert subprocess.run(ask, env=environment()).returncode == 0
    assert (tmp_path / "stop").exists()


def test_a_run_that_only_the_cluster_sees_may_be_resumed(tmp_path):
    """Its budgets are not known here; where runs of the storage are seen, a missing one is."""
    job = found_in(str(tmp_path / "away"), "dg-heat-0a1b2c", False, {})
    assert job.run == f"{tmp_path / 'away'}/dg-heat-0a1b2c" and job.limits is None
    assert changed(job.limits, ["run.steps=7"]) is None
    with pytest.raises(ConfigError, match="run.seed"):
        changed(job.limits, ["run.seed=7"])
    (tmp_path / "dg-other-000000").mkdir()
    with pytest.raises(ClusterError, match="dg-other-000000"):
        found_in(str(tmp_path), "dg-heat-0a1b2c", False, {})


def test_variables_of_a_file_that_every_host_has(tmp_path, monkeypatch):
    monkeypatch.setenv("TOKEN", "old")
    (tmp_path / "env").write_text("# secrets\n\nTOKEN=a=b \n")
    take_variables(str(tmp_path / "env"))
    assert os.environ["TOKEN"] == "a=b"
    take_variables(None)
    (tmp_path / "env").write_text("A=1\nhunter2\n")
    with pytest.raises(ClusterError, match="line 2") as told:
        take_variables(str(tmp_path / "env"))
    assert "hunter2" not in str(told.value)
    with pytest.raises(ClusterError, match="every host"):
        take_variables(str(tmp_path / "absent"))


def test_no_cluster_answers(folder, monkeypatch):
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:1")
    sentence = folder.call("ps").sentence
    assert "http://127.0.0.1:1: no Ray cluster answers" in sentence
    # an address that is given wins over the environment
    assert "127.0.0.1:2:" in folder.call("ps", "--address", "http://127.0.0.1:2").sentence
    assert "http://head:8265" in folder.call("ps", "--address", "head:8265").sentence
    # the cluster's own address, as `solve --ray` takes it: Ray's client would wait for minutes
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "127.0.0.1:1")
    assert "127.0.0.1:1: no Ray cluster answers" in folder.call("ps").sentence


def test_a_server_that_is_no_ray_cluster(folder):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(404)

        def log_message(self, format, *args):
            """Nothing."""

        do_HEAD = do_GET

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        sentence = folder.call("ps", "--address", f"http://127.0.0.1:{server.server_port}").sentence
        server.shutdown()
    assert "Version check returned" in sentence


@pytest.mark.parametrize("answer", ["{}", "[]", "[1]", "3", "null", '{"a": {}}', "no JSON"])
@pytest.mark.parametrize("command", [("ps",), ("logs", "dg-a-000000"), ("watch", "dg-a-000000")])
def test_a_server_that_only_looks_like_a_ray_cluster(folder, answer, command):
    version = {"version": "4", "ray_version": ray.__version__, "ray_commit": "", "session_name": ""}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = json.dumps(version) if "version" in self.path else answer
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format, *args):
            """Nothing."""

        do_HEAD = do_GET

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        ended = folder.call(*command, "--address", url)
        server.shutdown()
    assert ended.code in (0, 2) and "Traceback" not in ended.err
    if ended.code == 2:
        assert url in ended.err


def test_a_row_of_a_log_that_is_none_is_passed_over():
    assert row_of('{"step": 1, "seconds": 0.5}') == {"step": 1, "seconds": 0.5}
    for text in ("{", "[1]", "{}", '{"step": "a", "seconds": 1}', "[" * 10**5):
        assert row_of(text) is None


def test_all_living_hosts_are_counted(monkeypatch):
    """Ray gives a hundred unless it is asked for more, the dead among them."""
    hosts = [SimpleNamespace(resources_total={"CPU": 1.0}, labels={}) for _ in range(128)]

    def list_nodes(address, filters=None, limit=100, detail=False):
        assert filters == [("state", "=", "ALIVE")] and detail
        return hosts[:limit]

    monkeypatch.setattr("ray.util.state.list_nodes", list_nodes)
    client = SimpleNamespace(get_address=lambda: "http://head:8265")
    check_room(client, request("128"))  # type: ignore[arg-type]
    with pytest.raises(ClusterError, match="room for 128"):
        check_room(client, request("129"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--storage", "runs"), "absolute path"),
        (("--storage", "s3://bucket/runs"), "'gs://bucket/runs'"),
        (("--storage", "/runs", "--workers", "two"), "--workers two: expected N or MIN:MAX"),
        (("--storage", "/runs", "--tpu", "v6e"), "--topology 4x4"),
        (("--storage", "/runs", "--env", "A"), "--env, line 1: expected NAME=VALUE"),
        (("--storage", "/runs", "--set", "run.stepps=1"), "did you mean 'steps'"),
        (("--storage", "/runs", "--set", "model.activation=tahn"), "tanh"),
    ],
)
def test_a_mistake_is_told_before_the_cluster_is_asked(folder, monkeypatch, options, said):
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:1")  # it would not answer
    config = folder.write("tiny.toml", TINY)
    assert said in folder.call("submit", config, *options).sentence


def test_only_the_config_and_the_problem_are_uploaded(folder):
    folder.write("mine.py", BROKEN)
    folder.write("secret.txt", "not for the cluster")
    text = TINY.replace('name = "laplace2d"', 'file = "mine.py"')
    config = load(folder.write("tiny.toml", text))
    job = Job(run="/runs/dg-tiny-000000", config="tiny", limits=config.run, layout={})
    with job.environment(config) as env:
        made = Path(env["working_dir"])
        files = sorted(str(p.relative_to(made)) for p in made.rglob("*") if p.is_file())
        assert files == ["problem/mine.py", "tiny.toml"]
        uploaded = load(made / "tiny.toml")
        assert uploaded.problem.file == str(made / "problem" / "mine.py")
        assert uploaded.model_copy(update={"problem": config.problem}) == config
    assert not made.exists()
    with job.model_copy(update={"package": True}).environment() as env:
        names = [p.relative_to(env["working_dir"]) for p in Path(env["working_dir"]).rglob("*")]
        assert Path("distgram_launch/cli.py") in names and Path("distgram/run/solve.py") in names
        assert not any("__pycache__" in p.parts for p in names)
