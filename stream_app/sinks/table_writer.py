"""Writes the batches of a query to a table: tasks write parts, the driver commits them.

The order is what makes it exact. The newest version is looked at; if it has the batch, nothing is done. Parts are
written and flushed, then one commit names them and the batch. If its answer is lost, the table is asked. Parts of an
attempt that died are in no version.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame
from pyspark.sql.types import StructType

from stream_app.errors import StreamAppError
from stream_app.failpoints import reach
from stream_app.flows.batch import Batch
from stream_app.flows.flow import Flow
from stream_app.sinks import table_admission
from stream_app.sinks.kept_by_key import FINAL, Fresh, Totalled
from stream_app.sinks.late import write_late
from stream_app.sinks.partitioning import Partitioning
from stream_app.sinks.protocol import COLUMNS_ADDED, LATE, Report, Tools
from stream_app.sinks.table_parts import MERGED, OPEN, PART, PartWriter, run
from stream_app.sources.split_rows import Batches, Rows
from stream_app.storage.batch_files import sync
from stream_app.storage.tables.table import File, Mark, Part, Table


@dataclass(frozen=True)
class Shape:
    """What a table is to look like."""

    root: Path
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


@dataclass(frozen=True)
class _Changed:
    """What a task of a fresh batch did beside the parts that it wrote."""

    rows: int
    replaced: frozenset[str]
    """The paths of the files whose rows are in the parts, as far as they still stand."""


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

        Raises ConfigError where it and the checkpoint have not the same batches, or it is not this query's.
        """
        hours, shape = self._tools.servers.retention_hours, self._shape
        self._columns_added += table_admission.prepare(
            self._flow, self._table, shape.columns, shape.partitioning, hours
        )

    def write(self, batch: Batch, frame: DataFrame) -> Report:
        """Commit the batch, unless it is in, after its late rows are kept."""
        flow, table, query_id = self._flow, self._table, self._flow.checkpoint.query_id() or ""
        counters = {LATE: write_late(flow, self._tools.hadoop, batch)} if flow.stateful else {}
        reach(flow.name, "before_staging", batch.id)
        table.refresh()
        table_admission.check_owner(flow, table)
        written = table.written(query_id)
        if written is not None and written >= batch.id:
            if flow.aggregate:  # it has state, which each batch must commit
                frame.write.format("noop").mode("overwrite").save()
            return Report(batch.id, batch.rows_in, 0 if flow.aggregate else batch.rows_in, counters=counters)
        change = self._totalled if flow.kind.running else self._changed if flow.stateful else self._appended
        parts, replaced, rows = change(batch, frame)
        if parts:
            reach(flow.name, "mid_staging", batch.id)
        self._settle(parts)
        self._tools.before_publish()
        reach(flow.name, "staged", batch.id)
        table.commit(Mark(query_id, batch.id, _says(batch, rows)), parts, replaced)
        reach(flow.name, "renamed", batch.id)
        reach(flow.name, "before_commit", batch.id)
        counters |= {COLUMNS_ADDED: self._columns_added}
        self._columns_added = 0
        return Report(batch.id, batch.rows_in, rows, bytes=sum(part.size for part in parts), counters=counters)

    def _appended(self, batch: Batch, frame: DataFrame) -> tuple[list[Part], list[File], int]:
        """Have the tasks write what they read."""
        writer, rows = self._writer(batch), self._rows

        def task(batches: Batches) -> Iterator[Part]:
            yield from writer.write(rows.read(batches) if rows else batches)

        parts = run(frame, frame.sparkSession.sparkContext.defaultParallelism, task)
        return parts, [], sum(part.rows for part in parts)

    def _changed(self, batch: Batch, frame: DataFrame) -> tuple[list[Part], list[File], int]:
        """Have one task bring what was open up to date: only files with open rows are read and replaced."""
        assert self._flow.stateful  # noqa: S101 - the caller knows
        live, columns = self._table.live(), self._shape.rows
        writer, fresh = self._writer(batch), Fresh.of(columns, self._flow.stateful)
        watermark_ms = batch.watermark_ms

        def task(batches: Batches) -> Iterator[Part | _Changed]:
            changed = _with_final(batches, columns)
            replaced = [file for file in live if _is_open(writer.root, file)]
            held = pa.concat_tables([columns.empty_table(), *(writer.read(file, columns) for file in replaced)])
            settled = held.filter(held[FINAL])  # of a file that somebody else has written anew
            final, still_open = fresh.as_of(held.filter(pa.compute.invert(held[FINAL])), changed, watermark_ms)
            if not (changed.num_rows or final.num_rows or settled.num_rows):
                return
            yield _Changed(changed.num_rows, frozenset(file.path for file in replaced))
            yield from writer.write(iter(pa.concat_tables([settled, final]).to_batches()))
            yield from writer.write(iter(still_open.to_batches()), OPEN)

        return self._replaced(run(frame, 1, task), live)

    def _totalled(self, batch: Batch, frame: DataFrame) -> tuple[list[Part], list[File], int]:
        """Have one task put the changed totals in place of those held: only the partitions of changed ones are read."""
        assert self._flow.kind.running  # noqa: S101 - the caller knows
        live, columns = self._table.live(), self._shape.rows
        writer, kept = self._writer(batch), Totalled.of(columns, self._flow.kind.running)

        def task(batches: Batches) -> Iterator[Part | _Changed]:
            found = [rows.select(columns.names).cast(columns) for rows in batches if rows.num_rows]
            if not found:
                return
            changed = pa.Table.from_batches(found, columns)
            touched = [partition for partition, _ in writer.divide(iter(found))]
            replaced = [file for file in live if dict(file.partition) in touched]
            held = pa.concat_tables([columns.empty_table(), *(writer.read(file, columns) for file in replaced)])
            yield _Changed(changed.num_rows, frozenset(file.path for file in replaced))
            yield from writer.write(iter(kept.merged(held, changed).to_batches()))

        return self._replaced(run(frame, 1, task), live)

    @staticmethod
    def _replaced(told: Sequence[Part | _Changed], live: Sequence[File]) -> tuple[list[Part], list[File], int]:
        """Return the parts, the files whose rows are in them, and how many rows were changed."""
        gone = {path for one in told if isinstance(one, _Changed) for path in one.replaced}
        parts = [one for one in told if isinstance(one, Part)]
        rows = sum(one.rows for one in told if isinstance(one, _Changed))
        return parts, [file for file in live if file.path in gone], rows

    def _writer(self, batch: Batch) -> PartWriter:
        shape, query_id = self._shape, self._flow.checkpoint.query_id() or ""
        divide = shape.partitioning.divide(self._flow.kind, batch, shape.dates)
        return PartWriter(shape.root, query_id, batch.id, shape.in_files, shape.statistics, divide)

    def _settle(self, parts: Sequence[Part]) -> None:
        """Have the parts' names on the disk, too; the tasks have flushed what is in them."""
        for part in parts:
            path = self._shape.root / part.path
            if not path.exists() or path.stat().st_size != part.size:
                problem = f"{path} was written by a task, and is not so here; driver and workers must share the folder"
                raise StreamAppError(problem)
        for folder in sorted({(self._shape.root / part.path).parent for part in parts} | {self._shape.root}):
            sync(folder)


