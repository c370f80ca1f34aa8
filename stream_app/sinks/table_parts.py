"""What tasks do for a table: they write Parquet straight into its folder, flushed, and tell the driver what they wrote.

No commit names such a file yet, so no reader sees it. Its name is of one attempt alone: a task that was given up and
still writes never touches what another one wrote. Nothing here knows a table's log; workers are forked.
"""

from __future__ import annotations

import pickle
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame

from stream_app.sources.split_rows import Batches
from stream_app.storage import parquet
from stream_app.storage.tables.place import Place
from stream_app.storage.tables.table import File, Part, Partition

_TOLD = pa.schema([("told", pa.binary())])
# What no file system, URL or SQL takes for anything else; other values have no folder of their own.
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,99}")

PART, MERGED, OPEN = "part", "merged", "open"
"""Begin the names of files: of a batch, of several, and of rows that may change yet."""
_OURS = re.compile(rf"({PART}|{MERGED}|{OPEN})-\d{{10}}-.+")
Divide = Callable[[Batches], Iterable[tuple[Partition, Batches]]]
"""Divides rows into the partitions that they are for."""


@dataclass(frozen=True)
class PartWriter:
    """Writes the parts of one batch of a query."""

    root: Place
    query_id: str
    batch: int
    columns: pa.Schema
    """What the files hold: the table's columns but for those by which it is partitioned."""
    statistics: Callable[[pq.FileMetaData], str]
    divide: Divide

    def write(self, batches: Batches, prefix: str = PART) -> Iterator[Part]:
        """Write a file for each partition that has rows, and yield what is to be told of it."""
        for partition, own in self.divide(batches):
            name = f"{prefix}-{self.batch:010d}-{self.query_id}-{secrets.token_hex(6)}.parquet"
            rows = (batch.select(self.columns.names).cast(self.columns) for batch in own if batch.num_rows)
            fill = partial(parquet.write, rows, self.columns)
            yield written(self.root, folder_of(partition) + name, fill, partition, self.statistics)

    def read(self, file: File, columns: pa.Schema) -> pa.Table:
        """Return the rows of a file of the table in those columns; the file's partition may have one of them."""
        with self.root.fetched([file.path]) as (path,), pq.ParquetFile(path) as opened:
            found = opened.read(use_threads=False)
        arrays = [_column(found, field, file.partition) for field in columns]
        return pa.Table.from_arrays(arrays, schema=columns)


def written(
    root: Place,
    path: str,
    fill: Callable[[Path], object],
    partition: Partition,
    statistics: Callable[[pq.FileMetaData], str],
) -> Part:
    """Have a file written by `fill`, and return what is to be told of it."""
    file = root.write(path, fill)
    return Part(path, file.size, file.footer.num_rows, partition, statistics(file.footer))


def kind_of(file: File) -> str:
    """Return PART, MERGED or OPEN, as a batch or a merge beside it has named the file; "" for every other file.

    Spark and delta-rs begin names with `part-`, too, but no batch's number follows.
    """
    found = _OURS.fullmatch(Path(file.path).name)
    return found[1] if found else ""


def folder_of(partition: Partition) -> str:
    """Return the folder of a partition, with a slash, for people: what is in it, the log alone says."""
    plain = all(value and _PLAIN.fullmatch(value) for value in partition.values())
    return "".join(f"{column}={value}/" for column, value in partition.items()) if plain else ""


def run(frame: DataFrame, tasks: int, task: Callable[[Batches], Iterable[object]]) -> list[Any]:
    """Run a batch in so many tasks at most; return what they told, in order."""

    def told(batches: Batches) -> Batches:
        for one in task(batches):
            yield pa.RecordBatch.from_pylist([{"told": pickle.dumps(one)}], _TOLD)

    # of our own tasks
    return [pickle.loads(row.told) for row in frame.coalesce(tasks).mapInArrow(told, "told binary").collect()]  # noqa: S301


def whole(batches: Batches) -> Iterable[tuple[Partition, Batches]]:
    """Leave the rows of a table undivided."""
    first = next(batches, None)
    if first is not None:
        yield {}, _chained(first, batches)


def by_value(column: str) -> Divide:
    """Divide rows by the value of a column. A batch of the stream is bounded, so a task may hold its share."""

    def divide(batches: Batches) -> Iterator[tuple[Partition, Batches]]:
        held: dict[Any, list[pa.RecordBatch]] = {}
        for rows in batches:
            values = rows[column]
            for value in values.unique():
                same = pa.compute.is_null(values) if not value.is_valid else pa.compute.equal(values, value)
                held.setdefault(_text(value.as_py()), []).append(rows.filter(same))
        yield from (({column: value}, iter(own)) for value, own in sorted(held.items(), key=lambda one: str(one[0])))

    return divide


def _chained(first: pa.RecordBatch, others: Batches) -> Batches:
    yield first
    yield from others


def _text(value: object) -> str | None:
    """Return a value as a table's log spells it, which takes an empty text for none."""
    if isinstance(value, bool):
        return str(value).lower()
    return None if value is None or value == "" else str(value)


def _column(found: pa.Table, field: pa.Field, partition: Partition) -> pa.ChunkedArray | pa.Array:
    if field.name in partition:
        value = partition[field.name]
        return pa.array([value] * found.num_rows, pa.string()).cast(field.type)
    if field.name in found.column_names:
        return found[field.name].cast(field.type)
    return pa.nulls(found.num_rows, field.type)
