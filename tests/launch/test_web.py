"""`distgram watch --web`: served to this machine only, and up to date while a run goes on."""

from __future__ import annotations

import json
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from types import SimpleNamespace

import pytest
from browser import needs_chromium, opened
from distgram_launch import web
from distgram_launch.cli import main
from distgram_launch.ray.jobs import Job
from distgram_launch.web import Folder, FollowedJob, Server, Source, now
from synthetic_runs import Page, make_run

from distgram.config.schema import RunTable
from distgram.errors import ClusterError


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    """Fewer pixels: the same figures, drawn faster."""
    monkeypatch.setattr("distgram.report.html.DPI", 50)


@contextmanager
def served(source: Source) -> Iterator[Server]:
    with Server(source) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def get(server: Server, path: str, host: str | None = None) -> tuple[int, str, dict[str, str]]:
    """Status, text and headers of one answer."""
    connection = HTTPConnection("127.0.0.1", server.server_port, timeout=300)
    headers = {} if host is None else {"Host": host}
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text, dict(answer.headers)


def going_on(path: Path) -> tuple[Path, list[str]]:
    """A run folder in the middle of its run, and the rows that are still to come."""
    run = make_run(path)
    (run / "result.json").unlink()
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(lines[:20]))
    return run, lines[20:]


def test_a_folder_is_served_as_it_grows_and_to_this_machine_only(tmp_path):
    run, rest = going_on(tmp_path / "run")
    with served(Folder(run)) as server:
        assert server.server_address[0] == "127.0.0.1"
        status, text, headers = get(server, "/")
        assert status == 200 and "heat, run" in text and Page(text).links == ["a"]
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        assert get(server, "/")[2]["Content-Security-Policy"] != policy  # a nonce for each answer
        (nonce,) = re.findall("'nonce-([^']+)'", policy)
        assert f'<script nonce="{nonce}">' in text
        assert "script-src" not in get(server, "/report")[2]["Content-Security-Policy"]
        told = json.loads(get(server, "/now")[1])
        assert told["state"].startswith("going on; last logged") and not told["ended"]
        assert "Convergence against steps; at step 19: " in told["html"]
        assert get(server, "/report")[1].count("<img") == 6
        with open(run / "metrics.jsonl", "a") as file:
            file.writelines(rest)
        (run / "result.json").write_text('{"reason": "stalled"}')
        told = json.loads(get(server, "/now")[1])
        assert told["state"] == "ended by: stalled" and told["ended"]
        assert "at step 60: " in told["html"]
        # a name of somebody else's that leads here; a path outside
        assert get(server, "/now", host="evil.example")[0] == 421
        assert get(server, "/now", host=f"localhost:{server.server_port}")[0] == 200
        assert get(server, "/config.toml")[0] == get(server, "/../etc/passwd")[0] == 404


def test_a_broken_result_is_a_sentence(tmp_path):
    run, _ = going_on(tmp_path / "run")
    with served(Folder(run)) as server:
        (run / "result.json").write_text("[1]")
        told = json.loads(get(server, "/now")[1])
        assert "result.json" in told["state"] and not told["ended"]
        status, text, _ = get(server, "/report")
        assert status == 404 and "result.json" in text


def test_before_the_first_row_there_is_no_report_but_a_sentence(tmp_path):
    run, _ = going_on(tmp_path / "run")
    (run / "metrics.jsonl").unlink()
    with served(Folder(run)) as server:
        for _ in range(2):  # without metrics.jsonl, and with an empty one
            told = json.loads(get(server, "/now")[1])
            assert told["state"].startswith("begun") and "<table" not in told["html"]
            (run / "metrics.jsonl").write_text("")
        (run / "metrics.jsonl").unlink()
        status, text, _ = get(server, "/report")
        assert status == 404 and "metrics.jsonl: not found" in text


def test_a_page_of_rows_with_holes_is_still_drawn():
    row = {"step": 0, "seconds": 0.0, "mean_square_residual": None, "l2_error": None}
    assert len(Page(now([row])).images) == 1
    many = [row | {"step": k, "mean_square_residual": 10.0 ** (-k / 100)} for k in range(5001)]
    assert len(now(many)) < 100_000 and "at step 5000: " in now(many)


