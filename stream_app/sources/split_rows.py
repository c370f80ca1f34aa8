"""What a task makes of a split: the rows of its files, as the layer that follows them takes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructField, StructType, TimestampType

from stream_app.contract.contract import Contract
from stream_app.feeds import schema
from stream_app.feeds.schema import PLANNED
from stream_app.flows.flow import Flow, Layer
from stream_app.layers.quarantine import invalid_records
from stream_app.layers.raw_csv import LINES, lines
from stream_app.layers.silver import CLOCK, clocked, valid_rows
from stream_app.sources.split import Split, decoded
from stream_app.storage.planned import Planned

_ARROW_BATCH_ROWS = 10_000
Batches = Iterator[pa.RecordBatch]


class Rows:
    """The rows that a flow takes from the layer before it.

    Silver gets the contract's rows with CLOCK, quarantine the records that it refuses, raw_csv a line each, the others
    silver as it stands, or of it what their declaration names. The feed travels with the tasks, so that all tasks of a
    query hold to one version of its rules.
    """

    def __init__(self, flow: Flow) -> None:
        self.columns = _columns(flow)
        self._layer = flow.layer
        self._feed = flow.feed
        self._arrow = to_arrow_schema(self.columns, timezone="UTC")

    def frame(self, splits: DataFrame) -> DataFrame:
        """Splits -> the rows, in `columns`, of every query."""
        return splits.mapInArrow(self.read, self.columns)

    def read(self, splits: Batches) -> Batches:
        """The same inside of a task: batches with rows, in exactly the declared types (Spark takes no others)."""
        for split in decoded(splits):
            function, columns = self._function(split)
            judged = self._layer in {Layer.SILVER, Layer.QUARANTINE} and not split.replayed
            for path, groups in split.row_groups:
                with pq.ParquetFile(path) as file:
                    planned = Planned.of(file.metadata) if judged else None
                    found = map(function, _batches(file, groups, columns, planned))
                    yield from (rows for rows in found if rows.num_rows)

    def _function(self, split: Split) -> tuple[Callable[[pa.RecordBatch], pa.RecordBatch], list[str]]:
        """What is done with each batch of the upstream files, and which of their columns it takes."""
        coordinates = schema.COORDINATES.names
        match self._layer:
            case Layer.SILVER if split.replayed:
                columns = [name for name in self._arrow.names if name != CLOCK]
                return clocked(self._arrow, split.clock), columns
            case Layer.SILVER:
                return valid_rows(Contract(self._feed), self._arrow, split.clock), ["value", *coordinates]
            case Layer.QUARANTINE:
                return invalid_records(Contract(self._feed), self._arrow), ["key", "value", *coordinates]
            case Layer.RAW_CSV:
                return (lambda batch: lines(batch, self._feed)), list(self._feed.fields)
            case _:
                return (lambda batch: batch.cast(self._arrow)), self._arrow.names


def _batches(file: pq.ParquetFile, groups: Sequence[int], columns: Sequence[str], planned: Planned | None) -> Batches:
    """Those columns of row groups, and of records to judge the time at which the batch of each was planned."""
    firsts = [0, *accumulate(file.metadata.row_group(i).num_rows for i in range(file.num_row_groups))]
    for group in groups:  # one by one, since a batch would span them: they bound the memory (storage/parquet.py)
        first = firsts[group]
        for batch in file.iter_batches(_ARROW_BATCH_ROWS, [group], columns, use_threads=False):
            yield batch.append_column(PLANNED, planned.of_rows(first, batch.num_rows)) if planned else batch
            first += batch.num_rows


def _columns(flow: Flow) -> StructType:
    match flow.layer:
        case Layer.QUARANTINE:
            return schema.QUARANTINE
        case Layer.SILVER:
            return StructType([*schema.silver(flow.feed), StructField(CLOCK, TimestampType())])
        case Layer.RAW_CSV:
            return LINES
        case Layer.LAKE | Layer.TOPIC:
            return schema.silver(flow.feed)
        case _:
            declared = flow.window if flow.is_windowed else flow.session
            needed = {flow.feed.event_time.field, *declared.columns}
            return StructType([field for field in schema.fields(flow.feed) if field.name in needed])
