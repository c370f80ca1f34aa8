"""Slow clients: who sends or takes nothing is cut off, holds a bounded number of bytes, and stops nobody else."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
import uvicorn
from anyio import BrokenResourceError, ClosedResourceError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stream_app.api import clients, middleware
from stream_app.api.clients import PromptClients, TakenBit, cut_off_who_takes_nothing
from stream_app.api.middleware import SmallBodies
from stream_app.observe.answers import listen
from tests.helpers import wait_until

LARGE = 8 << 20  # more than the kernel holds for a connection
HEAD = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@contextmanager
def listening(app: ASGIApp) -> Iterator[int]:
    """The port on which it is served, as the API is."""
    with bound() as listener, serving(listener, app):
        yield port_of(listener)


@contextmanager
def bound() -> Iterator[socket.socket]:
    """A socket to which clients may connect; what they send waits until it is served."""
    with closing(listen("127.0.0.1", 0)) as listener:
        cut_off_who_takes_nothing(listener)
        yield listener


def port_of(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


@contextmanager
def serving(listener: socket.socket, app: ASGIApp) -> Iterator[None]:
    server = uvicorn.Server(uvicorn.Config(app, http=PromptClients, ws="none", log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        yield
    finally:
        server.force_exit = server.should_exit = True
        thread.join()


def connected(port: int, sent: bytes = b"") -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), 30)
    client.sendall(sent)
    return client


def status(client: socket.socket) -> int:
    return int(client.recv(12).split()[1])


async def slowly(_: Scope, __: Receive, send: Send) -> None:
    """An answer that takes a second, as events do."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    for more in (True, False):
        await asyncio.sleep(0.5)
        await send({"type": "http.response.body", "body": b"x", "more_body": more})


async def large(_: Scope, __: Receive, send: Send) -> None:
    size = str(LARGE).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", size)]})
    await send({"type": "http.response.body", "body": b"x" * LARGE})


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_an_answer_in_parts_is_sent_at_once(host: str) -> None:
    """TCP would keep the second part until the client says that it has the first, which it does 40 ms later."""
    found: list[int] = []
    try:
        listener = listen(host, 0)
    except OSError as error:
        pytest.skip(f"this machine has no {host}: {error}")

    async def connect() -> None:
        def taken(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            found.append(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        async with await asyncio.start_server(taken, sock=listener) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
            assert await reader.read() == b""
            writer.close()

    asyncio.run(connect())
    assert found == [1]


@pytest.mark.parametrize("sent", [b"", b"GET / HT", HEAD + b"GET /"])
def test_a_request_that_does_not_come_is_waited_for_some_seconds(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "REQUEST_SECONDS", 0.2)
    with bound() as listener, connected(port_of(listener), sent) as client, serving(listener, slowly):
        heard = b""
        while more := _received(client):
            heard += more
        assert heard.endswith(b"xx") == sent.startswith(HEAD), "an answer takes as long as it takes"


def _received(client: socket.socket) -> bytes:
    try:
        return client.recv(65536)
    except ConnectionResetError:
        return b""


def test_a_body_that_does_not_come_is_waited_for_some_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "REQUEST_SECONDS", 0.2)
    head = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\n\r\n1"
    with listening(SmallBodies(slowly)) as port, connected(port, head) as client:
        assert status(client) == 408


def test_large_answers_on_their_way_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "_MOST_BYTES", LARGE)
    with listening(TakenBit(large)) as port:
        with connected(port, HEAD) as idle:
            assert status(idle) == 200
            with connected(port, HEAD) as other:
                assert status(other) == 503
        wait_until(lambda: _whole(port) >= LARGE)


def test_who_takes_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "_MOST_BYTES", LARGE)
    monkeypatch.setattr(clients, "_TAKEN_MS", 300)
    with listening(TakenBit(large)) as port, connected(port, HEAD) as idle:
        assert status(idle) == 200
        wait_until(lambda: _whole(port) >= LARGE)


def _whole(port: int) -> int:
    """How much is answered, if it is; who takes it slowly is cut off, too."""
    size = 0
    with connected(port, HEAD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")) as client:
        while more := _received(client):
            size += len(more)
    return size


def test_a_body_in_tiny_bits_costs_as_much_as_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not its square: by a million bits that would be hours."""
    monkeypatch.setattr(middleware, "_LARGEST_BODY", 200_000)
    taken = 0

    async def receive() -> Message:
        nonlocal taken
        taken += 1
        return {"type": "http.request", "body": b"x", "more_body": True}

    answered: list[Message] = []

    async def send(message: Message) -> None:
        answered.append(message)

    scope: dict[str, Any] = {"type": "http", "method": "POST", "headers": [], "path": "/"}
    asyncio.run(asyncio.wait_for(SmallBodies(slowly)(scope, receive, send), 60))
    assert answered[0]["status"] == 413
    assert taken == 200_001


def test_a_client_that_leaves_amid_an_event_is_no_failure() -> None:
    """The framework tells of it by an error in a group, which was logged with its traceback."""

    async def gone() -> Message:
        return {"type": "http.disconnect"}

    async def send(_message: Message) -> None:
        pass

    def answer(error: Exception) -> None:
        async def app(_scope: Scope, _receive: Receive, sent: Send) -> None:
            await sent({"type": "http.response.start", "status": 200, "headers": []})
            raise error

        asyncio.run(TakenBit(app)({"type": "http"}, gone, send))

    answer(ExceptionGroup("a task group", [ExceptionGroup("", [BrokenResourceError()])]))
    with pytest.raises(ExceptionGroup) as raised:
        answer(ExceptionGroup("a task group", [BrokenResourceError(), ClosedResourceError()]))
    assert [type(one) for one in raised.value.exceptions] == [ClosedResourceError]
    with pytest.raises(ValueError, match="ours"):
        answer(ValueError("ours"))
