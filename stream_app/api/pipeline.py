"""How the pipeline is: status, quarantine, late rows, drift, and what happens, live."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import duckdb
from fastapi import APIRouter, Depends, Header, Query, Request
from starlette.responses import Response, StreamingResponse

from stream_app.api.answers import JSON, cached, told
from stream_app.api.cache import Answer
from stream_app.api.context import Context
from stream_app.api.formats import encode
from stream_app.api.problems import known_only
from stream_app.api.versions import Source
from stream_app.api.watch import Watcher
from stream_app.flows.flow import Flow
from stream_app.ops import quarantine as quarantines
from stream_app.ops.drift import DriftReport, drift
from stream_app.ops.events import KINDS
from stream_app.ops.late import LateReport, late
from stream_app.ops.lineage import Lineage, lineage
from stream_app.ops.quarantine import QuarantineHistory, QuarantineReport
from stream_app.ops.status import SinkStatus

_AS_IT_COMES = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
Reason = Annotated[str, Query(description="only this reason, or those that begin with it and a colon", max_length=512)]
Feed = Annotated[str, Query(description="only this feed", max_length=63)]


class EventStream(StreamingResponse):
    """Server-sent events, written once for all who listen; the framework's own would write each for each of them."""

    media_type = "text/event-stream"


_EVENT = {
    "type": "object",
    "required": ["event", "data", "id"],
    "properties": {
        "event": {"enum": [*KINDS.values(), "position"]},
        "data": {"type": "string", "contentMediaType": JSON},
        "id": {"type": "string"},
        "retry": {"type": "integer", "minimum": 0},
    },
}
_EVENTS = {EventStream.media_type: {"itemSchema": _EVENT}}


@dataclass(frozen=True)
class Status:
    """How the flows are, and whether a service runs."""

    is_running: bool
    sinks: tuple[SinkStatus, ...]


def routes(context: Context, watcher: Watcher) -> APIRouter:
    """Return the operations."""
    router = APIRouter(
        prefix="/api", tags=["pipeline"], dependencies=[context.guard.needs("read"), Depends(known_only)]
    )

    @router.get("/status", response_model=Status)
    def get_status(request: Request, feed: Feed = "") -> Response:
        """Tell how each flow is: its state, newest batch, rows, lag, and how complete it is."""
        context.flows(feed)
        report = watcher.report()
        return told(request, Status(report.is_running, tuple(one for one in report.sinks if feed in {"", one.feed})))

    @router.get("/history")
    def history(request: Request, feed: Feed = "") -> Response:
        """Tell how each flow was, every five seconds of the last two hours of this process, in the order of the status.

        Of each sample: its time, the rows behind, the rows held, and how many seconds ago was what was taken last.
        """
        names = [flow.name for flow in context.flows(feed)]
        return told(request, {"flows": names, "samples": watcher.samples(names)})

    @router.get("/drift", response_model=tuple[DriftReport, ...])
    def get_drift(request: Request, feed: Feed = "") -> Response:
        """Tell what records have that their feed does not declare."""
        return told(request, drift(context.flows(feed)))

    @router.get("/lineage", response_model=Lineage)
    def get_lineage(request: Request, feed: Feed = "") -> Response:
        """Tell what is made of what, by column, as the feed files declare it."""
        return told(request, lineage(context.flows(feed)))

    @router.get("/events", response_class=EventStream, responses={200: {"content": _EVENTS}})
    async def live(last_event_id: Annotated[str, Header(max_length=16384)] = "", feed: Feed = "") -> Response:
        """Tell what happens as it does: a `batch`, a `state`, an `alert` each.

        With Last-Event-ID it begins with what has happened since; `untold` names batches of which nothing else is
        known by now. A `position` event marks that all of that was told.
        An id is of one feed, or of all.
        """
        context.flows(feed)
        return EventStream(watcher.follow(last_event_id, feed), headers=_AS_IT_COMES)

    _add_refused(router, context)
    return router


def _add_refused(router: APIRouter, context: Context) -> None:
    """Add what tells of the records that are in no window: of quarantine, and those that came too late."""

    @router.get("/quarantine", response_model=tuple[QuarantineReport, ...])
    def quarantine(request: Request, feed: Feed = "", reason: Reason = "") -> Response:
        """Tell what is in quarantine by reason, with the newest records of each."""
        flows = context.flows(feed)
        return _cached(request, _quarantined(flows), lambda database: quarantines.quarantine(database, flows, reason))

    @router.get("/quarantine/history", response_model=tuple[QuarantineHistory, ...])
    def quarantine_history(request: Request, feed: Feed = "") -> Response:
        """Tell how many records were refused over time, by reason."""
        flows = context.flows(feed)
        return _cached(request, _quarantined(flows), lambda database: quarantines.quarantine_history(database, flows))

    @router.get("/late", response_model=tuple[LateReport, ...])
    def get_late(request: Request, feed: Feed = "") -> Response:
        """Tell what came too late for windows and sessions, with the newest rows."""
        flows = context.flows(feed)
        sources = [Source(flow, is_late=True) for flow in flows if flow.is_own and flow.stateful]
        return _cached(request, sources, lambda database: late(database, flows))

    def _cached(
        request: Request, sources: list[Source], ask: Callable[[duckdb.DuckDBPyConnection], object]
    ) -> Response:
        def make() -> Answer:
            with context.engine.cursor() as database:
                return Answer(encode(ask(database)), JSON, {})

        return cached(request, context, sources, JSON, make)


def _quarantined(flows: tuple[Flow, ...]) -> list[Source]:
    return [Source(flow) for flow in flows if flow.is_own and flow.kind.counted]
