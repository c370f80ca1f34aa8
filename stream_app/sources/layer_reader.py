"""The reader behind sources/layer.py: follows a layer's files by their batch ids.

Spark runs it in a Python process of its own for each query, for as long as the query lives, and plans each batch in
another one. So this module imports little: a process is up soon, and is small.

An offset looks like {"batch": 42, "clock": 1763680830000000, "replay": -1}:

    batch         every batch up to this one is taken
    clock         the newest Kafka timestamp in them, in microseconds; 0 where the layer has none (layers/silver.py)
    replay        of silver, which also reads the ledger of replayed records: the newest file of the ledger
    idle_clock    only where the event time went on without a record (sources/idle.py)
    watermark     only where a query ended before the batch without data that was due: the watermark of that
"""

from __future__ import annotations

import base64
import math
import pickle
import time
from bisect import bisect_right
from collections.abc import Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql.datasource import DataSource, DataSourceStreamReader, InputPartition
from pyspark.sql.streaming.datasource import ReadAllAvailable, ReadLimit, ReadMaxRows
from pyspark.sql.types import StructType

from stream_app.sources.idle import IdleClock, IdleOptions, read_by
from stream_app.sources.split import Split, encoded
from stream_app.storage.batch_files import REPLAY, BatchFile, batch_files, standing
from stream_app.storage.offsets import IDLE_CLOCK, WATERMARK, LayerOffset
from stream_app.storage.planned import newest_kafka_ts

_MIN_ROWS_PER_SPLIT = 20_000
# How often a reader looks while it waits for a file.
_LOOK_SECONDS = 0.05
Offset = dict[str, int]


@dataclass(frozen=True)
class Options:
    """What a reader needs to know."""

    directory: Path
    prefix: str
    """Of the files in it."""
    ledger: Path | None
    """Where replayed records are, for the one that reads them, too."""
    max_rows: int
    """The rows of a micro-batch, rounded up to a whole file; 0 for no limit."""
    splits: int
    """How many tasks a large batch is cut into."""
    patience_seconds: float
    """How long to wait for a file before Spark is told that there is none."""
    idle: IdleOptions | None = None
    """When the clock goes on without a record; never without it."""
    watermark_due: int = 0
    """The watermark that no batch has acted on when the query starts, in milliseconds; 0 if there is none."""

    def encoded(self) -> str:
        """As an option of the data source."""
        return base64.b64encode(pickle.dumps(self)).decode()


@dataclass
class _Partition(InputPartition):
    """The work of one task."""

    split: Split


class LayerSource(DataSource):
    """The data source behind read_layer."""

    def __init__(self, options: MutableMapping[str, str]) -> None:
        super().__init__(options)
        # Written by read_layer in the driver, and passed on by Spark alone.
        self._reader_options: Options = pickle.loads(base64.b64decode(options["reader"]))  # noqa: S301

    def streamReader(self, schema: StructType) -> LayerReader:  # noqa: ARG002, N802 - as Spark calls it
        """Return the reader; its schema is SPLIT."""
        return LayerReader(self._reader_options)