def test_a_client_that_dawdles_or_leaves_costs_nothing(tmp_path, monkeypatch, capsys):
    """Neither its thread nor a traceback; others are answered meanwhile."""
    run, _ = going_on(tmp_path / "run")
    monkeypatch.setattr(web, "SLOW_S", 1.0)
    monkeypatch.setattr(web.Handler, "timeout", 1.0)
    with served(Folder(run)) as server:
        before, at = threading.active_count(), ("127.0.0.1", server.server_port)
        silent, dripping, deaf = (socket.create_connection(at) for _ in range(3))
        begin = f"GET /now HTTP/1.1\r\nHost: localhost:{server.server_port}\r\n".encode()
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        deaf.sendall(begin + b"\r\n")
        deaf.close()  # a reset, before anything is answered
        dripping.sendall(begin)
        assert get(server, "/")[0] == 200
        until = time.monotonic() + 60
        while threading.active_count() > before:
            assert time.monotonic() < until
            with suppress(OSError):  # it has been ended
                dripping.sendall(b"X")
            time.sleep(0.1)
        silent.close()
        dripping.close()
        assert get(server, "/now")[0] == 200
    assert capsys.readouterr().err == ""


class Cluster:
    """A client of one job whose log has a row, and which ends when it is told to."""

    def __init__(self, row: str):
        self.row, self.ended = row, threading.Event()

    async def tail_job_logs(self, name: str):
        """The log, until the job ends."""
        yield f"Running entrypoint for job\n@row {self.row}\nand a word\n"
        while not self.ended.is_set():
            time.sleep(0.02)

    def get_job_info(self, name: str):
        """How the job is."""
        status = SimpleNamespace(value="SUCCEEDED", is_terminal=self.ended.is_set)
        return SimpleNamespace(status=status, driver_exit_code=0)


def test_a_job_is_followed_by_its_log_and_its_report_is_that_of_its_folder(tmp_path):
    run, _ = going_on(tmp_path / "run")
    cluster = Cluster((run / "metrics.jsonl").read_text().splitlines()[7])
    job = Job(run=str(run), config="heat", limits=RunTable(), layout={})
    with served(FollowedJob(cluster, "dg-heat-000000-1", job)) as server:  # type: ignore
        until = time.monotonic() + 300
        while "at step 7: " not in (text := get(server, "/now")[1]):
            assert time.monotonic() < until, text
        assert json.loads(text)["state"] == "going on"
        assert get(server, "/report")[1].count("<img") == 6
        cluster.ended.set()
        while not json.loads(text := get(server, "/now")[1])["ended"]:
            assert time.monotonic() < until, text
        assert json.loads(text)["state"] == "succeeded, exit code 0"


def test_what_cannot_be_watched_is_said_in_a_sentence(tmp_path, capsys):
    run, _ = going_on(tmp_path / "run")
    nobody = "http://127.0.0.1:1"
    neither = f"nowhere: neither a run folder on this machine nor the id of a job .* ({nobody}: no"
    for words, expected in [
        (["nowhere", "--web", "--address", nobody], neither.replace(".*", "that can be followed")),
        ([str(tmp_path), "--web"], "holds the run folders run"),
        ([str(run)], f"`distgram watch {run} --web` shows its page"),
        (["dg-heat-000000", "--port", "80"], "--port 80: needs --web"),
    ]:
        assert main(["watch", *words]) == 2
        assert expected in capsys.readouterr().err
    with served(Folder(run)) as server, pytest.raises(ClusterError, match="in use: give another"):
        Server(Folder(run), server.server_port)


@needs_chromium
def test_the_page_keeps_itself_up_to_date(tmp_path):
    run, rest = going_on(tmp_path / "run")
    with served(Folder(run)) as server, opened(tmp_path / "profile") as page:
        page.open("about:blank")
        page.asked()
        page.open(server.url)
        for words, more in (("at step 19: ", rest), ("at step 60: ", [])):
            until = time.monotonic() + 300
            while words not in page.run("return document.body.textContent"):
                assert time.monotonic() < until
                time.sleep(0.2)
            with open(run / "metrics.jsonl", "a") as file:
                file.writelines(more)
        assert page.wordless() == [] and page.asked() == {server.url.rstrip("/"), "data:"}
        assert page.complaints() == []
