"""An object store for tests: moto's server, a process of its own for each process of tests, started when one asks.

It cannot be a thread: what holds Python's lock while it waits for an answer would wait for itself.
"""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import obstore
import pytest

from stream_app.object_stores import TableRoot
from stream_app.settings import PROJECT, Settings
from stream_app.storage.tables.in_store import InStore
from stream_app.storage.tables.places import place_of
from tests.helpers import app_settings
from tests.ports import free_port

KEY, SECRET = "AKIANEVERSHOWN", "wJalrXUtnFEMI/never+shown"
_PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Bucket:
    """A bucket of its own, and how a service is told of it."""

    endpoint: str
    name: str
    more: dict[str, str] = field(default_factory=dict)
    """Settings that differ."""

    @property
    def url(self) -> str:
        """What DELTA_PATH is."""
        return f"s3://{self.name}/lake/tables"

    @property
    def environment(self) -> dict[str, str]:
        """The settings of a service whose tables are in the bucket, as environment variables."""
        return {
            "DELTA_PATH": self.url,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ALLOW_HTTP": "1",
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            **self.more,
        }

    def settings(self, root: Path, **overrides: Any) -> Settings:
        """The same beside other settings of a service."""
        given = {name.lower(): value for name, value in self.environment.items()}
        return app_settings(root, **{**given, **overrides})

    def root(self, folder: Path) -> TableRoot:
        """Where the tables lie."""
        return self.settings(folder).tables

    def place(self, folder: Path, name: str = "t") -> InStore:
        """The place of one table, whose staging folder is in `folder`."""
        place = place_of(self.root(folder), name, folder / "_staging")
        assert isinstance(place, InStore)
        return place

    def names(self) -> list[str]:
        """Every key, from the bucket on."""
        given = {key: value for key, value in self.root(Path("/")).access.options if key != "allow_http"}
        store: Any = obstore.store.from_url(f"s3://{self.name}", config=given, client_options={"allow_http": True})  # type: ignore[call-overload]
        return sorted(found["path"] for page in obstore.list(store) for found in page)


@pytest.fixture(scope="session")
def store_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that honours conditional puts, in a race, too (docs/adr/7)."""
    port = free_port()
    log = tmp_path_factory.mktemp("moto") / "log"
    with log.open("w") as out:
        command = [sys.executable, "-m", "tests.moto_server", str(port)]
        server = subprocess.Popen(command, cwd=PROJECT, stdout=out, stderr=out)
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not _answers(address):
            assert server.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield address
    finally:
        server.kill()
        server.wait()


_NUMBERS = itertools.count()


@pytest.fixture
def bucket(store_address: str) -> Bucket:
    """An empty bucket of the test's own."""
    return new_bucket(store_address)


def new_bucket(address: str) -> Bucket:
    """An empty bucket."""
    made = Bucket(address, f"tests-{next(_NUMBERS)}")
    with urllib.request.urlopen(urllib.request.Request(f"{address}/{made.name}", method="PUT")) as answer:  # noqa: S310
        assert answer.status == 200
    return made


def _answers(address: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(address, timeout=5) as answer:  # noqa: S310 - http
        return bool(answer.status == 200)
    return False


_IS_NEW = {"If-None-Match": "*", "x-goog-if-generation-match": "0"}
"""By what S3 and Google's XML API are told that the object must not be there."""


class _Careless(BaseHTTPRequestHandler):
    """Puts and deletes of a store that is not to be trusted."""

    protocol_version = "HTTP/1.1"
    server: CarelessServer

    def do_PUT(self) -> None:
        content, server = self.rfile.read(int(self.headers["Content-Length"])), self.server
        with server.lock if server.is_honest else nullcontext():
            if server.looks and any(self.headers.get(name) == said for name, said in _IS_NEW.items()):
                if self.path in server.objects:
                    self._answer(412)
                    return
                time.sleep(0.05)  # between the look and the write
            server.objects[self.path] = content
        self._answer(200)

    def do_DELETE(self) -> None:
        self.server.objects.pop(self.path, None)
        self._answer(204)

    def do_POST(self) -> None:
        bucket = self.path.partition("?")[0]
        asked = self.rfile.read(int(self.headers["Content-Length"])).decode()
        keys = re.findall("<Key>(.*?)</Key>", asked)
        for key in keys:
            self.server.objects.pop(f"{bucket}/{key}", None)
        deleted = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
        self._answer(200, f"<DeleteResult>{deleted}</DeleteResult>".encode())

    def _answer(self, status: int, content: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("ETag", '"e"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nothing."""


class CarelessServer(ThreadingHTTPServer):
    """A store that ignores conditions of a put, or with `looks` one that checks them and loses races."""

    def __init__(self, *, looks: bool, is_honest: bool) -> None:
        super().__init__(("127.0.0.1", free_port()), _Careless)
        self.looks = looks
        self.is_honest, self.lock = is_honest, threading.Lock()
        self.objects: dict[str, bytes] = {}

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def careless(*, looks: bool, is_honest: bool = False) -> Iterator[CarelessServer]:
    """Serve one. One that `is_honest` loses no race."""
    with CarelessServer(looks=looks, is_honest=is_honest) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
