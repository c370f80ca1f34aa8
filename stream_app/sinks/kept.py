"""Silver's parts: the typed rows stay where they were made while the driver finds out which of them are repeats.

Only a digest of the dedupe key and the clock of each row come to the driver, as bytes. The rows wait in Arrow files of
the staging folder, in the order of bronze, and those that are no repeats are written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyspark import TaskContext
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import to_arrow_schema

from stream_app import schema
from stream_app.checkpoint import PlannedBatch
from stream_app.flow import Flow
from stream_app.layers.silver import CLOCK
from stream_app.sinks import parquet
from stream_app.sinks.parts import Part
from stream_app.sinks.seen import KEY_BYTES, Numbers, Seen
from stream_app.sources.rows import Batches, Rows

_NO_KEY = bytes(KEY_BYTES)
_FOUND = pa.schema([("file", pa.string()), ("keys", pa.binary()), ("clocks", pa.binary())])


class KeptRows:
    """What runs silver's batches, and leaves the rows that are no repeats in a folder."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self._rows = Rows(flow)
        self.seen = Seen(flow.checkpoint.path / "seen", flow.feed.dedupe.within)
        self.repeats = 0
        """How many rows of the last batch were repeats."""

    def write(self, splits: DataFrame, batch: PlannedBatch, folder: Path) -> list[Part]:
        """Run the batch; a part for each task that has rows to keep, in order."""
        folder.mkdir(parents=True, exist_ok=True)
        cores = splits.sparkSession.sparkContext.defaultParallelism
        found = (
            splits.coalesce(cores).mapInArrow(self._task(folder), "file string, keys binary, clocks binary").collect()
        )
        keys = np.frombuffer(b"".join(task.keys for task in found), f"S{KEY_BYTES}")
        clocks = np.frombuffer(b"".join(task.clocks for task in found), np.int64)
        since = self._flow.checkpoint.planned(batch.batch_id - 1).end["clock"] if batch.batch_id else 0
        kept = self.seen.take(batch, since, keys, clocks)
        self.repeats = len(keys) - len(kept)
        ends = np.cumsum([len(task.keys) // KEY_BYTES for task in found])

        def write(task: int) -> Part:
            first, end = ends[task - 1] if task else 0, ends[task]
            rows = kept[slice(*np.searchsorted(kept, (first, end)))] - first
            source, target = folder / found[task].file, folder / f"part-{found[task].file}"
            return Part("", target, _filtered(source, rows, target) if len(rows) else 0)

        with ThreadPoolExecutor(cores) as pool:  # Arrow does not hold Python's lock
            return [part for part in pool.map(write, range(len(found))) if part.rows]

    def _task(self, folder: Path) -> Callable[[Batches], Batches]:
        key, read = self._flow.feed.dedupe.key, self._rows.read
        columns = to_arrow_schema(schema.silver(self._flow.feed), timezone="UTC")

        def task(splits: Batches) -> Batches:
            context = TaskContext.get()
            assert context is not None  # noqa: S101 - Spark calls this in a task
            # by the attempt: one that was given up may still write when the next one does
            file = f"rows-{context.partitionId():05d}-{context.taskAttemptId()}"
            keys, clocks = list[bytes](), list[bytes]()
            options = pa.ipc.IpcWriteOptions(compression="lz4")
            with pa.ipc.new_file(str(folder / file), columns, options=options) as writer:
                for batch in read(splits):
                    writer.write_batch(batch.select(columns.names))
                    keys.append(_digests(batch[key]))
                    clocks.append(batch[CLOCK].cast(pa.int64()).to_numpy().tobytes())
            found = {"file": file, "keys": b"".join(keys), "clocks": b"".join(clocks)}
            yield pa.RecordBatch.from_pylist([found], _FOUND)

        return task


def _digests(keys: pa.Array) -> bytes:
    """A digest each, of KEY_BYTES."""
    texts = keys.cast(pa.string()).cast(pa.binary()).to_pylist()
    return b"".join(_NO_KEY if text is None else blake2b(text, digest_size=KEY_BYTES).digest() for text in texts)


def _filtered(source: Path, kept: Numbers, target: Path) -> int:
    with pa.memory_map(str(source)) as file, pa.ipc.open_file(file) as reader:
        return parquet.write(_batches(reader, kept), reader.schema, target)


def _batches(reader: pa.RecordBatchFileReader, kept: Numbers) -> Iterator[pa.RecordBatch]:
    first = 0
    for index in range(reader.num_record_batches):
        batch = reader.get_batch(index)
        begin, end = np.searchsorted(kept, (first, first + batch.num_rows))
        yield batch if end - begin == batch.num_rows else batch.take(pa.array(kept[begin:end] - first))
        first += batch.num_rows
