"""The server of metrics and health, on real sockets: whatever clients do, the next one is answered."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from stream_app.observe import answers
from tests.helpers import wait_until

BODY = b"stream_app_up 1\n" * 100_000  # more than a socket buffers


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Where it answers; a client of these tests is a thread of this process, and may take its time."""
    monkeypatch.setattr(answers, "_SECONDS", 120.0)
    asked = iter(range(100))

    def fails() -> answers.Answer:
        raise RuntimeError(f"dictionary changed size during iteration {next(asked)}")

    listener = answers.listen("127.0.0.1", 0)
    found = int(listener.getsockname()[1])
    with answers.answering(listener, {"/metrics": lambda: (200, "text/plain", BODY), "/fails": fails}):
        yield found
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", found), timeout=120)


def connected(port: int, stack: ExitStack, sent: bytes = b"") -> socket.socket:
    client = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=120))
    client.sendall(sent)
    return client


def get(port: int, path: str = "metrics") -> bytes:
    with urlopen(f"http://127.0.0.1:{port}/{path}", timeout=60) as answer:
        return bytes(answer.read())


def is_closed(client: socket.socket) -> bool:
    """Whether it ends after what was buffered."""
    try:
        return client.recv(1 << 20) == b""
    except ConnectionResetError:
        return True


CLIENTS: dict[str, bytes] = {
    "says nothing": b"",
    "begins a request": b"GET /metrics HTTP/1.1\r\nHost: x\r\n",
    "reads no answer": b"GET /metrics HTTP/1.1\r\n\r\n",
    "sends no end of headers": b"GET /metrics HTTP/1.1\r\n" + b"X: " + b"a" * 100_000,
}


@pytest.mark.parametrize("sent", CLIENTS.values(), ids=CLIENTS.keys())
def test_four_hundred_clients_keep_nobody_from_an_answer(port: int, sent: bytes) -> None:
    """Nor do they cost a thread each."""
    before = threading.active_count()
    with ExitStack() as stack:
        for _ in range(400):
            with suppress(ConnectionResetError, BrokenPipeError):  # it may be let go while it still sends
                connected(port, stack, sent)
        assert get(port) == BODY
        assert threading.active_count() <= before + 1


@pytest.mark.parametrize("sent", CLIENTS.values(), ids=CLIENTS.keys())
def test_a_client_that_goes_on_so_is_let_go(port: int, sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "_SECONDS", 0.2)
    with ExitStack() as stack:
        client = connected(port, stack, sent)
        wait_until(lambda: is_closed(client))


def test_more_than_its_connections_are_not_held(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "_SECONDS", 3600)
    with ExitStack() as stack:
        clients = [connected(port, stack) for _ in range(400)]
        for client in clients[: 400 - answers._MOST_CONNECTIONS]:
            assert is_closed(client)


@pytest.mark.parametrize(
    ("path", "status"), [("", 404), ("metric", 404), ("metrics/", 404), ("..%2f..%2fetc/passwd", 404), ("fails", 503)]
)
def test_what_has_no_answer(port: int, path: str, status: int) -> None:
    with pytest.raises(HTTPError) as error:
        get(port, path)
    assert error.value.code == status
    assert get(port) == BODY


def test_what_monitors_add_changes_no_answer(port: int) -> None:
    assert get(port, "metrics?since=1") == BODY
    with ExitStack() as stack:
        head = connected(port, stack, b"HEAD /metrics HTTP/1.1\r\n\r\n").recv(1 << 20)
    assert head.startswith(b"HTTP/1.1 200")
    assert head.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    "sent", [b"\x16\x03\x01\x02\r\n\r\n", b"\r\n\r\n", b"HELO\r\n\r\n", b"POST /metrics HTTP/1.1\r\n\r\n"]
)
def test_what_is_no_request_for_it(port: int, sent: bytes) -> None:
    with ExitStack() as stack:
        assert connected(port, stack, sent).recv(100).startswith(b"HTTP/1.1 40")
    assert get(port) == BODY
