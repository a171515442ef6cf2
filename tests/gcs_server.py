"""A bucket of Google Cloud Storage on loopback: as much of its JSON API as Orbax, tensorstore,
gcsfs and google-cloud-storage use, with the generations and preconditions of the real one.

`serving()` gives a server and the environment by which all four find it. Names and meanings are
those of https://cloud.google.com/storage/docs/json_api/v1: ifGenerationMatch=0 stands for 'there is
none'; what does not hold is answered with 412, or 304 on reading.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlsplit

BUCKET = "distgram-test"
HOSTS = ("STORAGE_EMULATOR_HOST", "TENSORSTORE_GCS_HTTP_URL")
SETTINGS = {
    "GOOGLE_AUTH_TOKEN_FOR_TESTING": "none",  # else tensorstore looks for credentials
    "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # which asks by gRPC, not served here
}


class Object(NamedTuple):
    """One generation of an object."""

    name: str
    data: bytes
    generation: int
    updated: str

    def values(self) -> dict[str, Any]:
        """Its resource, as the API shows it."""
        return {
            "name": self.name,
            "bucket": BUCKET,
            "generation": str(self.generation),
            "metageneration": "1",
            "size": str(len(self.data)),
            "updated": self.updated,
            "timeCreated": self.updated,
            "md5Hash": base64.b64encode(hashlib.md5(self.data).digest()).decode(),
        }


class Refused(Exception):
    """An answer that is an error: its HTTP status."""


class Bucket:
    """The objects, and what was asked of them: (method, object) in order."""

    def __init__(self):
        self.objects: dict[str, Object] = {}
        self.asked: list[tuple[str, str]] = []
        self.sessions: dict[str, tuple[str, dict[str, str], bytes]] = {}
        self.lock = threading.Lock()
        self._generations = itertools.count(1_700_000_000_000_001)

    def put(self, name: str, data: bytes, query: dict[str, str]) -> Object:
        with self.lock:
            self._hold(name, query)
            now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
            self.objects[name] = Object(name, data, next(self._generations), now)
            self.asked.append(("put", name))
            return self.objects[name]

    def get(self, name: str, query: dict[str, str]) -> Object:
        with self.lock:
            self.asked.append(("get", name))
            unwanted = query.get("ifGenerationNotMatch")
            if name in self.objects and unwanted == str(self.objects[name].generation):
                raise Refused(304)
            self._hold(name, query)
            if name not in self.objects:
                raise Refused(404)
            return self.objects[name]

    def delete(self, name: str, query: dict[str, str]) -> None:
        with self.lock:
            self._hold(name, query)
            if self.objects.pop(name, None) is None:
                raise Refused(404)
            self.asked.append(("delete", name))

    def list(self, query: dict[str, str]) -> dict[str, Any]:
        """Objects and common prefixes, in the order of their names."""
        start, prefix, delimiter = (
            query.get(k, "") for k in ("startOffset", "prefix", "delimiter")
        )
        end, after = query.get("endOffset"), query.get("pageToken", "")
        items, prefixes, left = [], [], int(query.get("maxResults", 1000))
        last = ""
        with self.lock:
            for name in sorted(self.objects):
                if not name.startswith(prefix) or name < start or (end and name >= end):
                    continue
                head, cut, _ = name[len(prefix) :].partition(delimiter or "\0")
                shown = prefix + head + delimiter if cut and delimiter else name
                if shown <= after or shown in prefixes:
                    continue
                if not left:
                    return {"items": items, "prefixes": prefixes, "nextPageToken": last}
                last, left = shown, left - 1
                if cut and delimiter:
                    prefixes.append(shown)
                else:
                    items.append(self.objects[name].values())
        return {"items": items, "prefixes": prefixes}

    def _hold(self, name: str, query: dict[str, str]) -> None:
        wanted, there = query.get("ifGenerationMatch"), self.objects.get(name)
        if wanted is not None and int(wanted) != (there.generation if there else 0):
            raise Refused(412)


class Handler(BaseHTTPRequestHandler):
    """Routes of one bucket."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # an answer in one piece
    bucket: Bucket

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a test's output is its own."""

    def _route(self) -> None:
        url = urlsplit(self.path)
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = url.path.removeprefix("/download")
        found = re.fullmatch(r"(/upload)?/storage/v1/b/([^/]+)(?:(/o)(?:/(.+))?)?", path)
        try:
            if found is None or found[2] != BUCKET:
                raise Refused(404)
            if found[1]:
                self._upload(query, body)
            elif not found[3]:
                self._json({"name": BUCKET, "locationType": "region"})
            elif not found[4]:
                self._json(self.bucket.list(query))
            elif self.command == "DELETE":
                self.bucket.delete(unquote(found[4]), query)
                self._answer(204)
            else:
                self._read(self.bucket.get(unquote(found[4]), query), query)
        except Refused as refused:
            status = refused.args[0]
            error = {"error": {"code": status, "message": f"{status} {path}"}}
            self._answer(status, b"" if status == 304 else json.dumps(error).encode())

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _route

    def _read(self, there: Object, query: dict[str, str]) -> None:
        if query.get("alt") != "media":
            return self._json(there.values())
        headers = {"x-goog-generation": str(there.generation), "x-goog-metageneration": "1"}
        data, size = there.data, len(there.data)
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if asked is None:
            return self._answer(200, data, headers)
        first = int(asked[1]) if asked[1] else max(0, size - int(asked[2]))
        last = min(size - 1, int(asked[2])) if asked[1] and asked[2] else size - 1
        if first >= size:
            raise Refused(416)
        headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        self._answer(206, data[first : last + 1], headers)

    def _upload(self, query: dict[str, str], body: bytes) -> None:
        kind = query.get("uploadType")
        if "upload_id" in query:
            return self._chunk(query["upload_id"], body)
        if kind == "media":
            return self._json(self.bucket.put(query["name"], body, query).values())
        if kind == "multipart":
            head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
            boundary = BytesParser().parsebytes(head).get_boundary()
            _, meta, data, _ = body.split(f"--{boundary}".encode())
            name = json.loads(meta.split(b"\r\n\r\n", 1)[1])["name"]
            content = data.split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n")
            return self._json(self.bucket.put(name, content, query).values())
        name = query.get("name") or json.loads(body)["name"]
        session = str(len(self.bucket.sessions))
        self.bucket.sessions[session] = (name, query, b"")
        host = f"http://{self.headers['Host']}/upload/storage/v1/b/{BUCKET}/o"
        at = {"Location": f"{host}?uploadType=resumable&name={quote(name, '')}&upload_id={session}"}
        self._answer(200, b"{}", at)

    def _chunk(self, session: str, body: bytes) -> None:
        name, query, before = self.bucket.sessions[session]
        data = before + body
        total = self.headers["Content-Range"].rpartition("/")[2]
        if total == "*" or int(total) > len(data):
            self.bucket.sessions[session] = (name, query, data)
            return self._answer(308, b"", {"Range": f"bytes=0-{len(data) - 1}"} if data else {})
        self._json(self.bucket.put(name, data, query).values())

    def _json(self, values: dict[str, Any]) -> None:
        self._answer(200, json.dumps(values).encode(), {"Content-Type": "application/json"})

    def _answer(
        self, status: int, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status not in (204, 304):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that is killed, or has read enough, leaves; anything else is an error here."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def serving(port: int = 0) -> Iterator[tuple[Bucket, dict[str, str]]]:
    """A server with an empty bucket; it and the environment of its clients."""
    bucket = Bucket()
    handler = type("BucketHandler", (Handler,), {"bucket": bucket})
    with Server(("127.0.0.1", port), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield bucket, {name: url for name in HOSTS} | SETTINGS
        finally:
            server.shutdown()
