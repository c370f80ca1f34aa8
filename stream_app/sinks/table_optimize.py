"""Files of a table are written again as large ones: in the order of its rows, or so that near rows are in one file.

Near by several columns means by a z-order: the ranks of a row's values, bit by bit in turn. The statistics of a file
then leave most files out of a query on any of the columns. Rows stay the same, which the one commit of each partition
says. Files whose rows may change yet are left to their batches. DuckDB sorts, on disk where memory does not do.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from stream_app.feeds.growth import lifted
from stream_app.feeds.sql import name
from stream_app.sinks.table_parts import OPEN, PartWriter, kind_of
from stream_app.sinks.table_rows import by_partition
from stream_app.storage.row_counts import read_parquet
from stream_app.storage.tables.table import File, Part, Partition, Table

CLUSTERED, OPTIMIZED = "clustered", "optimized"
"""Begin the names of files that are in the order of `cluster_by`, and of others that were written again."""
_LARGE_BYTES = 128 << 20
_TARGET_BYTES = 256 << 20
_RANKS, _BITS = 1024, 10
_ROWS_AT_ONCE = 50_000


@dataclass(frozen=True)
class Work:
    """The files of one partition that are to be written again."""

    partition: Partition
    files: tuple[File, ...]

    @property
    def bytes(self) -> int:
        """How large they are."""
        return sum(file.size for file in self.files)

    @property
    def rows(self) -> int:
        """How many rows they hold."""
        return sum(file.rows for file in self.files)


def planned(table: Table, cluster_by: Sequence[str]) -> list[Work]:
    """Return what there is to do: small files, or with `cluster_by` all of a partition where some are not in order."""
    found = []
    for partition, files in by_partition(table.live()):
        settled = [file for file in files if kind_of(file) != OPEN]
        if cluster_by:
            work = settled if not all(_is_clustered(file) for file in settled) else []
        else:
            work = [file for file in settled if file.size < _LARGE_BYTES]
        if work and (cluster_by or len(work) > 1):
            found.append(Work(partition, tuple(work)))
    return found


def carry_out(
    table: Table,
    columns: pa.Schema,
    work: Work,
    cluster_by: Sequence[str],
    statistics: Callable[[pq.FileMetaData], str],
) -> int | None:
    """Write the files again; return how many there are now, or None where the table changed meanwhile."""
    root = table.place
    writer = PartWriter(root, "", 0, columns, statistics, lambda batches: [(work.partition, batches)])
    parts = list[Part]()
    try:
        with tempfile.TemporaryDirectory() as spill, duckdb.connect(config={"temp_directory": spill}) as database:
            database.execute("SET TimeZone = 'UTC'")
            with root.fetched([file.path for file in work.files]) as sources:
                parts.extend(_written(writer, database, sources, work, cluster_by))
        root.settle({part.path: part.size for part in parts})
    except BaseException:  # a disk that is full must not be filled by attempts
        root.abandon(part.path for part in parts)
        raise
    if table.rewrite(parts, work.files):
        return len(parts)
    root.abandon(part.path for part in parts)
    return None


def _written(
    writer: PartWriter,
    database: duckdb.DuckDBPyConnection,
    sources: Sequence[Path],
    work: Work,
    cluster_by: Sequence[str],
) -> Iterator[Part]:
    rows = f"FROM {read_parquet(sources)}"
    reader = database.sql(_ordered(rows, cluster_by) if cluster_by else rows).to_arrow_reader(_ROWS_AT_ONCE)
    rows_a_file = max(1, work.rows * _TARGET_BYTES // max(work.bytes, 1))
    prefix = f"{CLUSTERED if cluster_by else OPTIMIZED}-{secrets.token_hex(4)}"
    held, rows_held = list[pa.RecordBatch](), 0
    for batch in reader:
        held.append(lifted(batch, writer.columns))
        rows_held += batch.num_rows
        if rows_held >= rows_a_file:
            yield from writer.write(iter(held), prefix)
            held, rows_held = [], 0
    if held:
        yield from writer.write(iter(held), prefix)


def _ordered(rows: str, cluster_by: Sequence[str]) -> str:
    """Return the SQL for rows in a z-order of columns; nulls are first."""
    columns = [name(column) for column in cluster_by]
    if len(columns) == 1:
        return f"{rows} ORDER BY {columns[0]} NULLS FIRST"
    ranks = ", ".join(
        f"ntile({_RANKS}) OVER (ORDER BY {column} NULLS FIRST) - 1 AS _rank{number}"
        for number, column in enumerate(columns)
    )
    bits = (
        f"(((_rank{number}::HUGEINT >> {bit}) & 1) << {bit * len(columns) + number})"
        for bit in range(_BITS)
        for number in range(len(columns))
    )
    excluded = ", ".join(f"_rank{number}" for number in range(len(columns)))
    return f"SELECT * EXCLUDE ({excluded}) FROM (SELECT *, {ranks} {rows}) ORDER BY {' + '.join(bits)}"


def _is_clustered(file: File) -> bool:
    return Path(file.path).name.startswith(f"{CLUSTERED}-")
