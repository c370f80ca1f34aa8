"""How every Parquet file of the outputs is written: by pyarrow, in row groups that one core reads at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from stream_app.storage import began
from stream_app.storage.filesystem import Hadoop
from stream_app.storage.planned import merged

# Enough row groups in a large batch for every core to read its share, and a bound on what a task holds in memory.
_ROW_GROUP_ROWS = 50_000
_ROW_GROUP_BYTES = 32 << 20
# Below this many rows a row group, copies would be all footer.
_SMALL_ROW_GROUP = 20_000


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
    """All rows of the parts in one file, in order: large row groups are copied as they are, small ones written anew."""
    found = [pq.read_metadata(part) for part in parts]
    says = {**merged(found), **began.merged(found)}
    if _row_groups_can_be_copied(found):
        hadoop.concat_parquet(parts, target, says)
    else:
        write(_batches(parts), pq.read_schema(parts[0]).with_metadata(says), target)


def _batches(parts: Sequence[Path]) -> Iterable[pa.RecordBatch]:
    for part in parts:
        with pq.ParquetFile(part) as file:
            for group in range(file.num_row_groups):  # a batch would span them
                yield from file.iter_batches(_ROW_GROUP_ROWS, [group])


def _row_groups_can_be_copied(found: Sequence[pq.FileMetaData]) -> bool:
    """Whether all files have one physical schema, and row groups worth keeping."""
    groups, rows = sum(m.num_row_groups for m in found), sum(m.num_rows for m in found)
    return all(m.schema.equals(found[0].schema) for m in found) and rows >= groups * _SMALL_ROW_GROUP
