"""The newest rows of each output, and how many there are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import duckdb

from stream_app.errors import StreamAppError
from stream_app.flows.flow import Flow, Layer
from stream_app.ops import rows
from stream_app.ops.rows import Rows
from stream_app.ops.sql import name, view
from stream_app.ops.tables import copy_tables
from stream_app.ops.views import connected
from stream_app.settings import Settings

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


def show(settings: Settings, flows: Sequence[Flow]) -> ShowReport:
    """Return the newest rows of each output; of a table that cannot be read, why."""
    with connected(flows) as connection:
        return ShowReport(tuple(_outputs(connection, flows, settings)))


def _outputs(
    connection: duckdb.DuckDBPyConnection, flows: Sequence[Flow], settings: Settings
) -> Iterator[Shown | Unreadable]:
    for flow in flows:
        if flow.layer is Layer.TOPIC:
            continue
        try:
            if flow.layer is Layer.TABLE:
                copy_tables(connection, [flow], settings)
        except StreamAppError as error:
            yield Unreadable(flow.name, str(error))
        else:
            yield _shown(connection, flow)


def _shown(connection: duckdb.DuckDBPyConnection, flow: Flow) -> Shown:
    table = view(flow.feed.name, flow.sink)
    ((count,),) = connection.sql(f"SELECT count(*) FROM {table}").fetchall()
    sql = f"SELECT {_columns(flow)} FROM {table} ORDER BY {_newest_first(flow)} LIMIT {_NEWEST_ROWS}"
    return Shown(flow.name, _place(flow), count, rows.read(connection, connection.sql(sql)))


def _place(flow: Flow) -> str:
    return f"PostgreSQL's {flow.table}" if flow.layer is Layer.TABLE else str(flow.layout.output)


def _columns(flow: Flow) -> str:
    if flow.layer is Layer.BRONZE:
        return 'key, left(coalesce(try(decode(value)), value::VARCHAR), 60) AS value, kafka_ts, partition, "offset"'
    return "* EXCLUDE (value)" if flow.layer is Layer.QUARANTINE else "*"


def _newest_first(flow: Flow) -> str:
    if flow.is_windowed:
        return ", ".join(("window_start DESC", *map(name, flow.window.keys)))
    if flow.derived in flow.feed.sessions:
        return ", ".join(("session_start DESC", *map(name, flow.session.keys)))
    if flow.layer is Layer.RAW_CSV:
        return f"{name(flow.feed.event_time.field)} DESC"
    return 'kafka_ts DESC, partition, "offset" DESC'
