"""`distgram watch --web`: the page of a run, while it goes on, for this machine's browsers only.

The server listens on the loopback address, answers GET of three paths, and only where the request
names it by that address: a page from elsewhere that has its own name resolved to this machine
gets nothing. The page asks again and again for the part of it that changes.
"""

from __future__ import annotations

import json
import secrets
import socket
import sys
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distgram_launch import folders
from matplotlib.figure import Figure

from distgram.errors import ClusterError, RunError, UserError
from distgram.report import report
from distgram.report.curves import TOTAL, draw_curves, dress, legend
from distgram.report.html import POLICY, Block, Note, Picture, Table, number, picture, render
from distgram.report.page import quantities
from distgram.store.folder import CHECKPOINTS
from distgram.store.read import QUANTITIES, Run, problem_name

if TYPE_CHECKING:
    from distgram_launch.ray.jobs import Job
    from ray.job_submission import JobSubmissionClient

LOOPBACK = "127.0.0.1"
HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
HTML = "text/html; charset=utf-8"
POINTS = 600  # of a curve, at most
SLOW_S = 10.0  # for a request to be read, and for an answer to be taken
EVERY_MS = 5000  # a drawing takes a quarter of a second of a core that the run may want


class Source(ABC):
    """Where the rows of a run come from."""

    title: str

    @abstractmethod
    def rows(self) -> list[dict[str, Any]]:
        """The rows of metrics so far."""

    @abstractmethod
    def state(self) -> tuple[str, bool]:
        """How the run is, in words, and whether it has ended."""

    @abstractmethod
    def report(self) -> str:
        """The whole page as of now.

        Raises:
            UserError: there is nothing to be shown yet, or it cannot be reached.
        """


class Folder(Source):
    """A run folder on this machine, written by whatever process."""

    def __init__(self, path: Path, trust: bool = False):
        self._run, self._trust = path, trust
        problem = problem_name(Run(path))
        self.title = problem if path.name == problem else f"{problem}, {path.name}"

    def rows(self) -> list[dict[str, Any]]:
        """What metrics.jsonl holds."""
        try:
            return Run(self._run).metrics
        except RunError:  # nothing yet
            return []

    def state(self) -> tuple[str, bool]:
        """The reason the run ended, or how long ago it last wrote."""
        try:
            reason = Run(self._run).result.get("reason")
        except RunError as error:  # a broken result.json
            return str(error), False
        if reason:
            return f"ended by: {reason}", True
        path = self._run / "metrics.jsonl"
        if not path.is_file() or not path.stat().st_size:
            return "begun; it compiles before its first step", False
        return f"going on; last logged {_since(path):.0f} s ago", False

    def report(self) -> str:
        """The page that `distgram report` writes; `trust` as there."""
        return report(self._run, trust=self._trust).read_text(encoding="utf-8")


def _since(path: Path) -> float:
    """Seconds since a file was written; 0 where a clock has gone backwards since."""
    return max(0.0, time.time() - path.stat().st_mtime)


class FollowedJob(Source):
    """A job of a Ray cluster, whose log brings the rows."""

    def __init__(self, client: JobSubmissionClient, name: str, job: Job, trust: bool = False):
        self._client, self._name, self._job, self._trust = client, name, job, trust
        self.title = name
        self._rows: list[dict[str, Any]] = []
        self._state = ("going on", False)
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        from distgram_launch.ray.follow import exit_code, follow

        try:
            details = follow(self._client, self._name, self._said)
            status = details.status.value.lower()
            self._state = (f"{status}, exit code {exit_code(details)}", True)
        except ClusterError as error:
            self._state = (str(error), True)

    def _said(self, line: str) -> None:
        from distgram_launch.ray.follow import row_of

        kind, _, text = line.partition(" ")
        if kind == "@row" and (row := row_of(text)) is not None:
            self._rows.append(row)

    def rows(self) -> list[dict[str, Any]]:
        """The rows that the log has brought."""
        return list(self._rows)

    def state(self) -> tuple[str, bool]:
        """The state of the job."""
        return self._state

    def report(self) -> str:
        """The page of its run folder, from a copy without the checkpoints where it is far away."""
        run = folders.found(self._job.run)
        if isinstance(run, Path):
            return report(run, trust=self._trust).read_text(encoding="utf-8")
        with tempfile.TemporaryDirectory() as made:
            folders.copy(run, Path(made), without=(CHECKPOINTS,))
            return report(Path(made), trust=self._trust).read_text(encoding="utf-8")


