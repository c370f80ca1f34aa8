"""Windows, `gold` of the first feed: aggregates of silver by event time, each window once, when it is final."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from duckdb import DuckDBPyConnection
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import StructField, StructType, TimestampType

from stream_app.contract.times import microseconds
from stream_app.feeds import schema
from stream_app.feeds.feed import Feed
from stream_app.feeds.parts import Window
from stream_app.feeds.sql import name, text
from stream_app.layers import idle_clock, recompute, spark_digits
from stream_app.layers.aggregate import Stateful
from stream_app.layers.late import old_rows, rounded_down
from stream_app.layers.measures import as_column, data_type, origins
from stream_app.layers.origin import How, Origin, Origins, deciding, same

_WINDOW, _ANY = "_window", "_any"  # as no column of a feed can be called

_BOUNDS = {"window_start": "TIMESTAMPTZ", "window_end": "TIMESTAMPTZ"}


@dataclass(frozen=True)
class Windows(Stateful):
    """Windows as a dataset: [windows.<name>]."""

    previewed_by: ClassVar[str | None] = "window_start"

    opened: ClassVar[str] = "window_start"
    noun: ClassVar[str] = "window"
    replaces_open: ClassVar[bool] = False
    late_columns: ClassVar[Mapping[str, str]] = _BOUNDS
    late_key: ClassVar[tuple[str, ...]] = ("window_start",)

    @property
    def declared(self) -> Window:
        """What the feed file says of it."""
        return self.feed.windows[self.name]

    @property
    def identity(self) -> tuple[str, ...]:
        """The window and the key."""
        return (*_BOUNDS, *self.keys)

    @property
    def columns(self) -> StructType:
        """window_start, window_end, the keys, the measures in the order of the feed file."""
        times = [StructField(bound, TimestampType()) for bound in _BOUNDS]
        keys = [schema.fields(self.feed)[key] for key in self.keys]
        measures = [StructField(one, data_type(measure, self.feed)) for one, measure in self.declared.measures.items()]
        return StructType([*times, *keys, *measures])

    @property
    def origins(self) -> Mapping[str, Origins]:
        """The window of the event time, the keys, and what is measured."""
        declared, start = self.declared, (Origin(self.feed.event_time.field, How.TRANSFORMATION, by="window"),)
        measured = {
            name: start if measure.function == "start" else origins(measure)
            for name, measure in declared.measures.items()
        }
        return {**dict.fromkeys(_BOUNDS, start), **same(self.keys), **measured}

    @property
    def decided_by(self) -> Origins:
        """The event time, the keys, and what must have a value to count."""
        window = deciding(How.WINDOW, [self.feed.event_time.field])
        return (*window, *deciding(How.GROUP_BY, self.keys), *deciding(How.FILTER, self.declared.where))

    @property
    def shape(self) -> list[object]:
        """Silver's columns, the declaration, and sums that became decimals."""
        feed, measures = self.feed, self.declared.measures.values()
        wide = [one.field for one in measures if one.field and feed.values[one.field].sum_is_wide(one.function)]
        return [*super().shape, *([wide, "decimal(38,0)"] if wide else [])]  # they were longs once

    def transform(self, rows: DataFrame, *, fresh: bool) -> DataFrame:  # noqa: ARG002 - the output mode alone differs
        """Count silver's rows."""
        return windows(rows, self.feed, self.declared)

    def missed(self, file: pq.ParquetFile, watermark_ms: int) -> pa.Table:
        """Return the late rows, with each window that they missed, the newest first."""
        declared, event_time = self.declared, self.feed.event_time.field
        length, every = microseconds(declared.window), microseconds(declared.every)
        ends_by = watermark_ms * 1000 // every * every  # the newest window end that is not after the watermark
        rows = self.timed(old_rows(file, self.late_rows, event_time, ends_by))
        time = rows[event_time].type
        newest = rounded_down(rows[event_time].cast(pa.int64()), every)
        missed = [_with_window(rows, pc.subtract(newest, back), length, time) for back in range(0, length, every)]
        late = pa.concat_tables(missed)
        return late.filter(pc.less_equal(late["window_end"], pa.scalar(ends_by, pa.int64()).cast(time)))

    def expected(self, rows: str, late: str, watermark_ms: int) -> str:
        """Return the SQL for the windows that are final."""
        return recompute.windows(self.declared, self.feed.event_time.field, rows, late, watermark_ms / 1000)

    def timed(self, rows: pa.Table) -> pa.Table:
        """Return what `where` lets through: Spark filters before it looks at times."""
        for column, value in self.declared.where.items():
            rows = rows.filter(pc.equal(rows[column], value))
        return rows

    def computed(self, database: DuckDBPyConnection, rows: str, late: str, watermark_ms: int) -> pa.Table:
        """Return the windows that are final, by their start, their end and their keys."""
        exact = self.declared.model_copy(update={"measures": spark_digits.exact(self.feed, self.declared.measures)})
        found = recompute.windows(exact, self.feed.event_time.field, rows, late, watermark_ms / 1000)
        table = database.sql(f"SELECT * FROM ({found}) ORDER BY ALL").to_arrow_table()
        return spark_digits.shown(self.feed, self.identity, self.declared.measures, table)

    def differing(self, actual: str, expected: str, *, alike: bool) -> str:
        """Return the SQL for windows that differ; sums of doubles may, by rounding."""
        return recompute.differing_measures(
            self.feed, self.identity, self.declared.measures, actual, expected, alike=alike
        )

    @property
    def since(self) -> str:
        """When the window began."""
        return "epoch_us(window_start)"

    @property
    def until(self) -> str:
        """When it ended."""
        return "epoch_us(window_end)"

    @property
    def late_by(self) -> str:
        """When the window that the row missed ended."""
        return self.until

    @property
    def wrongly_late(self) -> str:
        """Return whether a late row has a window that is not its own."""
        time = f"epoch_us({name(self.feed.event_time.field)})"
        length, every = microseconds(self.declared.window), microseconds(self.declared.every)
        right = [
            f"{self.since} % {every} = 0",
            f"{self.until} = {self.since} + {length}",
            f"{time} >= {self.since}",
            f"{time} < {self.until}",
            *(f"{name(column)} = {text(value)}" for column, value in self.declared.where.items()),
        ]
        return f"NOT coalesce({' AND '.join(right)}, false)"


