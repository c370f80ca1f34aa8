"""Silver: the valid records, typed, each once."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from stream_app.contract.contract import Contract
from stream_app.feeds.schema import COORDINATES, PLANNED

CLOCK = "_clock"
"""The time that repeats are measured by: Kafka's timestamp, never behind the clock of earlier batches, which is their
newest timestamp that is not after they were read.

What is older than the span in which repeats are looked for is forgotten (sinks/dedupe/index.py). By event time or
the bare Kafka timestamp, a repeat would slip through whose partition is read an hour after the others; on this clock
no record is ever behind. It is derived from the offsets alone (sources/layer_reader.py), so a replay sees the same.
"""

BatchFunction = Callable[[pa.RecordBatch], pa.RecordBatch]


def valid_rows(contract: Contract, schema: pa.Schema, clock_us: int) -> BatchFunction:
    """Bronze with PLANNED -> the typed rows of the valid records, their coordinates, and CLOCK.

    `clock_us` is the clock of earlier batches, in microseconds since the epoch.
    """

    def function(batch: pa.RecordBatch) -> pa.RecordBatch:
        judged = contract.check_all(batch["value"], batch["kafka_ts"].cast(pa.int64()), batch[PLANNED])
        places, columns = judged.rows()
        place_in_kafka = batch.select(COORDINATES.names).take(places)
        names = [*contract.columns, *COORDINATES.names]
        return with_clock(pa.RecordBatch.from_arrays([*columns, *place_in_kafka.columns], names))

    with_clock = clocked(schema, clock_us)
    return function


def clocked(schema: pa.Schema, clock_us: int) -> BatchFunction:
    """Rows with kafka_ts -> the same with CLOCK, in exactly the schema."""

    def function(batch: pa.RecordBatch) -> pa.RecordBatch:
        kafka_us = batch["kafka_ts"].cast(pa.int64())
        clock = pc.max_element_wise(kafka_us, pa.scalar(clock_us)).view(batch["kafka_ts"].type)
        return batch.append_column(CLOCK, clock).cast(schema)

    return function
