"""A table whose feed has wider types is written again at the start, in one commit, as PostgreSQL does it.

Delta's own type widening is a feature of a table that many readers lack. So every file is written with the wider types,
and one version has these columns and these files in the place of all. Versions before it stay as they were, until their
files are vacuumed. A start that dies in between has changed nothing.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from stream_app import logs
from stream_app.errors import UnavailableError
from stream_app.feeds.growth import lifted
from stream_app.sinks.table_parts import folder_of, written
from stream_app.storage import parquet
from stream_app.storage.tables.table import File, Part, Partition, Table

_TRIES = 3
_ROWS_AT_ONCE = 10_000
_TOKEN = re.compile(r"-[0-9a-f]{12}$")


def widen(name: str, table: Table, columns: pa.Schema, statistics: Callable[[pq.FileMetaData], str]) -> None:
    """Have the table in those columns, which are its own in types that hold more.

    Raises UnavailableError where somebody else changes the table all the time.
    """
    held = table.columns
    changed = [one.name for one in columns if one.type != held.field(one.name).type]
    told = ", ".join(f"{one} from {held.field(one).type} to {columns.field(one).type}" for one in changed)
    for _ in range(_TRIES):
        files, began = table.live(), time.monotonic()
        size = sum(file.size for file in files)
        logs.info(f"{name} writes its table anew: {told}", files=len(files), bytes=size)
        parts = list[Part]()
        try:
            for file in files:
                parts.append(_rewritten(table, file, columns, statistics))
            table.place.settle({part.path: part.size for part in parts})
            is_done = table.widen(columns, parts, files, told)
        except BaseException:  # a disk that is full must not be filled by attempts
            table.refresh()
            if table.columns != columns:
                table.place.abandon(part.path for part in parts)
            raise
        if is_done:
            logs.info(f"{name} has wider columns", seconds=round(time.monotonic() - began, 1), version=table.version)
            return
        table.place.abandon(part.path for part in parts)
    raise UnavailableError(f"{table.location} changes while it is written anew for wider columns")


def _rewritten(table: Table, file: File, columns: pa.Schema, statistics: Callable[[pq.FileMetaData], str]) -> Part:
    """Return a file with the same rows in those columns, and with what its name tells of it."""
    root, partition = table.place, _partition(file.partition, table.columns, columns)
    in_files = pa.schema([one for one in columns if one.name not in partition])
    name = _TOKEN.sub("", Path(file.path).stem)
    path = f"{folder_of(partition)}{name}-{secrets.token_hex(6)}.parquet"
    with root.fetched([file.path]) as (held,), pq.ParquetFile(held) as opened:
        fill = partial(parquet.write, _lifted(opened, in_files), in_files)
        return written(root, path, fill, partition, statistics)


def _lifted(file: pq.ParquetFile, columns: pa.Schema) -> Iterator[pa.RecordBatch]:
    yield from map(partial(lifted, columns=columns), file.iter_batches(_ROWS_AT_ONCE, use_threads=False))


def _partition(held: Partition, old: pa.Schema, new: pa.Schema) -> dict[str, str | None]:
    """Return the values as texts of the new types: a float has other digits as a double."""
    found = dict[str, str | None]()
    for column, text in held.items():
        before, after = old.field(column).type, new.field(column).type
        found[column] = text if before == after else _value(text, before, after)
    return found


def _value(text: str | None, old: pa.DataType, new: pa.DataType) -> str | None:
    value = pa.scalar(text, pa.string()).cast(old).cast(new).as_py()
    return None if value is None else str(value)
