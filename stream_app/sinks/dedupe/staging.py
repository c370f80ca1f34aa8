"""Silver's parts: the typed rows stay where they were made while the driver finds out which of them are repeats.

The rows wait in Arrow files of the staging folder, in the order of bronze. Beside each is a file with the digests of
the rows' dedupe keys and their clocks. The driver reads these, and writes the rows that are no repeats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, Row
from pyspark.sql.pandas.types import to_arrow_schema

from stream_app.contract.undeclared import Undeclared
from stream_app.feeds import schema
from stream_app.flows import undeclared
from stream_app.flows.batch import Batch
from stream_app.flows.chain import link
from stream_app.flows.flow import Flow
from stream_app.layers.silver import CLOCK
from stream_app.sinks.dedupe.index import ENTRY, Seen, entries
from stream_app.sinks.parts import Part, Parts, attempt
from stream_app.sinks.report import REPEATS, STATE_BYTES, STATE_ROWS, UNDECLARED
from stream_app.sources.split_rows import Batches, Rows
from stream_app.storage import began, parquet
from stream_app.storage.key_runs import Numbers
from stream_app.storage.offsets import in_layer


class WithoutRepeats:
    """What runs silver's batches, and leaves the rows that are no repeats in a folder."""

    def __init__(self, flow: Flow, rows: Rows) -> None:
        self._flow = flow
        self._rows = rows
        dedupe = flow.feed.dedupe
        self._keys = flow.feed.dedupe_keys
        self._seen = Seen(flow.layout.seen, dedupe.within if dedupe else None)

    def write(self, splits: DataFrame, batch: Batch, folder: Path) -> Parts:
        """Run the batch; a part for each task that has rows to keep, in order."""
        folder.mkdir(parents=True, exist_ok=True)
        cores = splits.sparkSession.sparkContext.defaultParallelism
        clock = in_layer(batch.start).clock
        make = self._task(folder, began.pinned(batch.id, clock))
        tasks = splits.coalesce(cores).mapInArrow(make, "file string, undeclared string").collect()
        sources = [folder / task.file for task in tasks]
        loaded = [np.load(_entries_of(source)) for source in sources]
        ends = np.cumsum([len(own) for own in loaded])
        rows = np.concatenate([*loaded, np.empty(0, ENTRY)])  # a query's first batch may have no tasks
        kept = self._seen.take(batch, clock, rows)

        def write(task: int) -> Part:
            first, end = ends[task - 1] if task else 0, ends[task]
            own = kept[slice(*np.searchsorted(kept, (first, end)))] - first
            target = folder / f"part-{sources[task].name}"
            return Part("", target, _filtered(sources[task], own, target) if len(own) else 0)

        with ThreadPoolExecutor(cores) as pool:  # Arrow does not hold Python's lock
            parts = [part for part in pool.map(write, range(len(sources))) if part.rows]
        gauges = {STATE_ROWS: self._seen.rows, STATE_BYTES: self._seen.bytes}
        return Parts(parts, {REPEATS: len(rows) - len(kept)} | self._undeclared(batch, tasks), gauges)

    def _undeclared(self, batch: Batch, tasks: Sequence[Row]) -> dict[str, int]:
        """Note the fields that nobody has declared; return the counter of each."""
        total = Undeclared()
        for task in tasks:
            total.merge(Undeclared.loaded(task.undeclared))
        noted = undeclared.note(self._flow, batch, total)
        return {f"{UNDECLARED}{path}": count for path, count in noted.items()}

    def _task(self, folder: Path, says: Mapping[bytes, bytes]) -> Callable[[Batches], Batches]:
        keys, read = self._keys, self._rows.read
        columns = to_arrow_schema(schema.silver(self._flow.feed), timezone="UTC")
        columns = columns.with_metadata({**link(self._flow), **says})

        def task(splits: Batches) -> Batches:
            source = folder / f"rows-{attempt()}"
            found, more = [np.empty(0, ENTRY)], Undeclared()
            options = pa.ipc.IpcWriteOptions(compression="lz4")
            with pa.ipc.new_file(str(source), columns, options=options) as writer:
                for batch in read(splits, more):
                    writer.write_batch(batch.select(columns.names))
                    found.append(entries([batch[key] for key in keys], batch[CLOCK]))
            np.save(_entries_of(source), np.concatenate(found))
            yield pa.RecordBatch.from_pydict({"file": [source.name], "undeclared": [more.dumped()]})

        return task


def _entries_of(source: Path) -> Path:
    """Return the path of a task's entries, beside that of its rows."""
    return source.with_suffix(".npy")


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
