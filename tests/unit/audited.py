"""A whole output for the audit: its feed, its records, and how a test changes it and asks."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stream_app.feeds.feed import Feed
from stream_app.flows.flow import Flow
from stream_app.ops.audit.report import Report
from stream_app.sinks.postgres import PostgresSink
from tests.helpers import Row, reconciled
from tests.outputs import Output, Record

START = datetime(2026, 11, 27, 10, tzinfo=UTC)

# Sinks and columns are called what SQL, and the audit itself, call things.
FEED = """
topic = "order"
[fields.id]
path = "user's id"
type = "string"
[fields.ts]
type = "timestamp"
[fields.order]
type = "decimal(10,2)"
[fields.first]
type = "string"
[fields.last]
type = "string"
[event_time]
field = "ts"
lateness = "2 hours"
future_tolerance = "1 minute"
[dedupe]
key = "id"
within = "1 hour"
[windows.csv]
key = "first"
window = "1 minute"
watermark = "2 minutes"
measures = { back = "count", total = "sum(order)", mean = "avg(order)", rows = "max(order)" }
[windows.due]
window = "2 minutes"
slide = "1 minute"
watermark = "2 minutes"
where = { last = "go" }
measures = { missing = "distinct(first)" }
[sessions.repeats]
keys = ["first"]
ends = { last = "end" }
gap = "1 minute"
watermark = "2 minutes"
[sinks.raw_csv]
of = "silver"
to = "csv"
[sinks.own]
of = "silver"
to = "lake"
[sinks.table]
of = "silver"
to = "kafka"
topic = "elsewhere"
key = "id"
[sinks.postgres_end]
of = "csv"
to = "postgres"
table = "end"
[sinks.postgres_bronze]
of = "repeats"
to = "postgres"
table = "bronze"
"""


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def record(number: object, minutes: float, *, arrived: float | None = None, **changed: object) -> Record:
    """A valid record of that number, which happened so many minutes after START and arrived then or later."""
    fields = {"user's id": f"r{number}", "ts": at(minutes).isoformat(), "order": 12.5, "first": "a", "last": "go"}
    return Record(json.dumps(fields | changed).encode(), at(minutes if arrived is None else arrived))


def batches() -> Iterable[tuple[float, list[Record]]]:
    """When each was planned, and its records: each kind that there is."""
    yield 1, [record(0, 0), record(1, 0.2, first="=b", order=7), Record(b"\xff", at(0.5)), record(2, 0.9, last="end")]
    yield (
        5,
        [
            record(3, 4, first=""),
            record(0, 4.5),
            record(4, 4.8, last=""),
            record(5, 4.9, order="x"),
            record(0, 4.95, order="x"),
        ],
    )
    yield 6, [record("7", 5.2, first="d"), Record(None, at(5.6))]
    yield 80, [record(6, 0.3, arrived=79, first="c"), record(8, 79), record(9, 79.5, first="e")]
    # the key of the first record, after the hour in which it would be a repeat
    yield 81, [record(0, 80.5), record(10, 80.7, order=0.1), record(10, 80.8)]
    yield 90, [record(11, 89, first="b"), record(12, 89.2)]


def made(declared: str, name: str, root: Path, *, says_batches: bool = True) -> Output:
    """The output of those records by a feed."""
    feed = Feed.model_validate(tomllib.loads(declared, parse_float=Decimal) | {"name": name})
    output = Output(feed, root, says_batches)
    for minutes, records in batches():
        output.take(records, at(minutes))
    output.end(at(91))
    return output


def with_tables(output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have PostgreSQL's tables be those of the output."""

    def copy(_: PostgresSink, connection: duckdb.DuckDBPyConnection, flow: Flow, _settings: object) -> None:
        columns = output.gold_columns(flow).append(pa.field("final", pa.bool_()))
        connection.register("_copied", pa.Table.from_pylist(output.tables[flow.sink], columns))
        connection.execute(f'CREATE TABLE "{flow.feed.name}"."{flow.sink}" AS FROM _copied')

    monkeypatch.setattr(PostgresSink, "copy_into", copy)


def found(output: Output, **settings: object) -> Report:
    return reconciled(output.flows["bronze"], **settings)


def edit(path: Path, change: Callable[[list[Row]], list[Row]]) -> None:
    """Write a file anew with other rows; what it says of itself stays."""
    table = pq.read_table(path)
    pq.write_table(pa.Table.from_pylist(change(table.to_pylist()), table.schema), path)


def lines(report: Report) -> str:
    return "\n".join((*report.wrong, *report.not_audited))
