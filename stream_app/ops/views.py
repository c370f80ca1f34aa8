"""The outputs as DuckDB views: `<feed>.<layer>`, and `<layer>` alone for the first feed. Times are shown in UTC."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import duckdb

from stream_app.declared import Measure
from stream_app.feed import Feed
from stream_app.files import BatchFile, batch_files, standing
from stream_app.flow import Flow, Layer
from stream_app.ops.sql import name, text
from stream_app.rows import CSV_DIALECT

COORDINATES = {"kafka_ts": "TIMESTAMPTZ", "topic": "VARCHAR", "partition": "INTEGER", "offset": "BIGINT"}
_TYPES = {
    "string": "VARCHAR",
    "timestamp": "TIMESTAMPTZ",
    "double": "DOUBLE",
    "long": "BIGINT",
    "boolean": "BOOLEAN",
}


def connect(flows: Sequence[Flow]) -> duckdb.DuckDBPyConnection:
    """An in-memory database with a view for each flow that writes files, over those that stand now.

    Files that a compacted file has taken the place of are left out, so each batch counts once.
    """
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    for flow in flows:
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {flow.feed.name}")
        if flow.layer not in {Layer.TOPIC, Layer.TABLE}:
            connection.execute(f"CREATE VIEW {flow.feed.name}.{flow.sink} AS {select(flow)}")
        if flow.layer in {Layer.GOLD, Layer.SESSIONS}:
            connection.execute(f"CREATE VIEW {flow.feed.name}.{flow.late_name} AS {select_late(flow)}")
    connection.execute(f"SET search_path = '{flows[0].feed.name},main'")
    return connection


def select(flow: Flow, up_to: float = math.inf) -> str:
    """The SQL that reads the flow's files of the batches up to one; no rows, but all columns, where there are none."""
    return _select([file for file in flow.files() if file.last <= up_to], _columns(flow))


def select_late(flow: Flow, up_to: float = math.inf) -> str:
    """The same for the rows that came after their window or session was final."""
    files = [file for file in standing(batch_files(flow.late, flow.late_name)) if file.last <= up_to]
    windows = {"window_start": "TIMESTAMPTZ", "window_end": "TIMESTAMPTZ"} if flow.is_windowed else {}
    return _select(files, windows | _declared(flow) | COORDINATES)


def _select(files: Sequence[BatchFile], columns: Mapping[str, str]) -> str:
    if not files:
        nulls = (f"NULL::{kind} AS {name(column)}" for column, kind in columns.items())
        return f"SELECT {', '.join(nulls)} WHERE false"
    listed = f"[{', '.join(text(file.path) for file in files)}]"
    if files[0].path.suffix == f".{Layer.RAW_CSV.extension}":
        typed = ", ".join(f"{text(column)}: {text(kind)}" for column, kind in columns.items())
        return f"SELECT * FROM read_csv({listed}, columns = {{{typed}}}, {CSV_DIALECT})"
    dated = "=" in files[0].path.parent.name  # a lake's folders, as event_date=2026-11-21
    return f"SELECT * FROM read_parquet({listed}, hive_partitioning = {dated})"


def _declared(flow: Flow) -> dict[str, str]:
    return {column: _TYPES.get(field.type, field.type) for column, field in flow.feed.fields.items()}


def _columns(flow: Flow) -> dict[str, str]:
    declared = _declared(flow)
    match flow.layer:
        case Layer.BRONZE:
            return {
                "key": "VARCHAR",
                "value": "BLOB",
                "headers": "STRUCT(key VARCHAR, value BLOB)[]",
            } | COORDINATES
        case Layer.QUARANTINE:
            texts = {"key": "VARCHAR", "value": "BLOB", "value_text": "VARCHAR", "reasons": "VARCHAR[]"}
            return texts | COORDINATES
        case Layer.SILVER | Layer.LAKE:
            dates = {"event_date": "DATE"} if flow.layer is Layer.LAKE else {}
            return declared | COORDINATES | dates
        case Layer.GOLD:
            keys = {key: declared[key] for key in flow.window.keys}
            windows = {"window_start": "TIMESTAMPTZ", "window_end": "TIMESTAMPTZ"} | keys
            return windows | {column: _measured(flow.feed, m) for column, m in flow.window.measures.items()}
        case Layer.SESSIONS:
            keys = {key: declared[key] for key in flow.session.keys}
            times = {"session_start": "TIMESTAMPTZ", "session_end": "TIMESTAMPTZ"}
            return keys | times | {"duration_seconds": "DOUBLE", "events": "BIGINT", "outcome": "VARCHAR"}
        case _:
            return declared


def _measured(feed: Feed, measure: Measure) -> str:
    if measure.field is None or measure.function == "distinct":
        return "BIGINT"
    decimal = feed.fields[measure.field].precision_scale
    if decimal is None:
        return _TYPES[feed.fields[measure.field].type] if measure.function != "avg" else "DOUBLE"
    # as Spark: ten more digits for a sum, four more and four more decimals for an average
    more, finer = {"sum": (10, 0), "avg": (4, 4)}.get(measure.function, (0, 0))
    return f"DECIMAL({min(38, decimal[0] + more)},{decimal[1] + finer})"
