"""How every Parquet file of the outputs is written: by pyarrow, in row groups that one core reads at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from stream_app.feeds.growth import lifted
from stream_app.storage import began, idle_clocks, pins
from stream_app.storage.filesystem import Hadoop
from stream_app.storage.form import WritePart
from stream_app.storage.planned import merged
from stream_app.storage.row_counts import count_rows

# Enough row groups in a large batch for every core to read its share, and a bound on what a task holds in memory.
_ROW_GROUP_ROWS = 50_000
_ROW_GROUP_BYTES = 32 << 20
# Below this many rows a row group, copies would be all footer.
_SMALL_ROW_GROUP = 20_000


QUERY = b"query_id"
"""The key in a file's metadata of the query that wrote it."""
_ARROW = b"ARROW:schema"


@dataclass(frozen=True)
class Parquet:
    """The form of Parquet files; storage/form.py has what it is asked for."""

    extension: str = "parquet"
    lifts: bool = True

    def part_writer(self, columns: pa.Schema) -> WritePart:
        """Return what writes rows in exactly those columns, with their metadata."""
        return lambda batches, path: write((batch.cast(columns) for batch in batches), columns, path)

    def join(self, hadoop: Hadoop, parts: Sequence[Path], target: Path) -> Path:
        """Merge the parts, unless there is one."""
        if len(parts) == 1:
            return parts[0]
        merge(hadoop, parts, target)
        return target

    def merge(self, hadoop: Hadoop, files: Sequence[Path], target: Path) -> None:
        """Merge the files."""
        merge(hadoop, files, target)

    def holds(self, merged: Path, files: Sequence[Path]) -> bool:
        """Return whether one query wrote all files, as far as they tell."""
        return all(is_of_one_query(merged, file) for file in files)

    def flaw(self, path: Path, columns: Collection[str]) -> str:
        """Return why a file cannot be read, or which columns it lacks."""
        try:
            held = pq.read_schema(path).names
        except FileNotFoundError:  # retention took it
            raise
        except (OSError, pa.ArrowInvalid) as error:
            return f"cannot be read: {' '.join(str(error).split())}"
        lacking = ", ".join(column for column in columns if column not in held)
        return f"lacks {lacking}" if lacking else ""

    def rows(self, path: Path) -> int:
        """Return how many rows a file's footer tells of."""
        return count_rows(path)


def said(path: Path) -> Mapping[bytes, bytes]:
    """Return what a file says of itself; nothing of one that is no Parquet, or damaged."""
    try:
        return pq.read_metadata(path).metadata or {}
    except (OSError, pa.ArrowInvalid):  # a CSV has none, and whoever reads a damaged file says so
        return {}


def said_by(metadata: pq.FileMetaData) -> Mapping[bytes, bytes]:
    """Return what a file with that metadata says of itself, without what pyarrow notes of its columns."""
    return {key: value for key, value in (metadata.metadata or {}).items() if key != _ARROW}


def is_of_one_query(one: Path, other: Path) -> bool:
    """Return whether one query wrote both, as far as they tell."""
    return len({said(path).get(QUERY) for path in (one, other)} - {None}) <= 1


def write(batches: Iterable[pa.RecordBatch], schema: pa.Schema, target: Path) -> int:
    """Write the rows in order, a row group in memory at a time; their number."""
    pending: list[pa.RecordBatch] = []
    rows = written = size = 0
    with _writer(target, schema) as writer:
        for batch in batches:
            pending.append(batch)
            rows, size = rows + batch.num_rows, size + batch.nbytes
            if rows >= _ROW_GROUP_ROWS or size >= _ROW_GROUP_BYTES:
                writer.write_table(pa.Table.from_batches(pending, schema).combine_chunks())
                pending, written, rows, size = [], written + rows, 0, 0
        if pending:
            writer.write_table(pa.Table.from_batches(pending, schema).combine_chunks())
    return written + rows


def _writer(target: Path, schema: pa.Schema) -> pq.ParquetWriter:
    # Decimals of up to 18 digits as integers, as Spark writes them.
    return pq.ParquetWriter(target, schema, compression="zstd", store_decimal_as_integer=True, write_page_checksum=True)


def merge(hadoop: Hadoop, parts: Sequence[Path], target: Path) -> None:
    """All rows of the parts in one file, in order: large row groups are copied as they are, small ones are joined.

    An output only grows, so the last part has all columns, and the widest types: the others are lifted to it.
    """
    found = [pq.read_metadata(part) for part in parts]
    says = {**merged(found), **began.merged(found), **pins.merged(found), **idle_clocks.merged(found)}
    if _row_groups_can_be_copied(found):
        hadoop.concat_parquet(parts, target, says)
    else:
        columns = pq.read_schema(parts[-1]).with_metadata(says)
        write(_batches(parts, columns), columns, target)


def _batches(parts: Sequence[Path], columns: pa.Schema) -> Iterable[pa.RecordBatch]:
    for part in parts:
        with pq.ParquetFile(part) as file:
            if more := {*file.schema_arrow.names} - {*columns.names}:
                raise ValueError(f"{part} has columns that {parts[-1]} lacks: {', '.join(sorted(more))}")
            for group in range(file.num_row_groups):  # a batch would span them
                yield from (lifted(rows, columns) for rows in file.iter_batches(_ROW_GROUP_ROWS, [group]))


def _row_groups_can_be_copied(found: Sequence[pq.FileMetaData]) -> bool:
    """Whether all files have one physical schema, and row groups worth keeping."""
    groups, rows = sum(m.num_row_groups for m in found), sum(m.num_rows for m in found)
    return all(m.schema.equals(found[0].schema) for m in found) and rows >= groups * _SMALL_ROW_GROUP