class Server(ThreadingHTTPServer):
    """Serves the page of one source on the loopback address.

    Args:
        port: 0 for any that is free.

    Raises:
        ClusterError: the port cannot be had.
    """

    daemon_threads = True

    def __init__(self, source: Source, port: int = 0):
        self.source = source
        try:
            super().__init__((LOOPBACK, port), Handler)
        except OSError as error:
            raise ClusterError(
                f"--port {port}: {error.strerror or error}: give another, or leave it out."
            ) from error

    @property
    def url(self) -> str:
        """Where a browser on this machine finds the page."""
        return f"http://{LOOPBACK}:{self.server_port}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has left, or takes too long, is no error of this program."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """GET of /, /now and /report."""

    server: Server
    timeout = SLOW_S  # of each read, and of a whole answer

    def setup(self) -> None:
        """Begin a connection, which ends where its request has not come after SLOW_S: a client that
        sends a byte now and then would hold its thread for ever."""
        super().setup()
        self._late = threading.Timer(SLOW_S, self._end)
        self._late.daemon = True
        self._late.start()

    def _end(self) -> None:
        with suppress(OSError):  # the client has ended it
            self.connection.shutdown(socket.SHUT_RD)

    def finish(self) -> None:
        """End a connection."""
        self._late.cancel()
        super().finish()

    def do_GET(self) -> None:
        """Answer one request."""
        self._late.cancel()
        port = self.server.server_port
        if self.headers.get("Host") not in (f"{LOOPBACK}:{port}", f"localhost:{port}"):
            return self._answer(421, "text/plain", f"expected {self.server.url}\n")
        source = self.server.source
        if self.path == "/":
            nonce = secrets.token_urlsafe(16)
            return self._answer(200, HTML, shell(source.title, nonce), live_policy(nonce))
        if self.path == "/now":
            state, ended = source.state()
            told = {"state": state, "ended": ended, "html": now(source.rows())}
            return self._answer(200, "application/json", json.dumps(told))
        if self.path == "/report":
            try:
                return self._answer(200, HTML, source.report())
            except UserError as error:
                return self._answer(404, "text/plain; charset=utf-8", f"{error}\n")
        if self.path == "/favicon.ico":  # browsers ask by themselves
            return self._answer(204, "image/x-icon", "")
        return self._answer(404, "text/plain", "there are /, /now and /report\n")

    def _answer(self, status: int, kind: str, text: str, policy: str = POLICY) -> None:
        body = text.encode()
        self.send_response(status)
        policy = f"{policy}; frame-ancestors 'none'"
        more = {"Content-Type": kind, "Content-Security-Policy": policy}
        for name, value in (HEADERS | more).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not worth a line."""


def shell(title: str, nonce: str) -> str:
    """The page, which asks for `now` every EVERY_MS milliseconds until the run has ended; its one
    script has the nonce of this answer."""
    return render("live.html", title=title, every=EVERY_MS, nonce=nonce, policy=live_policy(nonce))


def live_policy(nonce: str) -> str:
    """What the live page may do: besides what others may, run its script and ask for `now`."""
    return f"{POLICY}; script-src 'nonce-{nonce}'; connect-src 'self'"


def now(rows: Sequence[dict[str, Any]]) -> str:
    """HTML of the rows of metrics so far: the last one, the convergence, where the time went."""
    if not rows:
        return render("sections.html", sections={"Convergence": [Note("No step is logged yet.")]})
    last = rows[-1]
    by_term = [
        [term, number(value), number((last.get("heldout_terms") or {}).get(term))]
        for term, value in (last.get("terms") or {}).items()
    ]
    sections: dict[str, list[Block]] = {
        "Convergence": [_convergence(rows)],
        "The last logged step": [quantities(last)],
        "By term": [Table(["term", "mean square residual", "held-out"], by_term)],
    }
    if spent := [[part, f"{s:.3g}"] for part, s in (last.get("seconds_by_part") or {}).items()]:
        sections["Time"] = [Table(["part", "seconds"], spent)]
    return render("sections.html", sections=sections)


def _convergence(rows: Sequence[dict[str, Any]]) -> Picture:
    thin = [*rows[:: -(-len(rows) // POINTS)], rows[-1]]
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    ax = figure.subplots()
    handles = draw_curves(ax, thin, TOTAL, "step")
    dress(ax, "step")
    legend(figure, handles)
    last = ", ".join(f"{QUANTITIES[key]} {number(rows[-1].get(key))}" for key, *_ in TOTAL)
    words = f"Convergence against steps; at step {rows[-1]['step']}: {last}."
    return picture(figure, words)
