"""What people do to tables beside the service: look at their history, and tidy their files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice

import pyarrow as pa

from stream_app.errors import ConfigError
from stream_app.flows.flow import Flow
from stream_app.sinks import table_optimize
from stream_app.sinks.protocol import sink_of
from stream_app.sinks.tables import TableSink
from stream_app.storage.tables.table import Table


@dataclass(frozen=True)
class Change:
    """One version of a table. Its time is in UTC."""

    version: int
    time: datetime
    what: str
    batch: int | None
    rows: int | None
    """How many rows its batch brought."""
    offsets: str
    """How far of the layer before its batch has read, as JSON; empty of a version that is of no batch."""


@dataclass(frozen=True)
class History:
    """The versions of one table, newest first."""

    sink: str
    place: str
    versions: tuple[Change, ...]


@dataclass(frozen=True)
class Optimized:
    """A partition of a table whose files were written again; `after` is None where the table changed meanwhile."""

    sink: str
    partition: str
    files: int
    bytes: int
    after: int | None


@dataclass(frozen=True)
class Expired:
    """What no version needs that is kept."""

    sink: str
    place: str
    hours: int
    files: int
    bytes: int


def opened(flows: Sequence[Flow]) -> Iterator[tuple[Flow, TableSink, Table]]:
    """Yield the flows whose sinks are tables that are there, at their newest version.

    Raises ConfigError where none of the flows is for a table, and where somebody else has made the table.
    """
    tables = [(flow, sink) for flow in flows if isinstance(sink := sink_of(flow), TableSink)]
    if not tables:
        raise ConfigError(f"{', '.join(flow.name for flow in flows)}: none is a table of delta")
    for flow, sink in tables:
        table = sink.table(flow)
        if table.exists():
            table.refresh()
            if table.owner.get("sink") != flow.name:
                raise ConfigError(f"{table.location} is not a table that {flow.name} has written")
            yield flow, sink, table


def history(flows: Sequence[Flow], most: int) -> tuple[History, ...]:
    """Return the newest versions of each table."""
    return tuple(
        History(flow.name, sink.place(flow), tuple(islice(_changes(table), most)))
        for flow, sink, table in opened(flows)
    )


def optimize(flows: Sequence[Flow]) -> Iterator[Optimized]:
    """Write small files of each table again as large ones, and yield what became of each partition as it is done."""
    for flow, sink, table in opened(flows):
        columns = pa.schema([one for one in sink.rows_of(flow.kind) if one.name not in sink.partitioning.columns])
        for work in table_optimize.planned(table, sink.cluster_by):
            after = table_optimize.carry_out(table, columns, work, sink.cluster_by, sink.statistics)
            partition = ", ".join(f"{column}={value}" for column, value in work.partition.items())
            yield Optimized(flow.name, partition, len(work.files), work.bytes, after)


def expired(flows: Sequence[Flow], hours: int) -> tuple[Expired, ...]:
    """Return what `vacuum` would delete of each table."""
    return tuple(
        Expired(flow.name, sink.place(flow), hours, len(found), sum(table.place.size(path) or 0 for path in found))
        for flow, sink, table in opened(flows)
        for found in [table.expired(hours, orphans=True)]
    )


def vacuum(flows: Sequence[Flow], hours: int) -> None:
    """Delete what no version of the last hours needs, and what died before any version had it."""
    for _, _, table in opened(flows):
        if table.expired(hours, orphans=True):
            table.vacuum(hours, orphans=True)


def _changes(table: Table) -> Iterator[Change]:
    for one in table.versions():
        rows, time = one.says.get("rows"), datetime.fromtimestamp(one.time_ms / 1000, UTC)
        counted = None if rows is None else int(rows)
        what = "merged small files" if "rewrites" in one.says else one.what.lower()
        if widened := one.says.get("widened"):
            what = f"widened {widened}"
        yield Change(one.number, time, what, one.batch, counted, one.says.get("end", ""))
