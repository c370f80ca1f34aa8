"""Bounds on clients that are slow: who sends nothing, or takes nothing, holds no connection and no memory for long."""

from __future__ import annotations

import asyncio
import socket
from http import HTTPStatus

from anyio import BrokenResourceError
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from stream_app.api.problems import problem

REQUEST_SECONDS = 10.0
"""How long a request may take to come: its head, then its body."""
_TAKEN_MS = 30_000
_CHUNK = 64 << 10
_SMALL, _MOST_BYTES = 1 << 20, 64 << 20


def cut_off_who_takes_nothing(listener: socket.socket) -> None:
    """Have the kernel end a connection whose client has taken nothing for half a minute of what was sent to it."""
    is_here = hasattr(socket, "TCP_USER_TIMEOUT")  # on Linux
    if is_here and listener.family != socket.AF_UNIX:  # there a server is before us, which has bounds of its own
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _TAKEN_MS)


class PromptClients(H11Protocol):
    """HTTP/1.1 of uvicorn, whose clients have some seconds for the head of a request, the first one and the next."""

    _head: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Wait for a request from now on."""
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """Take what has come; what comes after an answer is the head of the next request."""
        if self._head is None and self.cycle and self.cycle.response_complete:
            self._await_head()
        super().data_received(data)
        if self._head and self.cycle and not self.cycle.response_complete:
            self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._head = self.loop.call_later(REQUEST_SECONDS, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._head:
            self._head.cancel()
        self._head = None


class TakenBit:
    """Hands large answers to clients bit by bit as they take them, and refuses one while too many are on their way."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or say that too much is on its way."""
        held = 0
        is_refused = False

        async def sent(message: Message) -> None:
            nonlocal held, is_refused
            if message["type"] == "http.response.start":
                size = int(Headers(raw=message["headers"]).get("content-length", "0"))
                if size > _SMALL and self._bytes + size > _MOST_BYTES:
                    is_refused = True
                    busy = "too many large answers are on their way; take yours faster, or try again"
                    await problem(HTTPStatus.SERVICE_UNAVAILABLE, busy, {"Retry-After": "5"})(scope, receive, send)
                    return
                held = size if size > _SMALL else 0
                self._bytes += held
            if is_refused:
                return
            body, start = message.get("body", b""), 0
            while len(body) - start > _CHUNK:  # uvicorn waits before a bit while the last ones were not taken
                bit = body[start : start + _CHUNK]
                await send({"type": "http.response.body", "body": bit, "more_body": True})
                start += _CHUNK
            await send({**message, "body": body[start:]} if start else message)

        try:
            await self._app(scope, receive, sent)
        except* BrokenResourceError:
            pass  # the framework had an event in its hands when the client left; that is no failure of ours
        finally:
            self._bytes -= held
