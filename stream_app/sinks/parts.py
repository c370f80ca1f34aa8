"""The rows of a batch, written where they are: each task makes one part file of its own, with pyarrow.

Spark's own writers would cost a commit protocol, and a second copy of each row, for a file that is merged at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pyspark import TaskContext
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import to_arrow_schema

from stream_app.flow import Layer
from stream_app.sinks import csv, parquet

_PART = pa.schema([("path", pa.string()), ("rows", pa.int64())])


@dataclass(frozen=True)
class Part:
    """One task's rows: a complete file in the staging folder."""

    path: Path
    rows: int


def write_parts(frame: DataFrame, folder: Path, layer: Layer) -> list[Part]:
    """Run the batch; the parts in the order of its tasks, none for a task without rows."""
    folder.mkdir(parents=True, exist_ok=True)
    write = csv.write if layer is Layer.RAW_CSV else _parquet(to_arrow_schema(frame.schema, timezone="UTC"))

    def task(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        context = TaskContext.get()
        assert context is not None  # noqa: S101 - Spark calls this in a task
        # by the attempt: one that was given up may still write when the next one does
        path = folder / f"part-{context.partitionId():05d}-{context.taskAttemptId()}"
        rows = write((batch for batch in batches if batch.num_rows), path)
        if rows:
            yield pa.RecordBatch.from_pylist([{"path": str(path), "rows": rows}], _PART)

    # no more tasks than cores: for a small batch, each costs more than its rows
    cores = frame.sparkSession.sparkContext.defaultParallelism
    found = frame.coalesce(cores).mapInArrow(task, "path string, rows long").collect()
    return [Part(Path(row.path), row.rows) for row in found]


def _parquet(schema: pa.Schema) -> Callable[[Iterator[pa.RecordBatch], Path], int]:
    return lambda batches, path: parquet.write((batch.cast(schema) for batch in batches), schema, path)
