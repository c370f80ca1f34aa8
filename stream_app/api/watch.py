"""Looks at the outputs each second, once for all who watch: the newest status, what has happened, what was."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice

from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event

from stream_app import logs
from stream_app.api.context import Context
from stream_app.api.formats import encode
from stream_app.errors import StreamAppError
from stream_app.flows.flow import Flow
from stream_app.ops import events
from stream_app.ops.events import KINDS, Position
from stream_app.ops.status import SinkStatus, StatusReport, status

_LOOK_SECONDS = 1.0
_SAMPLE_SECONDS = 5.0
_SAMPLES = 1440
_LONGEST_QUEUE = 600
_AT_ONCE = 1_000
"""How many events of the past are held for one who comes back: of many flows there are many."""
_PING_SECONDS = 15.0
_RETRY_MS = 2000
_Numbers = tuple[int | None, int | None, float | None]
"""Of a flow at a time: the rows behind, the rows held, and the lag in seconds."""
_NOTHING: _Numbers = (None, None, None)


@dataclass(frozen=True)
class Sample:
    """How some flows were at a time, in the order that they were asked for; None of what was not there."""

    time: datetime
    behind: tuple[int | None, ...]
    rows: tuple[int | None, ...]
    lag_seconds: tuple[float | None, ...]
    """How long ago was what silver took last, or up to when windows are final."""


@dataclass(eq=False)
class _Look:
    """What was seen at once."""

    flows: tuple[Flow, ...]
    report: StatusReport

    def of(self, feed: str) -> _Look:
        """Return what was seen of a feed; all where it is empty."""
        if not feed:
            return self
        flows = tuple(flow for flow in self.flows if flow.feed.name == feed)
        return _Look(flows, replace(self.report, sinks=tuple(one for one in self.report.sinks if one.feed == feed)))


@dataclass
class Watcher:
    """Knows the newest status, and tells each subscriber what happens from then on."""

    context: Context
    _samples: deque[tuple[datetime, dict[str, _Numbers]]] = field(default_factory=lambda: deque(maxlen=_SAMPLES))
    _look: _Look | None = None
    _looking: threading.Lock = field(default_factory=threading.Lock)
    _subscribers: dict[asyncio.Queue[bytes | None], str] = field(default_factory=dict)
    """What each has not taken yet, as it is sent, with the feed that it asked for: written once for all who asked for
    the same. None is the end."""
    _next_sample: float = 0.0
    _trouble: str = ""

    def report(self) -> StatusReport:
        """Return the newest status, which is a second old at most. Raises StreamAppError where it cannot be told."""
        if self._trouble:
            raise StreamAppError(self._trouble)
        return (self._look or self._first()).report

    def samples(self, flows: Sequence[str]) -> list[Sample]:
        """Return how those flows were, the oldest first."""
        return [_sample(at, [held.get(name, _NOTHING) for name in flows]) for at, held in [*self._samples]]

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Look until the end of the block; then all streams end."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            for queue in self._subscribers:
                queue.put_nowait(None)

    async def follow(self, last_id: str, feed: str = "") -> AsyncIterator[bytes]:
        """Yield what has happened since that id, then what happens, each as it does, as server-sent events.

        With a feed it is what happens to that one.

        Where the id names no position of these flows it is all that is still known. Without one it begins now, and the
        first that is yielded is the id of now. The stream ends where its reader is too slow: it comes back with an id.
        """
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(_LONGEST_QUEUE)
        while (seen := self._look) is None:
            await asyncio.sleep(_LOOK_SECONDS / 10)
        look = seen.of(feed)
        self._subscribers[queue] = feed  # nothing is awaited since the look: what comes after it comes by the queue
        try:
            if last_id:
                before = events.position(last_id, look.flows) or Position()
                past = _since(before, look)
                while told := await asyncio.to_thread(_joined, past, _AT_ONCE):
                    yield told
            now = events.now(look.flows, look.report.sinks).id(look.flows)
            yield format_sse_event(event="position", data_str="{}", id=now, retry=_RETRY_MS)
            while (next_told := await _next(queue)) is not None:
                yield next_told
        finally:
            self._subscribers.pop(queue, None)

    async def _run(self) -> None:
        while True:
            before = self._look
            try:
                look = await asyncio.to_thread(self._looked if before else self._first)
                if before:
                    self._tell(await self._told(before, look))  # nothing is awaited from here on
                self._look, self._trouble = look, ""
            except Exception as error:  # else it would be the last look, and nobody would know
                if self._trouble != str(error):  # once, and not each second
                    logs.warning("the outputs cannot be looked at", error=error)
                self._trouble = str(error)
            await asyncio.sleep(_LOOK_SECONDS)

    async def _told(self, before: _Look, look: _Look) -> Mapping[str, bytes]:
        """Return what has happened between two looks, for each feed that somebody asks for by now."""
        told: dict[str, bytes] = {}
        while untold := {*self._subscribers.values()} - told.keys():
            for feed in untold:
                old = before.of(feed)
                happened = _since(events.now(old.flows, old.report.sinks), look.of(feed))
                told[feed] = await asyncio.to_thread(_joined, happened)
        return told

    def _tell(self, told: Mapping[str, bytes]) -> None:
        for queue in [queue for queue, feed in self._subscribers.items() if told[feed]]:
            try:
                queue.put_nowait(told[self._subscribers[queue]])
            except asyncio.QueueFull:
                del self._subscribers[queue]
                queue.get_nowait()
                queue.put_nowait(None)

    def _first(self) -> _Look:
        """Look for the first time, once for all who ask meanwhile: where there is much it takes long."""
        with self._looking:
            if self._look is None:
                self._look = self._looked()
            return self._look

    def _looked(self) -> _Look:
        flows = self.context.flows()
        look = _Look(flows, status(self.context.settings.output_path, flows))
        if time.monotonic() >= self._next_sample:
            self._next_sample = time.monotonic() + _SAMPLE_SECONDS
            seen = zip(flows, look.report.sinks, strict=True)
            self._samples.append((datetime.now(UTC), {flow.name: _numbers(sink) for flow, sink in seen}))
        return look


async def _next(queue: asyncio.Queue[bytes | None]) -> bytes | None:
    """Return what is told next, or after a while without, what keeps the connection: proxies close one that is idle."""
    try:
        async with asyncio.timeout(_PING_SECONDS):
            return await queue.get()
    except TimeoutError:
        return KEEPALIVE_COMMENT


def _since(before: Position, look: _Look) -> Iterator[bytes]:
    """Yield what has happened since, as it is sent."""
    for event, at in events.since(before, look.flows, look.report.sinks):
        yield format_sse_event(event=KINDS[type(event)], data_str=encode(event).decode(), id=at.id(look.flows))


def _joined(told: Iterator[bytes], most: int | None = None) -> bytes:
    return b"".join(islice(told, most))


def _sample(at: datetime, numbers: Sequence[_Numbers]) -> Sample:
    behind, rows, lags = zip(*numbers, strict=True)
    return Sample(at, behind, rows, lags)


def _numbers(sink: SinkStatus) -> _Numbers:
    newest = sink.complete_up_to or max(sink.newest_taken.values(), default=None)
    return sink.behind, sink.rows, round((datetime.now(UTC) - newest).total_seconds(), 1) if newest else None
