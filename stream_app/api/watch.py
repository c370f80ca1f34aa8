"""Looks at the outputs each second, once for all who watch: the newest status, what has happened, what was."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event

from stream_app import logs
from stream_app.api.context import Context
from stream_app.api.formats import encode
from stream_app.errors import StreamAppError
from stream_app.flows.flow import Flow
from stream_app.ops import events
from stream_app.ops.events import KINDS, Event, Position
from stream_app.ops.status import SinkStatus, StatusReport, status

_LOOK_SECONDS = 1.0
_SAMPLE_SECONDS = 5.0
_SAMPLES = 1440
_LONGEST_QUEUE = 600
_PING_SECONDS = 15.0
_RETRY_MS = 2000


@dataclass(frozen=True)
class Sample:
    """How the flows were at a time, in the order of the status."""

    time: datetime
    behind: tuple[int | None, ...]
    rows: tuple[int, ...]
    lag_seconds: tuple[float | None, ...]
    """How long ago was what silver took last, or up to when windows are final."""


@dataclass(eq=False)
class _Look:
    """What was seen at once."""

    flows: tuple[Flow, ...]
    report: StatusReport


@dataclass
class Watcher:
    """Knows the newest status, and tells each subscriber what happens from then on."""

    context: Context
    samples: deque[Sample] = field(default_factory=lambda: deque(maxlen=_SAMPLES))
    _look: _Look | None = None
    _subscribers: set[asyncio.Queue[bytes | None]] = field(default_factory=set)
    """What each has not taken yet, as it is sent: written once for all, whoever listens. None is the end."""
    _next_sample: float = 0.0
    _trouble: str = ""

    def report(self) -> StatusReport:
        """Return the newest status, which is a second old at most."""
        return self._look.report if self._look else self._looked().report

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

    async def follow(self, last_id: str) -> AsyncIterator[bytes]:
        """Yield what has happened since that id, then what happens, each as it does, as server-sent events.

        Where the id names no position of these flows it is all that is still known. Without one it begins now, and the
        first that is yielded is the id of now. The stream ends where its reader is too slow: it comes back with an id.
        """
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(_LONGEST_QUEUE)
        while (look := self._look) is None:
            await asyncio.sleep(_LOOK_SECONDS / 10)
        self._subscribers.add(queue)  # nothing is awaited since the look: what comes after it comes by the queue
        try:
            if last_id:
                before = events.position(last_id, look.flows) or Position()
                if told := await asyncio.to_thread(_since, before, look):
                    yield told
            now = events.now(look.flows, look.report.sinks).id(look.flows)
            yield format_sse_event(event="position", data_str="{}", id=now, retry=_RETRY_MS)
            while (next_told := await _next(queue)) is not None:
                yield next_told
        finally:
            self._subscribers.discard(queue)

    async def _run(self) -> None:
        while True:
            before = self._look
            try:
                look = await asyncio.to_thread(self._looked)
                if before:
                    old = events.now(before.flows, before.report.sinks)
                    self._tell(await asyncio.to_thread(_since, old, look))
                self._look, self._trouble = look, ""
            except (StreamAppError, OSError) as error:
                if self._trouble != str(error):  # once, and not each second
                    logs.warning("the outputs cannot be looked at", error=error)
                self._trouble = str(error)
            await asyncio.sleep(_LOOK_SECONDS)

    def _tell(self, told: bytes) -> None:
        if not told:
            return
        for queue in [*self._subscribers]:
            try:
                queue.put_nowait(told)
            except asyncio.QueueFull:
                self._subscribers.discard(queue)
                queue.get_nowait()
                queue.put_nowait(None)

    def _looked(self) -> _Look:
        flows = self.context.flows()
        look = _Look(flows, status(self.context.settings.output_path, flows))
        if time.monotonic() >= self._next_sample:
            self._next_sample = time.monotonic() + _SAMPLE_SECONDS
            self.samples.append(_sample(look.report))
        return look


async def _next(queue: asyncio.Queue[bytes | None]) -> bytes | None:
    """Return what is told next, or after a while without, what keeps the connection: proxies close one that is idle."""
    try:
        async with asyncio.timeout(_PING_SECONDS):
            return await queue.get()
    except TimeoutError:
        return KEEPALIVE_COMMENT


def _since(before: Position, look: _Look) -> bytes:
    found = events.since(before, look.flows, look.report.sinks)
    return b"".join(_written(event, at.id(look.flows)) for event, at in found)


def _written(event: Event, identity: str) -> bytes:
    return format_sse_event(event=KINDS[type(event)], data_str=encode(event).decode(), id=identity)


def _sample(report: StatusReport) -> Sample:
    now = datetime.now(UTC)
    sinks = report.sinks
    lags = tuple(_lag(now, sink) for sink in sinks)
    return Sample(now, tuple(sink.behind for sink in sinks), tuple(sink.rows for sink in sinks), lags)


def _lag(now: datetime, sink: SinkStatus) -> float | None:
    newest = sink.complete_up_to or max(sink.newest_taken.values(), default=None)
    return round((now - newest).total_seconds(), 1) if newest else None
