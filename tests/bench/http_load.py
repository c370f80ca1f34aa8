"""A client that takes little of the cores on which it measures: requests at a rate, whatever the answers take.

Each is timed from when it was due, so a server that is late is not asked later. An answer is not looked at beyond its
status and its length.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field

_TICK, _PATIENCE_SECONDS = 0.002, 30.0


@dataclass
class Answered:
    """What came of the requests."""

    seconds: list[float] = field(default_factory=list)
    """How long each answer took, since it was due."""
    statuses: Counter[int] = field(default_factory=Counter)
    took: float = 0.0
    """From when the first was due until the last was answered."""


class _Connection(asyncio.Protocol):
    """One at a time."""

    def __init__(self, load: _Load) -> None:
        self._load = load
        self._heard = bytearray()
        self._whole = 0
        self._due = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def ask(self, request: bytes, due: float) -> None:
        assert self._transport
        self._due = due
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._heard += data
        if not self._whole and (end := self._heard.find(b"\r\n\r\n")) >= 0:
            length = self._heard[:end].lower().partition(b"content-length: ")[2].split(b"\r\n")[0]
            self._whole = end + 4 + int(length)
        if self._whole and len(self._heard) >= self._whole:
            status = int(self._heard[9:12])
            self._heard, self._whole = bytearray(), 0
            self._load.answered(self, status, self._due)

    def connection_lost(self, exc: Exception | None) -> None:
        self._load.ended(exc)


class _Load:
    """Requests that are due, and connections that are free."""

    def __init__(self, requests: Iterable[bytes]) -> None:
        self.found = Answered()
        self.done = asyncio.get_running_loop().create_future()
        self.free: deque[_Connection] = deque()
        self._requests = deque(requests)
        self._due: deque[float] = deque()
        self._left = len(self._requests)
        self._is_eager = False

    def add(self, due: float) -> None:
        self._due.append(due)
        self._ask()

    def answered(self, connection: _Connection, status: int, due: float) -> None:
        self.found.seconds.append(time.perf_counter() - due)
        self.found.statuses[status] += 1
        self.free.append(connection)
        self._left -= 1
        if not self._left and not self.done.done():
            self.done.set_result(None)
        self._ask()

    def go_on(self) -> None:
        """Have a request due whenever a connection is free."""
        self._is_eager = True
        self._ask()

    def ended(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(error or ConnectionError("the server has closed a connection"))

    def _ask(self) -> None:
        while self.free and self._requests and (self._due or self._is_eager):
            due = self._due.popleft() if self._due else time.perf_counter()
            self.free.popleft().ask(self._requests.popleft(), due)


async def load(port: int, paths: Iterable[str], rate: float, connections: int) -> Answered:
    """Ask for the paths, so many a second; without a rate as soon as a connection is free."""
    requests = [f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode() for path in paths]
    asked, loop = _Load(requests), asyncio.get_running_loop()
    for _ in range(connections):
        _, connection = await loop.create_connection(lambda: _Connection(asked), "127.0.0.1", port)
        asked.free.append(connection)
    began = time.perf_counter()
    if rate:
        for number in range(len(requests)):
            due = began + number / rate
            if (early := due - time.perf_counter()) > 0:
                await asyncio.sleep(max(early, _TICK))
            asked.add(due)
    else:
        asked.go_on()
    with suppress(TimeoutError):  # what is not answered by then was not held
        async with asyncio.timeout(_PATIENCE_SECONDS):
            await asked.done
    asked.found.took = time.perf_counter() - began
    return asked.found


@dataclass
class Stream(asyncio.Protocol):
    """A stream of events that somebody listens to."""

    events: int = 0
    is_open: bool = True

    def data_received(self, data: bytes) -> None:
        self.events += data.count(b"event: ")

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - as the protocol has it
        self.is_open = False


async def listening(port: int, count: int) -> list[Stream]:
    """Open so many streams; each is told something before this returns."""
    loop, streams = asyncio.get_running_loop(), list[Stream]()
    for _ in range(count):
        transport, stream = await loop.create_connection(Stream, "127.0.0.1", port)
        transport.write(b"GET /api/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        streams.append(stream)
    async with asyncio.timeout(60):
        while not all(stream.events for stream in streams):
            await asyncio.sleep(0.1)
    return streams
