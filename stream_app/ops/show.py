"""The newest rows of each output, and how many there are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import duckdb

from stream_app.errors import StreamAppError
from stream_app.feeds.sql import view
from stream_app.flows.flow import Flow
from stream_app.ops import rows
from stream_app.ops.rows import Rows
from stream_app.ops.views import connected
from stream_app.settings import Servers
from stream_app.sinks.protocol import sink_of

_NEWEST_ROWS = 5


@dataclass(frozen=True)
class Shown:
    """The newest rows of one output."""

    name: str
    place: str
    count: int
    newest: Rows


@dataclass(frozen=True)
class Unreadable:
    """An output that cannot be read, and why."""

    name: str
    trouble: str


@dataclass(frozen=True)
class ShowReport:
    """What each output holds, upstream first."""

    outputs: tuple[Shown | Unreadable, ...]


def show(servers: Servers, flows: Sequence[Flow]) -> ShowReport:
    """Return the newest rows of each output; of a table that cannot be read, why."""
    with connected(flows) as connection:
        return ShowReport(tuple(_outputs(connection, flows, servers)))


def _outputs(
    connection: duckdb.DuckDBPyConnection, flows: Sequence[Flow], servers: Servers
) -> Iterator[Shown | Unreadable]:
    for flow in flows:
        if not sink_of(flow).is_queryable:
            continue
        try:
            sink_of(flow).copy_into(connection, flow, servers)
        except StreamAppError as error:
            yield Unreadable(flow.name, str(error))
        else:
            yield _shown(connection, flow)


def _shown(connection: duckdb.DuckDBPyConnection, flow: Flow) -> Shown:
    sink, table = sink_of(flow), view(flow.feed.name, flow.sink)
    ((count,),) = connection.sql(f"SELECT count(*) FROM {table}").fetchall()
    columns, order = flow.kind.shown if flow.is_own else "*", sink.newest_first(flow.kind)
    sql = f"SELECT {columns} FROM {table} ORDER BY {order} LIMIT {_NEWEST_ROWS}"
    return Shown(flow.name, sink.place(flow), count, rows.read(connection, connection.sql(sql)))
