"""Writes the batches of a query to a table: tasks write parts, the driver commits them.

The order is what makes it exact. The newest version is looked at; if it has the batch, nothing is done. Parts are
written and flushed, then one commit names them and the batch. If its answer is lost, the table is asked. Parts of an
attempt that died are in no version.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame
from pyspark.sql.types import StructType

from stream_app.admission.verdict import reset_command
from stream_app.errors import ConfigError
from stream_app.failpoints import reach
from stream_app.flows.batch import Batch
from stream_app.flows.completeness import final_with, newest_with
from stream_app.flows.flow import Flow
from stream_app.layers.aggregate import Aggregate
from stream_app.sinks import table_admission
from stream_app.sinks.late import write_late
from stream_app.sinks.partitioning import Partitioning
from stream_app.sinks.protocol import Tools
from stream_app.sinks.report import COLUMNS_ADDED, LATE, Report
from stream_app.sinks.table_changes import Changed, Told, changes
from stream_app.sinks.table_parts import PartWriter, run
from stream_app.sources.split_rows import Batches, Rows
from stream_app.storage.tables.place import Place
from stream_app.storage.tables.table import DamagedError, File, Mark, Part, Table


@dataclass(frozen=True)
class Shape:
    """What a table is to look like."""

    root: Place
    rows: pa.Schema
    """The columns that a batch brings."""
    partitioning: Partitioning
    dates: timedelta
    statistics: Callable[[pq.FileMetaData], str]

    @property
    def columns(self) -> pa.Schema:
        """The table's."""
        return pa.schema([*self.rows, *self.partitioning.added])

    @property
    def in_files(self) -> pa.Schema:
        """Those of its files."""
        return pa.schema([field for field in self.rows if field.name not in self.partitioning.columns])


class TableWriter:
    """Writes the batches of one query (sinks/protocol.py)."""

    def __init__(self, flow: Flow, table: Table, shape: Shape, rows: Rows | None, tools: Tools) -> None:
        self._flow = flow
        self._table = table
        self._shape = shape
        self._rows = rows
        self._tools = tools
        self._columns_added = 0

    def prepare(self, columns: StructType) -> None:  # noqa: ARG002 - the shape has them
        """Make the table of a query that begins, or check that it is that of one that goes on, and add columns.

        Raises ConfigError where it and the checkpoint have not the same batches, or it is not this query's, or damaged.
        """
        hours, shape = self._tools.servers.retention_hours, self._shape
        try:
            self._columns_added += table_admission.prepare(
                self._flow, self._table, shape.columns, shape.partitioning, hours, shape.statistics
            )
        except DamagedError as error:
            raise ConfigError(f"{error}; then, if it lacks batches: {reset_command(self._flow)}") from None

    def write(self, batch: Batch, frame: DataFrame) -> Report:
        """Commit the batch, unless it is in, after its late rows are kept."""
        flow, table, query_id = self._flow, self._table, self._flow.checkpoint.query_id() or ""
        kind = flow.aggregate
        counters = {LATE: write_late(flow, self._tools.hadoop, batch)} if flow.stateful else {}
        reach(flow.name, "before_staging", batch.id)
        table.refresh()
        table_admission.check_owner(flow, table)
        written = table.written(query_id)
        if written is not None and written >= batch.id:
            if kind:  # it has state, which each batch must commit
                frame.write.format("noop").mode("overwrite").save()
            return Report(batch.id, batch.rows_in, 0 if kind else batch.rows_in, counters=counters)
        parts, replaced, rows = self._changed(kind, batch, frame) if kind else self._appended(batch, frame)
        if parts:
            reach(flow.name, "mid_staging", batch.id)
        self._settle(parts)
        self._tools.before_publish()
        reach(flow.name, "staged", batch.id)
        self._commit(Mark(query_id, batch.id, _says(flow, batch, rows)), parts, replaced)
        reach(flow.name, "renamed", batch.id)
        reach(flow.name, "before_commit", batch.id)
        counters |= {COLUMNS_ADDED: self._columns_added}
        self._columns_added = 0
        return Report(batch.id, batch.rows_in, rows, bytes=sum(part.size for part in parts), counters=counters)

    def _commit(self, mark: Mark, parts: Sequence[Part], replaced: Sequence[File]) -> None:
        try:
            self._table.commit(mark, parts, replaced)
        except Exception:
            self._table.refresh()  # where it cannot be asked, the parts stay: it may have the batch
            newest = self._table.written(mark.query_id)
            if newest is None or newest < mark.batch:
                self._shape.root.abandon(part.path for part in parts)
            raise

    def _appended(self, batch: Batch, frame: DataFrame) -> tuple[list[Part], list[File], int]:
        """Have the tasks write what they read."""
        writer, rows = self._writer(batch), self._rows

        def task(batches: Batches) -> Iterator[Part]:
            yield from writer.write(rows.read(batches) if rows else batches)

        parts = run(frame, frame.sparkSession.sparkContext.defaultParallelism, task)
        return parts, [], sum(part.rows for part in parts)

    def _changed(self, kind: Aggregate, batch: Batch, frame: DataFrame) -> tuple[list[Part], list[File], int]:
        """Have one task bring up to date what the batch may change (sinks/table_changes.py)."""
        live, writer, watermark_ms = self._table.live(), self._writer(batch), batch.watermark_ms
        change = changes(kind, self._shape.rows)

        def task(batches: Batches) -> Told:
            yield from change.apply(writer, live, batches, watermark_ms)

        told = run(frame, 1, task)
        done = [one for one in told if isinstance(one, Changed)]
        gone = {path for one in done for path in one.replaced}
        parts = [one for one in told if isinstance(one, Part)]
        return parts, [file for file in live if file.path in gone], sum(one.rows for one in done)

    def _writer(self, batch: Batch) -> PartWriter:
        shape, query_id = self._shape, self._flow.checkpoint.query_id() or ""
        divide = shape.partitioning.divide(self._flow.kind, batch, shape.dates)
        return PartWriter(shape.root, query_id, batch.id, shape.in_files, shape.statistics, divide)

    def _settle(self, parts: Sequence[Part]) -> None:
        """Have the parts' names on the disk, too; the tasks have flushed what is in them."""
        self._shape.root.settle({part.path: part.size for part in parts})


def _says(flow: Flow, batch: Batch, rows: int) -> dict[str, str]:
    """Return what a version says of its batch: enough to make its checkpoint again (ops/restore.py).

    That of windows and sessions says up to when they are final, too, and that of silver the newest Kafka timestamp that
    it has of each partition.
    """
    final = final_with(flow, batch.watermark_ms, batch.end)
    upstream = (flow.upstream.checkpoint.query_id() if flow.upstream else None) or ""
    offsets = {"start": json.dumps(batch.start.as_json()), "end": json.dumps(batch.end.as_json())}
    times = {"time_ms": batch.time_ms, "watermark_ms": batch.watermark_ms, "rows": rows}
    complete = {"complete_up_to": final.isoformat()} if final else {}
    if taken := _newest(flow, batch):
        complete["newest_taken"] = json.dumps({str(partition): at.isoformat() for partition, at in taken.items()})
    return {**offsets, "upstream": upstream, **{key: str(value) for key, value in times.items()}, **complete}


def _newest(flow: Flow, batch: Batch) -> Mapping[int, datetime]:
    try:
        return newest_with(flow, batch.end)
    except (OSError, pa.ArrowInvalid):  # a damaged file of bronze, as the audit will say: the rows are in all the same
        return {}
