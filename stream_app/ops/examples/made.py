"""What the service makes of the records of an example, by the code that it runs where that needs no Spark.

Spark's own part is computed as the audit computes it anew: windows, sessions, and what came too late for them. Each
batch is read when all of the one before is done, its final windows among it, as in a service that keeps up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import ROUND_HALF_UP, Context, Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructField, StructType, TimestampType

from stream_app.contract.contract import Contract
from stream_app.contract.times import microseconds
from stream_app.feeds import schema
from stream_app.feeds.feed import Feed
from stream_app.feeds.parts import Measure, Window
from stream_app.flows.batch import Batch
from stream_app.flows.flow import Flow, Layer, flows
from stream_app.layers.quarantine import invalid_records
from stream_app.layers.silver import CLOCK, valid_rows
from stream_app.ops import recompute
from stream_app.ops.examples.given import Given
from stream_app.ops.sql import names
from stream_app.ops.views import database
from stream_app.sinks.dedupe.index import Seen, entries
from stream_app.sinks.late import late_rows
from stream_app.storage.offsets import LayerOffset
from stream_app.storage.planned import UNBOUNDED

# What an average of decimals has more than they have (layers/gold.py), and room for the longest.
_AVERAGE_DECIMALS = 4
_ROOMY = Context(prec=80)
# Spark and DuckDB add doubles in orders of their own.
_SUM_DIGITS = 12


def datasets(feed: Feed) -> tuple[str, ...]:
    """Return the names of what an example has expectations of, in the order of the flow."""
    derived = (*feed.windows, *feed.sessions)
    return ("quarantine", "silver", *derived, *(f"late_{name}" for name in derived))


@dataclass(frozen=True)
class Made:
    """What the service makes of an example."""

    tables: dict[str, pa.Table]
    """The rows of each dataset, by its name; those of quarantine without `value`."""
    watermarks: dict[str, int]
    """How far windows and sessions are final, by their names, in milliseconds since the epoch."""


def made(feed: Feed, batches: Sequence[Sequence[Given]]) -> Made:
    """Return what the service has made when it has done all of the last batch. Windows and sessions are in order."""
    with TemporaryDirectory() as folder:
        layers = _Layers(feed, Path(folder))
        derived = [_Derived(flow) for flow in flows([feed], Path(folder)) if flow.layer in {Layer.GOLD, Layer.SESSIONS}]
        for number, records in enumerate(batches):
            rows = layers.take(number, records)
            for one in derived:
                one.take(rows)
    tables = {"quarantine": layers.quarantine.drop_columns(["value"]), "silver": layers.silver}
    for one in derived:
        tables |= {one.flow.sink: one.final(layers.silver), f"late_{one.flow.sink}": one.late}
    return Made(tables, {one.flow.sink: one.watermark_ms for one in derived})


class _Layers:
    """Bronze, quarantine and silver."""

    def __init__(self, feed: Feed, folder: Path) -> None:
        self._feed = feed
        self._seen = Seen(folder, feed.dedupe.within)
        self._clock = 0
        self._contract = Contract(feed)
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
        kept = self._seen.take(batch, before.clock, entries(taken[self._feed.dedupe.key], taken[CLOCK]))
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

    flow: Flow
    watermark_ms: int = 0
    """What Spark begins with."""
    _late: list[pa.Table] = field(default_factory=list)

    def take(self, rows: pa.Table) -> None:
        """Note what of silver's new rows comes too late, and move the watermark."""
        buffer = pa.BufferOutputStream()
        pq.write_table(rows, buffer)
        self._late.append(late_rows(self.flow, pq.ParquetFile(pa.BufferReader(buffer.getvalue())), self.watermark_ms))
        newest = pc.max(self._counted(rows)[self.flow.feed.event_time.field].cast(pa.int64())).as_py()
        if newest is not None:
            self.watermark_ms = max(self.watermark_ms, newest // 1000 - microseconds(self._watermark) // 1000)

    @property
    def late(self) -> pa.Table:
        """Silver's rows that came too late, those of windows with each that they missed."""
        return pa.concat_tables(self._late)

    def final(self, silver: pa.Table) -> pa.Table:
        """Return what is final by now."""
        feed, time = self.flow.feed, self.flow.feed.event_time.field
        connection = database()
        connection.register("_silver", silver)
        connection.register("_late", self.late)
        if not self.flow.is_windowed:
            due = '(SELECT * FROM _silver ANTI JOIN _late USING (partition, "offset"))'
            found = recompute.sessions(self.flow.session, time, due, self.watermark_ms)
            return connection.sql(
                f"SELECT * FROM ({found}) ORDER BY session_start, {names(self.flow.session.keys)}"
            ).to_arrow_table()
        declared = self.flow.window
        found = recompute.windows(_exact(feed, declared), time, "_silver", "_late", self.watermark_ms / 1000)
        table = connection.sql(f"SELECT * FROM ({found}) ORDER BY ALL").to_arrow_table()
        arrays = {name: table[name] for name in ("window_start", "window_end", *declared.keys)}
        arrays |= {name: _measured(feed, name, measure, table) for name, measure in declared.measures.items()}
        return pa.table(arrays)

    def _counted(self, rows: pa.Table) -> pa.Table:
        """Return the rows that move the watermark: Spark filters before it looks at their times."""
        for column, value in self.flow.window.where.items() if self.flow.is_windowed else ():
            rows = rows.filter(pc.equal(rows[column], value))
        return rows

    @property
    def _watermark(self) -> timedelta:
        return (self.flow.window if self.flow.is_windowed else self.flow.session).watermark


def _is_exact_average(feed: Feed, measure: Measure) -> bool:
    return measure.function == "avg" and feed.fields[measure.field or ""].precision_scale is not None


def _exact(feed: Feed, declared: Window) -> Window:
    """Return the windows with the sum and the number in place of averages of decimals, which DuckDB makes doubles."""
    measures: dict[str, Measure] = {}
    for name, measure in declared.measures.items():
        measures[name] = measure
        if _is_exact_average(feed, measure):
            measures[name] = Measure(function="sum", field=measure.field)
            measures[_number_of(name)] = Measure(function="count", field=measure.field)
    return declared.model_copy(update={"measures": measures})


def _measured(feed: Feed, name: str, measure: Measure, table: pa.Table) -> pa.ChunkedArray | pa.Array:
    """Return a measure as Spark has it."""
    if _is_exact_average(feed, measure):
        _, scale = feed.fields[measure.field or ""].precision_scale or (0, 0)
        unit = Decimal(1).scaleb(-scale - _AVERAGE_DECIMALS)
        both = zip(table[name].to_pylist(), table[_number_of(name)].to_pylist(), strict=True)
        return pa.array([None if total is None else _average(total, number, unit) for total, number in both])
    if measure.function in {"sum", "avg"} and pa.types.is_floating(table[name].type):
        return pa.array(
            [value if value is None else float(f"{value:.{_SUM_DIGITS}g}") for value in table[name].to_pylist()]
        )
    return table[name]


def _average(total: Decimal, number: int, unit: Decimal) -> Decimal:
    return _ROOMY.divide(total, number).quantize(unit, ROUND_HALF_UP, _ROOMY)


def _number_of(measure: str) -> str:
    return f"_number_{measure}"  # as no column of a feed can be called
