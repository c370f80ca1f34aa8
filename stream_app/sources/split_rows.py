"""What a task makes of a split: the rows of its files, as the query that reads them takes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate, groupby
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType

from stream_app.contract.references import SnapshotOf
from stream_app.contract.undeclared import Undeclared
from stream_app.feeds.growth import lifted
from stream_app.feeds.schema import PINS, PLANNED
from stream_app.layers.kind import Kind
from stream_app.layers.reading import Reading
from stream_app.sources.provenance import Provenance
from stream_app.sources.split import Split, decoded
from stream_app.storage.batch_files import last_batch
from stream_app.storage.pins import Pins
from stream_app.storage.planned import Planned

_ARROW_BATCH_ROWS = 10_000
Batches = Iterator[pa.RecordBatch]
ReadingOf = Callable[[Split], Reading]


@dataclass(frozen=True)
class Rows:
    """The rows that a query makes of the files of the layer before.

    A feed travels with the tasks, so that all tasks of a query hold to one version of its rules.
    """

    columns: StructType
    reading: ReadingOf
    earlier: tuple[tuple[int, ReadingOf], ...] = ()
    """How files of batches up to a number are read, where that is otherwise; oldest first."""

    @classmethod
    def of(cls, kind: Kind, snapshot_of: SnapshotOf | None) -> Rows:
        """Return those of a dataset, made of its upstream."""
        return cls(kind.clocked, lambda split: kind.reading(split.clock, snapshot_of, replayed=split.replayed))

    def before(self, earlier: Sequence[tuple[int, Rows]]) -> Rows:
        """Return the same, in which other rows are made of batches up to a number, lifted to these columns."""
        return replace(self, earlier=tuple((batch, self._lifting(rows)) for batch, rows in earlier))

    def frame(self, splits: DataFrame) -> DataFrame:
        """Return the rows of splits, in `columns`, for Spark to go on with."""
        return splits.mapInArrow(self.read, self.columns)

    def read(self, splits: Batches, undeclared: Undeclared | None = None) -> Batches:
        """Return the same inside of a task: batches with rows, in exactly those types (Spark takes no others).

        What records have that nobody has declared is added to `undeclared` once all are read.
        """
        for split in decoded(splits):
            for reading_of, files in groupby(split.row_groups, partial(self._reading_of, split)):
                reading = reading_of(split)
                columns = to_arrow_schema(reading.columns, timezone="UTC")
                for path, groups in files:
                    with pq.ParquetFile(path) as file:
                        provenance = Provenance.of(Path(path).name, file.metadata) if reading.has_provenance else None
                        taken = _batches(file, groups, columns, provenance, judged=reading.judges)
                        yield from (rows for rows in map(reading.function, taken) if rows.num_rows)
                if undeclared is not None and reading.undeclared is not None:
                    undeclared.merge(reading.undeclared)
            # a batch that was planned before the feed lost its `idle` has no such row
            if split.idle_clock and (idle := self.reading(split).idle):
                yield idle(split.idle_clock)

    def _reading_of(self, split: Split, held: tuple[str, list[int]]) -> ReadingOf:
        """Return how a file is read, by the newest batch in it. A record of the ledger was judged already."""
        if not self.earlier or split.replayed:
            return self.reading
        newest = last_batch(Path(held[0]).name)
        return next((reading_of for batch, reading_of in self.earlier if newest <= batch), self.reading)

    def _lifting(self, rows: Rows) -> ReadingOf:
        columns = to_arrow_schema(self.columns, timezone="UTC")

        def reading_of(split: Split) -> Reading:
            reading = rows.reading(split)
            return replace(reading, function=lambda batch: lifted(reading.function(batch), columns))

        return reading_of


def _batches(
    file: pq.ParquetFile, groups: Sequence[int], columns: pa.Schema, provenance: Provenance | None, *, judged: bool
) -> Batches:
    """Return row groups in those columns, of records to be judged PLANNED and PINS, and if it is given PROVENANCE."""
    planned, pins = Planned.of(file.metadata), Pins(file.metadata)
    firsts = [0, *accumulate(file.metadata.row_group(i).num_rows for i in range(file.num_row_groups))]
    for group in groups:  # one by one, since a batch would span them: they bound the memory (storage/parquet.py)
        first = firsts[group]
        for held in file.iter_batches(_ARROW_BATCH_ROWS, [group], columns.names, use_threads=False):
            batch = lifted(held, columns)
            if judged:
                batch = batch.append_column(PLANNED, planned.of_rows(first, batch.num_rows))
                batch = batch.append_column(PINS, pins.of_rows(first, batch.num_rows))
            if provenance:
                for name, values in provenance.of_rows(first, batch.num_rows):
                    batch = batch.append_column(name, values)
            yield batch
            first += batch.num_rows
