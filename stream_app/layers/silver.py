"""Silver: the valid records, typed, each once."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame

from stream_app.contract import Contract, Rejected
from stream_app.feed import Feed
from stream_app.layers.verdict import conform, typed_column, verdicts

CLOCK = "_clock"
"""The time that repeats are measured by: Kafka's timestamp, never behind the newest one of earlier batches.

Deduplication drops what is behind its watermark (Spark, dropDuplicatesWithinWatermark). On event time or on the bare
Kafka timestamp that would lose a valid record whose partition is read an hour after the others; on this clock no
record is ever behind. It is derived from the offsets alone (sources/layer.py), so a replay sees the same.
"""

BatchFunction = Callable[[pa.RecordBatch], pa.RecordBatch]


def valid_rows(contract: Contract, schema: pa.Schema, clock_us: int) -> BatchFunction:
    """Bronze -> the typed rows of the valid records, their coordinates, and CLOCK.

    `clock_us` is the newest Kafka timestamp of earlier batches, in microseconds since the epoch.
    """

    def function(batch: pa.RecordBatch) -> pa.RecordBatch:
        judged = verdicts(contract, batch)
        valid = [i for i, verdict in enumerate(judged) if not isinstance(verdict, Rejected)]
        fields = zip(*(judged[i] for i in valid), strict=True) if valid else [[] for _ in contract.columns]
        columns = {
            name: typed_column(values, schema.field(name).type)
            for name, values in zip(contract.columns, fields, strict=True)
        }
        kept = batch.take(pa.array(valid, pa.int64()))
        columns |= {name: kept[name] for name in ("kafka_ts", "topic", "partition", "offset")}
        return with_clock(pa.RecordBatch.from_pydict(columns))

    with_clock = clocked(schema, clock_us)
    return function


def clocked(schema: pa.Schema, clock_us: int) -> BatchFunction:
    """Rows with kafka_ts -> the same with CLOCK, in exactly the schema."""

    def function(batch: pa.RecordBatch) -> pa.RecordBatch:
        columns = {name: batch[name] for name in batch.schema.names}
        kafka_us = batch["kafka_ts"].cast(pa.int64())
        columns[CLOCK] = pc.max_element_wise(kafka_us, pa.scalar(clock_us)).view(batch["kafka_ts"].type)
        return conform(columns, schema)

    return function


def once(rows: DataFrame, feed: Feed) -> DataFrame:
    """Rows with the dedupe key and CLOCK -> the same, one row for each key.

    A repeat is removed if it follows the first within the feed's `dedupe.within`; up to twice that, it may be. Of two
    in one batch either may stay.
    """
    clocked = rows.withWatermark(CLOCK, f"{feed.dedupe.within.total_seconds()} seconds")
    return clocked.dropDuplicatesWithinWatermark([feed.dedupe.key])