def windows(rows: DataFrame, feed: Feed, declared: Window) -> DataFrame:
    """Silver's rows -> window_start, window_end, the key if there is one, the measures in the order of the feed file.

    Windows by event time, tumbling or sliding, of the rows that `where` lets through. A window is emitted when the
    watermark (the newest event time less `watermark`) has passed its end; what arrives after that is dropped by Spark.
    Sums and averages of decimals stay decimals; so are sums of longs that may have no room in one. Distinct values
    are counted exactly, so the state holds each of them.
    """
    time = feed.event_time.field
    clocked = idle_clock.clocked(rows, feed, _seconds(declared.watermark), declared.where)
    starts = {name for name, measure in declared.measures.items() if measure.function == "start"}
    measures = {name: as_column(one, feed) for name, one in declared.measures.items() if name not in starts}
    window = F.window(time, _seconds(declared.window), _seconds(declared.every)).alias(_WINDOW)
    return (
        clocked.groupBy(window, *declared.keys)
        .agg(*(measured.alias(name) for name, measured in (measures or {_ANY: F.count(F.lit(1))}).items()))
        .select(
            F.col(f"{_WINDOW}.start").alias("window_start"),
            F.col(f"{_WINDOW}.end").alias("window_end"),
            *declared.keys,
            *(F.col(f"{_WINDOW}.start").alias(name) if name in starts else F.col(name) for name in declared.measures),
        )
    )


def _with_window(rows: pa.Table, starts: pa.ChunkedArray, length: int, time: pa.DataType) -> pa.Table:
    bounds = {"window_start": starts, "window_end": pc.add(starts, length)}
    for i, (bound, values) in enumerate(bounds.items()):
        rows = rows.add_column(i, bound, values.cast(time))
    return rows


def _seconds(span: timedelta) -> str:
    return f"{span.total_seconds()} seconds"
