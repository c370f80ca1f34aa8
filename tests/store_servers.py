"""Object stores that fail: versitygw, a program that can be killed, and a proxy before a store that has moods.

versitygw is built once from the Go module proxy, in three minutes of one core, and kept beside the jars.
"""

from __future__ import annotations

import http.client
import os
import random
import shutil
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from stream_app.settings import PROJECT
from tests.ports import free_port
from tests.stores import KEY, SECRET, Bucket

_MODULE = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"
_PROGRAM = PROJECT / ".jars" / "versitygw-1.8.0" / "versitygw"
_PATIENCE_SECONDS = 60.0
WELL, SLOW, FLAKY, LOST, READ_ONLY = "well", "slow", "flaky", "lost", "read-only"
FULL, OVER_QUOTA = "full", "over quota"
"""The moods of a proxy: what each does is in `Proxy`."""
AWAY = "away"
"""The fault of a store that does not answer."""


@pytest.fixture(scope="session")
def versitygw() -> Path:
    """The program."""
    if not _PROGRAM.exists():
        if not shutil.which("go"):
            pytest.skip("versitygw is built by go, which is not here")
        _PROGRAM.parent.mkdir(parents=True, exist_ok=True)
        command = ["nice", "-n", "19", "go", "install", _MODULE]
        subprocess.run(command, env=os.environ | {"GOBIN": str(_PROGRAM.parent)}, check=True, timeout=1500)
    return _PROGRAM


@dataclass
class Gateway:
    """versitygw over a folder, at one address however often it is killed. A folder in it is a bucket."""

    program: Path
    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it listens."""
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [str(self.program), "--port", f"127.0.0.1:{self.port}", "--quiet", "posix", str(self.folder)]
        keys = {"ROOT_ACCESS_KEY_ID": KEY, "ROOT_SECRET_ACCESS_KEY": SECRET}
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(command, env=os.environ | keys, stdout=quiet, stderr=quiet)
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not _listens(self.port):
            assert self.process.poll() is None and time.monotonic() < deadline, "versitygw does not listen"
            time.sleep(0.05)

    def kill(self) -> None:
        """Kill it with signal 9."""
        if self.process:
            self.process.kill()
            self.process.wait()

    def bucket(self, name: str, port: int | None = None) -> Bucket:
        """Make an empty bucket, reached at that port, of a proxy, or its own."""
        (self.folder / name).mkdir()
        return Bucket(f"http://127.0.0.1:{port or self.port}", name)


@pytest.fixture
def gateway(versitygw: Path, tmp_path: Path) -> Iterator[Gateway]:
    """A versitygw that runs, with a folder of its own."""
    server = Gateway(versitygw, tmp_path / "store")
    server.start()
    yield server
    server.kill()


class Proxy:
    """Hands requests on to a store, as its mood is: `well` does nothing else.

    `slow` takes a second for each request. `flaky` answers most by 500, 503 or not at all. `lost` has the store do the
    work and breaks off in place of its answer, which it does for writes alone. `read-only` refuses writes by 403, as do
    `full` and `over quota` with what they say, but for deletes.
    What may fail at random succeeds on the fourth try of one path at the latest, as a client tries ten times.
    """

    def __init__(self, store: int) -> None:
        """Go before the store at that port, at a port of its own."""
        self.mood = WELL
        self.port = free_port()
        self.faults: Counter[str] = Counter()
        """How often each mood made trouble."""
        self._store = store
        self._tried: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()
        self._random = random.Random(17)
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), self._handler())
        self._server.daemon_threads = True

    @contextmanager
    def running(self) -> Iterator[Proxy]:
        """Serve until the block ends."""
        thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()

    def fault(self, method: str, path: str) -> str:
        """Return what is to go wrong with a request: "", slow, 500, 503, dropped, lost, 403 or a mood that it has."""
        writes = method in {"PUT", "POST", "DELETE"}
        with self._lock:
            found = ""
            if self.mood == SLOW:
                found = "slow"
            elif self.mood == READ_ONLY and writes:
                found = "403"
            elif self.mood in {FULL, OVER_QUOTA} and method in {"PUT", "POST"}:
                found = self.mood
            elif self.mood in {FLAKY, LOST} and self._is_due(method, path):
                found = self._random.choice(["500", "503", "dropped"]) if self.mood == FLAKY else "lost" * writes
            self.faults[found] += 1
            return found

    def _is_due(self, method: str, path: str) -> bool:
        self._tried[method, path] += 1
        return self._tried[method, path] % 4 != 0

    def _handler(proxy) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - the handler's own is self
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                fault = proxy.fault(self.command, self.path.partition("?")[0])
                if fault == "slow":
                    time.sleep(1)
                if fault == "dropped":
                    self.close_connection = True
                elif fault in _CODES:
                    status, code = _CODES[fault]
                    self._answer(status, [], f"<Error><Code>{code}</Code></Error>".encode())
                else:
                    self._hand_on(body, is_lost=fault == "lost")

            do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = do_any  # noqa: N815 - as http.server calls them

            def _hand_on(self, body: bytes, *, is_lost: bool) -> None:
                connection = http.client.HTTPConnection("127.0.0.1", proxy._store, timeout=60)
                try:
                    connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                    for name, value in self.headers.items():  # Host, too: it is signed
                        connection.putheader(name, value)
                    connection.endheaders(body)
                    answer = connection.getresponse()
                    content = answer.read()
                except (OSError, http.client.HTTPException):
                    with proxy._lock:
                        proxy.faults[AWAY] += 1
                    self.close_connection = True
                    return
                finally:
                    connection.close()
                if is_lost:
                    self.close_connection = True
                else:
                    self._answer(answer.status, answer.getheaders(), content)

            def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
                self.send_response_only(status)
                for name, value in headers:
                    if name.lower() not in {"transfer-encoding", "connection", "content-length"}:
                        self.send_header(name, value)
                length = {name.lower(): value for name, value in headers}.get("content-length")
                self.send_header("Content-Length", length if self.command == "HEAD" and length else str(len(content)))
                self.end_headers()
                with suppress(OSError):
                    self.wfile.write(b"" if self.command == "HEAD" else content)

            def log_message(self, *_: object) -> None:
                pass

        return Handler


@pytest.fixture
def proxy(gateway: Gateway) -> Iterator[Proxy]:
    """A proxy before it."""
    with Proxy(gateway.port).running() as before:
        yield before


_CODES = {
    "403": (403, "AccessDenied"),
    "500": (500, "InternalError"),
    "503": (503, "SlowDown"),
    FULL: (507, "XMinioStorageFull"),
    OVER_QUOTA: (403, "QuotaExceeded"),
}


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
