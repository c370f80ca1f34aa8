"""Silver's parts: the typed rows stay where they were made while Spark decides which of them are repeats.

Only the dedupe key, the clock and a reference go through the shuffle and the state. The rows wait in Arrow files of the
staging folder, in the order of bronze, and those whose references come back are written. A row of thirteen columns
would otherwise go from Python to the JVM, through a shuffle, and back.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyspark import TaskContext
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import LongType, StructField, StructType

from stream_app import schema
from stream_app.flow import Flow
from stream_app.layers.silver import CLOCK
from stream_app.sinks import parquet
from stream_app.sinks.parts import Part
from stream_app.sources.rows import Batches, Rows

_FILE, _ROW = "_file", "_row"
_ATTEMPTS = 1 << 40
_Numbers = np.ndarray[tuple[int], np.dtype[np.int64]]


def references(flow: Flow, rows: Rows, splits: DataFrame) -> DataFrame:
    """Splits -> the dedupe key, CLOCK and a reference for each row, which is left in a file of the staging folder."""
    key, folder, read = flow.feed.dedupe.key, flow.waiting.absolute(), rows.read
    columns = StructType([rows.columns[key], rows.columns[CLOCK], *(StructField(n, LongType()) for n in (_FILE, _ROW))])
    kept = to_arrow_schema(schema.silver(flow.feed), timezone="UTC")
    referring = to_arrow_schema(columns, timezone="UTC")

    def task(batches: Batches) -> Batches:
        context = TaskContext.get()
        assert context is not None  # noqa: S101 - Spark calls this in a task
        # in the order of the splits; by the attempt, because one that was given up may still write
        file, first = context.partitionId() * _ATTEMPTS + context.taskAttemptId(), 0
        folder.mkdir(parents=True, exist_ok=True)
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        with pa.ipc.new_file(str(folder / str(file)), kept, options=options) as writer:
            for batch in read(batches):
                writer.write_batch(batch.select(kept.names))
                numbers = pa.array(np.arange(first, first + batch.num_rows))
                files = pa.array(np.full(batch.num_rows, file))
                yield pa.RecordBatch.from_arrays([batch[key], batch[CLOCK], files, numbers], schema=referring)
                first += batch.num_rows

    return splits.mapInArrow(task, columns)


def write_kept(flow: Flow, frame: DataFrame, folder: Path) -> list[Part]:
    """Run the batch; a part for each file of the rows that it refers to, in order."""
    folder.mkdir(parents=True, exist_ok=True)
    cores = frame.sparkSession.sparkContext.defaultParallelism
    found = frame.select(_FILE, _ROW).coalesce(cores).toArrow()
    files, rows = found[_FILE].to_numpy(), found[_ROW].to_numpy()

    def write(file: int) -> Part:
        path = folder / f"part-{file}"
        return Part("", path, _filtered(flow.waiting / str(file), rows[files == file], path))

    with ThreadPoolExecutor(cores) as pool:  # Arrow does not hold Python's lock
        return list(pool.map(write, map(int, np.unique(files))))


def _filtered(source: Path, kept: _Numbers, target: Path) -> int:
    with pa.memory_map(str(source)) as file, pa.ipc.open_file(file) as reader:
        return parquet.write(_batches(reader, kept), reader.schema, target)


def _batches(reader: pa.RecordBatchFileReader, kept: _Numbers) -> Iterator[pa.RecordBatch]:
    first, kept = 0, np.sort(kept)
    for index in range(reader.num_record_batches):
        batch = reader.get_batch(index)
        begin, end = np.searchsorted(kept, (first, first + batch.num_rows))
        yield batch if end - begin == batch.num_rows else batch.take(pa.array(kept[begin:end] - first))
        first += batch.num_rows
