"""The row by which the event time of a query goes on without a record (`[event_time] idle`).

Spark moves a watermark by rows alone. So the batch has one row more, with an event time and nothing else. A filter
behind the watermark's operator drops it, so no state ever sees it. One more column tells it from silver's rows: it
holds the row's own event time, and the filter compares the two. Spark's optimizer would move a filter that does not
read the event time in front of the operator (PushPredicateThroughNonJoin, measured on 4.2.0).
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructField, StructType, TimestampType

from stream_app.feeds.feed import Feed

_CLOCK = "_idle_clock"  # as no column of a feed can be called


def with_clock(feed: Feed, columns: StructType) -> StructType:
    """Return the columns that a query of windows or sessions takes: one more, if the feed's clock may go by itself."""
    return StructType([*columns, StructField(_CLOCK, TimestampType())]) if feed.event_time.idle else columns


def records(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return rows of silver with that column."""
    return batch.append_column(_CLOCK, pa.nulls(batch.num_rows, pa.timestamp("us", "UTC")))


def row(feed: Feed, columns: StructType, clock: int) -> pa.RecordBatch:
    """Return the one row that moves the clock to that time, in microseconds since the epoch."""
    schema = to_arrow_schema(with_clock(feed, columns), timezone="UTC")
    timed = {feed.event_time.field, _CLOCK}
    values = [pa.array([clock if one.name in timed else None], one.type) for one in schema]
    return pa.RecordBatch.from_arrays(values, schema=schema)


def clocked(rows: DataFrame, feed: Feed, lateness: str, where: Mapping[str, str] | None = None) -> DataFrame:
    """Return the rows that `where` lets through, with a watermark so far behind the newest event time.

    Spark filters by `where` before it looks at times.
    """
    time, is_idle = feed.event_time.field, feed.event_time.idle is not None
    found = rows.withWatermark(time, lateness)
    for column, value in (where or {}).items():
        matches = F.col(column) == value
        found = found.where(matches | _is_clock() if is_idle else matches)
    return found.where(~_is_clock() | (F.col(_CLOCK) < F.col(time))) if is_idle else found


def _is_clock() -> Column:
    return F.col(_CLOCK).isNotNull()
