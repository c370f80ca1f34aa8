"""What the service makes of the records of an example, by the code that it runs where that needs no Spark.

Spark's own part is computed as the audit computes it: windows, sessions, and what came too late for them. Each
batch is read when all of the one before is done, its final windows among it, as in a service that keeps up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructField, StructType, TimestampType

from stream_app.contract.contract import Contract
from stream_app.contract.times import microseconds
from stream_app.feeds import schema
from stream_app.feeds.feed import Feed
from stream_app.flows.batch import Batch
from stream_app.layers.aggregate import Running, Stateful
from stream_app.layers.kind import QUARANTINE, SILVER
from stream_app.layers.quarantine import invalid_records
from stream_app.layers.registry import datasets as kinds
from stream_app.layers.silver import CLOCK, valid_rows
from stream_app.ops.examples.given import Given
from stream_app.ops.views import database
from stream_app.sinks.dedupe.index import Seen, entries
from stream_app.storage.offsets import LayerOffset
from stream_app.storage.planned import UNBOUNDED
from stream_app.storage.snapshots import Snapshot


def datasets(feed: Feed) -> tuple[str, ...]:
    """Return the names of what an example has expectations of, in the order of the flow."""
    derived = [name for name, kind in kinds(feed).items() if kind.stateful]
    totals = [name for name, kind in kinds(feed).items() if kind.running]
    return (QUARANTINE, SILVER, *derived, *(f"late_{name}" for name in derived), *totals)


@dataclass(frozen=True)
class Made:
    """What the service makes of an example."""

    tables: dict[str, pa.Table]
    """The rows of each dataset, by its name; those of quarantine without `value`."""
    watermarks: dict[str, int]
    """How far windows and sessions are final, by their names, in milliseconds since the epoch."""


def made(
    feed: Feed, batches: Sequence[Sequence[Given]], lookups: Mapping[str, Snapshot] = MappingProxyType({})
) -> Made:
    """Return what the service has made when it has done all of the last batch. Windows and sessions are in order.

    `lookups` are the rows of the feed's lookups, by their names.
    """
    with TemporaryDirectory() as folder:
        layers = _Layers(feed, Path(folder), lookups)
        derived = {name: _Derived(feed, kind.stateful) for name, kind in kinds(feed).items() if kind.stateful}
        for number, records in enumerate(batches):
            rows = layers.take(number, records)
            for one in derived.values():
                one.take(rows)
    tables = {QUARANTINE: layers.quarantine.drop_columns(["value"]), SILVER: layers.silver}
    for name, one in derived.items():
        tables |= {name: one.final(layers.silver), f"late_{name}": one.late}
    tables |= {name: _totals(kind.running, layers.silver) for name, kind in kinds(feed).items() if kind.running}
    return Made(tables, {name: one.watermark_ms for name, one in derived.items()})


def _totals(running: Running, silver: pa.Table) -> pa.Table:
    """Return what silver adds up to."""
    connection = database()
    connection.register("_silver", silver)
    return running.computed(connection, "_silver")


class _Layers:
    """Bronze, quarantine and silver."""

    def __init__(self, feed: Feed, folder: Path, lookups: Mapping[str, Snapshot]) -> None:
        self._feed = feed
        self._keys = feed.dedupe_keys
        self._seen = Seen(folder, feed.dedupe.within if feed.dedupe else None)
        self._clock = 0
        self._contract = Contract(feed, lambda lookup, _pin: lookups[lookup])
        self._bronze = to_arrow_schema(schema.BRONZE, timezone="UTC")
        columns = to_arrow_schema(schema.QUARANTINE, timezone="UTC")
        self._refused = invalid_records(self._contract, columns)
        self.quarantine = columns.empty_table()
        self._typed = StructType([*schema.silver(feed), StructField(CLOCK, TimestampType())])
        self._columns = to_arrow_schema(schema.silver(feed), timezone="UTC")
        self.silver = self._columns.empty_table()

    def take(self, number: int, records: Sequence[Given]) -> pa.Table:
        """Judge a batch; return the rows that silver gains."""
        bronze = self._read(records)
        taken = valid_rows(self._contract, to_arrow_schema(self._typed, timezone="UTC"), self._clock)(bronze)
        before = LayerOffset(number - 1, self._clock)
        self._clock = max(self._clock, *(record.kafka_us for record in records))
        batch = Batch(number, 0, 0, 0, before, LayerOffset(number, self._clock), ())
        kept = self._seen.take(batch, before.clock, entries([taken[key] for key in self._keys], taken[CLOCK]))
        rows = pa.Table.from_batches([taken.take(pa.array(kept)).select(self._columns.names)], self._columns)
        self.silver = pa.concat_tables([self.silver, rows])
        self.quarantine = pa.concat_tables([self.quarantine, pa.Table.from_batches([self._refused(bronze)])])
        return rows

    def _read(self, records: Sequence[Given]) -> pa.RecordBatch:
        """Return the records as a task reads them of bronze, long after they came."""
        columns = {
            "key": [record.key for record in records],
            "value": [record.value for record in records],
            "headers": [None] * len(records),
            "topic": [self._feed.topic] * len(records),
            "partition": [record.partition for record in records],
            "offset": [record.offset for record in records],
        }
        kafka_ts = pa.array([record.kafka_us for record in records], pa.int64())
        arrays = [
            kafka_ts.view(one.type) if one.name == "kafka_ts" else pa.array(columns[one.name], one.type)
            for one in self._bronze
        ]
        bronze = pa.RecordBatch.from_arrays(arrays, schema=self._bronze)
        return bronze.append_column(schema.PLANNED, pa.array([UNBOUNDED] * len(records), pa.int64()))


@dataclass
class _Derived:
    """Windows or sessions, from batch to batch."""

    feed: Feed
    stateful: Stateful
    watermark_ms: int = 0
    """What Spark begins with."""
    _late: list[pa.Table] = field(default_factory=list)

    def take(self, rows: pa.Table) -> None:
        """Note what of silver's new rows comes too late, and move the watermark."""
        buffer = pa.BufferOutputStream()
        pq.write_table(rows, buffer)
        file = pq.ParquetFile(pa.BufferReader(buffer.getvalue()))
        self._late.append(self.stateful.missed(file, self.watermark_ms))
        newest = pc.max(self.stateful.timed(rows)[self.feed.event_time.field].cast(pa.int64())).as_py()
        if newest is not None:
            self.watermark_ms = max(self.watermark_ms, newest // 1000 - microseconds(self.stateful.watermark) // 1000)

    @property
    def late(self) -> pa.Table:
        """Silver's rows that came too late, those of windows with each that they missed."""
        return pa.concat_tables(self._late)

    def final(self, silver: pa.Table) -> pa.Table:
        """Return what is final by now."""
        connection = database()
        connection.register("_silver", silver)
        connection.register("_late", self.late)
        return self.stateful.computed(connection, "_silver", "_late", self.watermark_ms)
