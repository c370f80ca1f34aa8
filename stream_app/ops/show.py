"""make show [FEED=] - the newest rows of each output, and how many there are."""

from __future__ import annotations

import duckdb

from stream_app.errors import StreamAppError
from stream_app.flows.flow import Flow, Layer
from stream_app.ops.command import run
from stream_app.ops.sql import name, view
from stream_app.ops.tables import copy_tables
from stream_app.ops.views import connected
from stream_app.plain import plain
from stream_app.settings import Settings

_NEWEST_ROWS = 5


def show(settings: Settings, flows: tuple[Flow, ...]) -> int:
    """Print them, layer by layer; of a table that cannot be read, why."""
    with connected(flows) as connection:
        for flow in flows:
            if flow.layer is not Layer.TOPIC:
                _print(connection, flow, settings)
    return 0


def _print(connection: duckdb.DuckDBPyConnection, flow: Flow, settings: Settings) -> None:
    if flow.layer is Layer.TABLE:
        try:
            copy_tables(connection, [flow], settings)
        except StreamAppError as error:
            print(f"\n{plain(error)}")
            return
    table = view(flow.feed.name, flow.sink)
    (count,) = connection.sql(f"SELECT count(*) FROM {table}").fetchall()[0]
    print(f"\n{flow.name}: {count:,} rows in {plain(_place(flow))}")
    rows = connection.sql(f"SELECT {_columns(flow)} FROM {table} ORDER BY {_newest_first(flow)} LIMIT {_NEWEST_ROWS}")
    rows.show(max_width=200)


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


if __name__ == "__main__":
    run("show", show)
