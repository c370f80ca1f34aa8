"""What feeds there are, and the rows of their datasets."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from stream_app.api import formats
from stream_app.api.answers import cached, told
from stream_app.api.cache import Answer
from stream_app.api.context import Context
from stream_app.api.problems import Problem, known_only, once
from stream_app.api.versions import Source
from stream_app.flows.flow import Flow
from stream_app.ops.selection import Condition, Selection, columns_of, select
from stream_app.settings import PROJECT
from stream_app.sinks.protocol import Moment, sink_of

_MOST_ROWS = 10_000
_OWN = frozenset({"columns", "cursor", "from", "limit", "numbers", "order", "timestamp", "to", "version"})
_CONDITIONS = """
Rows of a dataset, the newest first, or of a Delta sink, also as it was: `version=12`, or `timestamp`, an ISO time.

Any column is a condition: `status=approved`, twice for either value, or with an operator: `amount.gte=10`,
`event_time.lt=2026-11-21T10:00:00Z`, `user_id.ne=u1`, `warnings.null=true`. `.eq` is for a column that is called as a
parameter is. Of an array of texts, as `reasons`, it asks whether the value is in it.

`next` of JSON, and the Link header of every format, lead to the next page. A row that is there at the first page is on
one page exactly, while files are merged, too. Accept chooses the format: application/json, application/x-ndjson,
text/csv or application/vnd.apache.arrow.stream. Money is text; `numbers=float` makes numbers of it.
"""


def routes(context: Context) -> APIRouter:
    """Return the operations."""
    router = APIRouter(prefix="/api/feeds", tags=["feeds"], dependencies=[context.guard.needs("read")])

    @router.get("", dependencies=[Depends(known_only)])
    def feeds(request: Request) -> Response:
        """List the feeds, with their topics and outputs."""
        names = dict.fromkeys(flow.feed.name for flow in context.flows())
        return told(request, [_summary(context.flows(name)) for name in names])

    @router.get("/{feed}", dependencies=[Depends(known_only)])
    def feed(request: Request, feed: str) -> Response:
        """Describe a feed: its contract, its datasets with their columns, its sinks."""
        flows = context.flows(feed)
        contract = flows[0].feed.model_dump(mode="json", exclude_defaults=True)
        return told(request, {**_summary(flows), "contract": contract})

    @router.get("/{feed}/{dataset}", description=_CONDITIONS, responses={200: {"content": _media()}})
    def rows(
        request: Request,
        feed: str,
        dataset: str,
        limit: Annotated[int, Query(ge=1, le=_MOST_ROWS, description="the most rows of a page")] = 100,
        cursor: Annotated[str, Query(max_length=4096, description="the page after the one that gave it")] = "",
        order: Annotated[
            str, Query(max_length=80, description="a column; with a - before it, the greatest first")
        ] = "",
        columns: Annotated[str, Query(max_length=8192, description="the columns to give, with commas between")] = "",
        since: Annotated[str, Query(alias="from", max_length=64, description="the earliest time, inclusive")] = "",
        until: Annotated[str, Query(alias="to", max_length=64, description="the latest time, exclusive")] = "",
        numbers: Annotated[Literal["string", "float"], Query(description="how decimals are written")] = "string",
        at_version: Annotated[int | None, Query(alias="version", ge=0, description="of a Delta sink")] = None,
        at_time: Annotated[
            datetime | None, Query(alias="timestamp", description="of a Delta sink; else in UTC")
        ] = None,
    ) -> Response:
        once(request, _OWN)
        if at_version is not None and at_time:
            raise Problem(HTTPStatus.BAD_REQUEST, "version, timestamp: give one of them")
        flow = context.dataset(feed, dataset)
        written = formats.chosen(request.headers.get("accept", ""))
        moment = Moment(at_version, at_time and (at_time if at_time.tzinfo else at_time.replace(tzinfo=UTC)))
        shown = tuple(column for column in columns.split(",") if column)
        selection = Selection(shown, tuple(_conditions(request)), since, until, order, limit, cursor, moment)

        def make() -> Answer:
            with context.engine.cursor() as connection:
                page = select(connection, flow, selection)
            following = page.next and request.url.include_query_params(cursor=page.next)
            link = {"Link": f'<{following.path}?{following.query}>; rel="next"'} if following else {}
            return Answer(written.write(page, numbers), written.media, link)

        return cached(request, context, [Source(flow)], written.media, make)

    return router


def _media() -> dict[str, Any]:
    return {media: {} for media in formats.FORMATS}


def _summary(flows: tuple[Flow, ...]) -> dict[str, object]:
    datasets = [_dataset(flow) for flow in flows if flow.is_own]
    sinks = [_sink(flow) for flow in flows if not flow.is_own]
    feed = flows[0].feed
    return {
        "name": feed.name,
        "topic": feed.topic,
        "has_producer": _has_producer(feed.name),
        "datasets": datasets,
        "sinks": sinks,
    }


def _has_producer(feed: str) -> bool:
    """Return whether the project has test traffic for a feed, which `make run` and `make produce` send."""
    return (PROJECT / "producer" / "events" / f"{feed}.py").is_file()


def _dataset(flow: Flow) -> dict[str, object]:
    stateful = flow.kind.stateful
    return {
        "name": flow.sink,
        "upstream": flow.upstream.sink if flow.upstream else None,
        "rows_are": stateful.noun if stateful else "record",
        "time": flow.kind.time,
        "columns": {column: one.name for column, one in columns_of(flow).items()},
        "rows": f"/api/feeds/{flow.feed.name}/{flow.sink}",
    }


def _sink(flow: Flow) -> dict[str, object]:
    sink = sink_of(flow)
    upstream = flow.upstream.sink if flow.upstream else None
    declared, rows = flow.feed.sinks[flow.sink], f"/api/feeds/{flow.feed.name}/{flow.sink}"
    place = sink.place(flow)
    return {
        "name": flow.sink,
        "of": flow.kind.name,
        "to": declared.to,
        "upstream": upstream,
        "place": place,
        "guarantee": sink.guarantee,
        **({"rows": rows} if sink.is_table else {}),
    }


def _conditions(request: Request) -> Iterator[Condition]:
    """Yield the conditions: each parameter that is none of ours."""
    asked = request.query_params
    for parameter in dict.fromkeys(asked.keys()):
        if parameter not in _OWN:
            column, _, operator = parameter.rpartition(".") if "." in parameter else (parameter, "", "eq")
            yield Condition(column, operator, tuple(asked.getlist(parameter)))