def _with_final(batches: Batches, columns: pa.Schema) -> pa.Table:
    """Return the rows of batches in those columns, of which `final` may not have come."""
    found = [
        batch if FINAL in batch.schema.names else batch.append_column(FINAL, pa.repeat(False, batch.num_rows))
        for batch in batches
    ]
    return pa.Table.from_batches([batch.select(columns.names).cast(columns) for batch in found], columns)


def _is_open(root: Path, file: File) -> bool:
    """Return whether rows of a file may change yet: by its name, or of a file that is not ours by its footer."""
    kind = Path(file.path).name.partition("-")[0]
    if kind in {OPEN, PART, MERGED}:
        return kind == OPEN
    footer = pq.read_metadata(root / file.path)
    column = footer.schema.to_arrow_schema().get_field_index(FINAL)
    found = [footer.row_group(group).column(column).statistics for group in range(footer.num_row_groups)]
    return not all(one is not None and one.has_min_max and one.min for one in found)


def _says(batch: Batch, rows: int) -> dict[str, str]:
    """Return what a version says of its batch: enough to make its checkpoint again."""
    offsets = {"start": json.dumps(batch.start.as_json()), "end": json.dumps(batch.end.as_json())}
    times = {"time_ms": batch.time_ms, "watermark_ms": batch.watermark_ms, "rows": rows}
    return {**offsets, **{key: str(value) for key, value in times.items()}}