class LayerReader(DataSourceStreamReader):
    """Follows a layer's files; only whole files, only forwards, each batch id once.

    Not for Trigger.AvailableNow: a drain reads, too, what the layer before is still to write in it (runner.py).
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self._newest: Offset | None = None
        self._due = options.watermark_due
        self._idle = IdleClock(options.idle, options.directory, options.prefix) if options.idle else None

    def initialOffset(self) -> Offset:  # noqa: N802 - Spark's name
        """Before the first batch."""
        return LayerOffset().as_json()

    def getDefaultReadLimit(self) -> ReadLimit:  # noqa: N802 - Spark's name
        """Return how many rows a micro-batch may have, in whole files and at least one; or no limit."""
        return ReadMaxRows(self._options.max_rows) if self._options.max_rows else ReadAllAvailable()

    def reportLatestOffset(self) -> Offset:  # noqa: N802 - Spark's name
        """Return the newest batch of the layer as latestOffset saw it, for progress reports."""
        if self._newest is None:  # a batch is run again
            start = self.initialOffset()
            self._newest = _newest(start, self._files(start), self._ledger(start))
        return self._newest

    def latestOffset(self, start: Offset, limit: ReadLimit) -> Offset:  # noqa: N802 - Spark's name
        """Return the end of the next batch: as many whole files as the limit allows, at least one.

        Where there is no new file it is `start`, with the newest batch of the ledger. Once it has the watermark, too,
        that was due when the query started: so Spark runs the batch without data. It waits a little for a file to
        appear. So the next layer follows at once, while an idle query costs next to nothing.
        """
        max_rows = limit.max_rows if isinstance(limit, ReadMaxRows) else None
        files, ledger = self._news(start)
        self._newest = _newest(start, files, ledger)
        end, rows = start | {"replay": self._newest["replay"]}, 0
        for file in files:
            metadata = pq.read_metadata(file.path)
            rows += metadata.num_rows
            if max_rows is not None and rows > max_rows and end["batch"] != start["batch"]:
                break
            end |= {"batch": file.last, "clock": max(end["clock"], min(newest_kafka_ts(metadata) or 0, read_by(file)))}
        if self._idle and end == start and (clock := self._idle.goes_to(end["batch"], end.get(IDLE_CLOCK, 0))):
            end |= {IDLE_CLOCK: clock}
        if end != start:
            self._due = 0  # that batch acts on it
        elif self._due:
            end |= {WATERMARK: self._due}
        return end

    def _news(self, start: Offset) -> tuple[list[BatchFile], list[BatchFile]]:
        """Return the files after `start` and the ledger's.

        It waits until there is one, or the reader's patience is at its end.
        """
        deadline = time.monotonic() + self._options.patience_seconds
        seen, found = self._changed(), (self._files(start), self._ledger(start))
        while not any(found) and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
            if (changed := self._changed()) != seen:
                seen, found = changed, (self._files(start), self._ledger(start))
        return found

    def _changed(self) -> list[int]:
        """When a name last came to the folders that are read, or went."""
        folders = (self._options.directory, self._options.ledger)
        return [folder.stat().st_mtime_ns if folder and folder.is_dir() else 0 for folder in folders]

    def partitions(self, start: Offset, end: Offset) -> Sequence[_Partition]:
        """Row groups in the order of the batches, cut into about as many splits as there are cores."""
        groups = [
            (str(file.path), index, metadata.row_group(index).num_rows)
            for file in self._files(start, end)
            for metadata in [pq.read_metadata(file.path)]
            for index in range(metadata.num_row_groups)
        ]
        total = sum(rows for _, _, rows in groups)
        splits = max(1, min(self._options.splits, total // _MIN_ROWS_PER_SPLIT))
        bounds = [total * (i + 1) // splits for i in range(splits)]
        work: list[dict[str, list[int]]] = [{} for _ in range(splits)]
        seen = 0
        for path, index, rows in groups:
            # by its middle, so that a row group falls to the split that holds most of it
            work[min(bisect_right(bounds, seen + rows // 2), splits - 1)].setdefault(path, []).append(index)
            seen += rows
        taken = [Split(list(files.items()), start["clock"]) for files in work if files]
        for file in self._ledger(start, end):
            every = list(range(pq.read_metadata(file.path).num_row_groups))
            taken.append(Split([(str(file.path), every)], start["clock"], replayed=True))
        if (clock := end.get(IDLE_CLOCK, 0)) != start.get(IDLE_CLOCK, 0):
            taken.append(Split([], start["clock"], idle_clock=clock))
        return list(map(_Partition, taken))

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        """Yield the split itself, as SPLIT."""
        assert isinstance(partition, _Partition)  # noqa: S101 - made by partitions() above
        yield encoded([partition.split])

    def _files(self, start: Offset, end: Offset | None = None) -> list[BatchFile]:
        """Return the files of the batches after `start`, up to `end`, oldest first.

        Raises ValueError where one was merged across a reader's offset, which retention never does.
        """
        after, up_to = start["batch"], end["batch"] if end else math.inf
        files = standing(batch_files(self._options.directory, self._options.prefix, after, up_to))
        for file in files:
            if file.first <= after or file.last > up_to:
                msg = f"{file.path}: holds batches on both sides of a reader's offset ({after}, {up_to})"
                raise ValueError(msg)
        return files

    def _ledger(self, start: Offset, end: Offset | None = None) -> list[BatchFile]:
        up_to = end["replay"] if end else math.inf
        return batch_files(self._options.ledger, REPLAY, start["replay"], up_to) if self._options.ledger else []


def _newest(start: Offset, files: Sequence[BatchFile], ledger: Sequence[BatchFile]) -> Offset:
    newest = {key: found[-1].last for key, found in (("batch", files), ("replay", ledger)) if found}
    return start | newest | {"clock": 0}
