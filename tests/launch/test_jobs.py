"""Jobs on a local Ray cluster, through its Jobs API and the command line that people type."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from bench.cluster import local_cluster
from cli_runs import TINY, Ended, Folder, metrics
from distgram_launch import folders
from distgram_launch.ray.client import cluster
from distgram_launch.ray.jobs import ID
from ray_runs import pid
from test_job_input import BROKEN

from distgram.store.checkpoint import newest

# Ray's client passes it to aiohttp.
pytestmark = pytest.mark.filterwarnings("ignore:ssl=None is deprecated:DeprecationWarning")

LONG = TINY.replace("steps = 6", "steps = 1000000\npatience = 1000000")
TWO_BY_TWO = ("--workers", 2, "--devices-per-worker", 2)
PATIENCE = 300  # seconds for what takes some ten on a machine that is not busy


class Submitted(NamedTuple):
    """A run on the cluster: its id, its folder, and how the last command ended."""

    id: str
    path: Path
    ended: Ended


@pytest.fixture(scope="module")
def url():
    with pytest.MonkeyPatch.context() as patch, local_cluster(cpus=4) as url:
        patch.setenv("RAY_API_SERVER_ADDRESS", url)  # so that it is restored
        yield url


@pytest.fixture(scope="module")
def here(url, tmp_path_factory) -> Folder:
    return Folder(tmp_path_factory.mktemp("jobs"))


def submit(here: Folder, text: str, *args: object) -> Submitted:
    """Submit a config of this text."""
    config, storage = here.write("tiny.toml", text), here.path / "storage"
    ended = here.call("submit", config, "--storage", storage, *TWO_BY_TWO, *args)
    assert ended.code == 0, ended
    matched = ID.fullmatch(ended.out.strip())
    assert matched and matched[2] == "tiny" and matched[3] == "1", ended
    return Submitted(matched[1], storage / matched[1], ended)


def wait_for_rows(run: Path, count: int) -> None:
    """Until the run has logged so many rows."""
    until, path = time.monotonic() + PATIENCE, run / "metrics.jsonl"
    while not path.is_file() or path.read_text().count("\n") < count:
        assert time.monotonic() < until, f"no {count} rows in {path}"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def stopped(here) -> Submitted:
    """A run without end that was asked to stop, as from a machine that does not see its folder."""
    run = submit(here, LONG)
    wait_for_rows(run.path, 4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folders, "seen_from_here", lambda run: False)
        return run._replace(ended=here.call("stop", run.id, "--timeout", PATIENCE))


@pytest.fixture(scope="module")
def resumed(here, stopped) -> Submitted:
    """The same run, gone on with to a given step."""
    steps = int(newest(stopped.path / "checkpoints").name) + 4
    ended = here.call("resume", stopped.id, "--set", f"run.steps={steps}")
    assert (ended.code, ended.out) == (0, f"{stopped.id}-2\n"), ended
    return stopped._replace(ended=here.call("watch", stopped.id))


@pytest.mark.cluster
def test_stop_saves_first(stopped):
    step = int(newest(stopped.path / "checkpoints").name)
    assert stopped.ended.code == 0, stopped.ended
    assert f"{stopped.id}-1: stop requested at step {step};" in stopped.ended.out
    assert json.loads((stopped.path / "result.json").read_text())["steps"] == step


@pytest.mark.cluster
def test_watch_shows_the_table_at_any_time(here, stopped):
    ended = here.call("watch", f"{stopped.id}-1")
    assert ended.code == 0 and ended.err == f"{stopped.id}-1: succeeded, exit code 0\n"
    first = [line.split()[0] for line in ended.out.splitlines()]
    shown = [int(word) for word in first if word.isdigit()]
    stop = int(newest(stopped.path / "checkpoints").name)
    assert shown[:4] == [0, 1, 2, 4] and shown[-1] == stop
    assert "4 device(s) in 2 processes" in ended.out and "@row" not in ended.out


@pytest.mark.cluster
def test_logs_of_the_job_and_of_each_worker(here, stopped, monkeypatch):
    ended = here.call("logs", stopped.id)
    assert ended.code == 0 and "--ray --workers=2 --devices-per-worker=2 --rows" in ended.out
    rows = [line for line in ended.out.splitlines() if line.startswith("@row ")]
    assert json.loads(rows[0].removeprefix("@row "))["step"] == 0
    assert here.call("logs", f"{stopped.id}-1", "--follow").out == ended.out
    each = [here.call("logs", stopped.id, "--worker", k) for k in (0, 1)]
    assert all(log.code == 0 and log.out for log in each)
    assert each[0].out != each[1].out
    sentence = here.call("logs", stopped.id, "--worker", 7).sentence
    assert "rank-7.log" in sentence and "rank-1.log" in sentence
    monkeypatch.setattr(folders, "seen_from_here", lambda run: False)  # as from another machine
    assert stopped.id in here.call("logs", stopped.id, "--worker", 1).sentence


@pytest.mark.cluster
def test_a_resume_goes_on_in_a_new_job(here, resumed):
    assert resumed.ended.code == 0, resumed.ended
    assert "step budget" in resumed.ended.out
    steps = [row["step"] for row in metrics(resumed.path)]
    assert steps == sorted(set(steps))
    assert steps[-1] == json.loads((resumed.path / "result.json").read_text())["steps"]
    rows = [line.split() for line in here.call("ps").out.splitlines()]
    said = {row[0]: row[1:4] for row in rows if row[0].startswith(resumed.id)}
    assert said == {f"{resumed.id}-{k}": ["succeeded", "0", "2"] for k in (1, 2)}


@pytest.mark.cluster
def test_a_cluster_that_does_not_know_a_run_is_told_where_it_is(here, resumed):
    """On other workers than before."""
    steps = int(newest(resumed.path / "checkpoints").name) + 2
    ended = here.call(
        *("resume", resumed.id, "--storage", resumed.path.parent, "--set", f"run.steps={steps}"),
        *("--workers", 1, "--devices-per-worker", 2),
    )
    assert (ended.code, ended.out) == (0, f"{resumed.id}-3\n"), ended
    ended = here.call("watch", resumed.id)
    assert ended.code == 0 and "2 device(s)" in ended.out
    assert metrics(resumed.path)[-1]["step"] == steps
    missing = f"{resumed.id[:-6]}000000"
    sentence = here.call("resume", missing, "--storage", resumed.path.parent).sentence
    assert f"{missing}: not found" in sentence and resumed.id in sentence


@pytest.mark.cluster
def test_fetch_copies_what_this_machine_sees(here, resumed, monkeypatch):
    near, far = here.path / "near", here.path / "far"
    assert here.call("fetch", resumed.id, "--out", near).out == f"{near}\n"
    names = {p.relative_to(near) for p in near.rglob("*") if p.is_file()}
    assert {Path("config.toml"), Path("metrics.jsonl"), Path("solution.npz")} < names
    assert all((near / n).read_bytes() == (resumed.path / n).read_bytes() for n in names)
    assert str(near) in here.call("fetch", resumed.id, "--out", near).sentence
    monkeypatch.setattr(folders, "seen_from_here", lambda run: False)  # as from another machine
    sentence = here.call("fetch", resumed.id, "--out", far).sentence
    assert str(resumed.path) in sentence and "--storage gs://" in sentence and not far.exists()


@pytest.mark.cluster
def test_the_exit_code_of_the_run_comes_through(here):
    here.write("mine.py", BROKEN)
    text = TINY.replace('name = "laplace2d"', 'file = "mine.py"')
    secrets = here.write("secrets", "# not for the Jobs API\nBROKEN=at-once\n")
    run = submit(here, text, "--env", "SHOWN=yes", "--env-file", secrets)
    with cluster(None) as client:
        told = repr(client.get_job_info(f"{run.id}-1"))
    assert "SHOWN" in told and "BROKEN" not in told
    ended = here.call("watch", run.id)
    assert ended.code == 2, ended
    assert "mine.py" in ended.out and "no table of coefficients on this host" in ended.out
    assert ended.err == f"{run.id}-1: failed, exit code 2\n"
    (row,) = [line.split() for line in here.call("ps").out.splitlines() if run.id in line]
    assert row[1:4] == ["failed", "2", "2"]


@pytest.mark.cluster
def test_what_is_asked_of_a_running_job(here):
    """`pytest -s` prints the seconds: these are rows of the table of faults."""
    run = submit(here, LONG)
    wait_for_rows(run.path, 20)
    thesis = here.path / "thesis"
    thesis.mkdir()
    (thesis / "all.txt").write_text("of it")

    def timed(*command: object) -> Ended:
        since = time.monotonic()
        ended = here.call(*command)
        print(f"\n{time.monotonic() - since:.1f} s: {command}: {ended}")
        return ended

    assert f"{run.id}-1 has not ended" in timed("resume", run.id).sentence
    assert " is solving in it" in timed("resume", run.path).sentence
    assert f"{thesis}: is there already" in timed("fetch", run.id, "--out", thesis).sentence
    assert [p.name for p in thesis.iterdir()] == ["all.txt"]
    rows = len(metrics(run.path))
    wait_for_rows(run.path, rows + 5)  # nothing has happened to it
    os.kill(pid(run.path, 1), signal.SIGKILL)
    ended = timed("stop", run.id)
    step = int(newest(run.path / "checkpoints").name)
    assert ended.code == 0 and f"stop requested at step {step};" in ended.out
    steps = [row["step"] for row in metrics(run.path)]
    assert steps == sorted(set(steps)) and steps[-1] == step


@pytest.mark.cluster
def test_a_run_that_has_not_begun_is_stopped_at_once(here):
    run = submit(here, LONG)
    ended = here.call("stop", run.id)
    assert ended.code == 1 and "had not begun" in ended.out, ended
    assert here.call("watch", run.id).code == 143
    assert "has ended: stopped" in here.call("stop", run.id).out


@pytest.mark.cluster
def test_what_the_cluster_cannot_hold_is_refused(here, url):
    config = here.write("tiny.toml", TINY)
    command = ("submit", config, "--storage", here.path / "none")
    sentence = here.call(*command, "--workers", 9).sentence
    assert "asked for 9 workers x (CPU: 1)" in sentence and "(CPU: 4)" in sentence
    assert url in sentence and "room for 4" in sentence
    assert "GPU: 8" in here.call(*command, "--workers", 1, "--gpus-per-worker", 8).sentence
    tpu = ("--workers", 4, "--tpu", "v6e", "--topology", "4x4")
    assert "TPU v6e hosts of topology 4x4" in here.call(*command, *tpu).sentence
    assert "none" not in here.folders()


@pytest.mark.cluster
def test_an_unknown_id_has_its_nearest(here, stopped):
    wrong = stopped.id[:-1] + "x"
    for command in ("watch", "logs", "stop", "fetch", "resume"):
        assert f"did you mean {stopped.id}" in here.call(command, wrong).sentence


@pytest.mark.cluster
def test_a_token_is_asked_for_and_used(tmp_path):
    token = "0123456789abcdef" * 2
    mode = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    with local_cluster(cpus=1, **mode) as url:

        def ps(**environment: str) -> subprocess.CompletedProcess:
            command = [sys.executable, "-m", "distgram_launch.cli", "ps", "--address", url]
            env = os.environ | environment
            return subprocess.run(
                command, cwd=Path(__file__).parents[2], env=env, capture_output=True, text=True
            )

        refused = ps(RAY_AUTH_MODE="disabled")
        assert refused.returncode == 2 and "RAY_AUTH_MODE=token" in refused.stderr
        wrong = ps(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=token[::-1])
        assert wrong.returncode == 2 and "RAY_AUTH_TOKEN" in wrong.stderr
        assert ps(**mode).returncode == 0
