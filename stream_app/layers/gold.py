"""Gold: windowed aggregates of silver, each window once, when it is final."""

from __future__ import annotations

from datetime import timedelta

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from stream_app.feeds.feed import Feed
from stream_app.feeds.parts import Measure, Window

_WINDOW = "_window"  # as no column of a feed can be called
_FUNCTIONS = {"sum": F.sum, "avg": F.avg, "min": F.min, "max": F.max}


def gold(rows: DataFrame, feed: Feed, declared: Window) -> DataFrame:
    """Silver's rows -> window_start, window_end, the key if there is one, the measures in the order of the feed file.

    Windows by event time, tumbling or sliding, of the rows that `where` lets through. A window is emitted when the
    watermark (the newest event time less `watermark`) has passed its end; what arrives after that is dropped by Spark.
    Sums and averages of decimals stay decimals; so are sums of longs that may have no room in one. Distinct values
    are counted exactly, so the state holds each of them.
    """
    time = feed.event_time.field
    clocked = rows.withWatermark(time, _seconds(declared.watermark))
    for column, value in declared.where.items():
        clocked = clocked.where(F.col(column) == value)
    measures = [_measure(measure, feed).alias(name) for name, measure in declared.measures.items()]
    window = F.window(time, _seconds(declared.window), _seconds(declared.every)).alias(_WINDOW)
    return (
        clocked.groupBy(window, *declared.keys)
        .agg(*measures)
        .select(
            F.col(f"{_WINDOW}.start").alias("window_start"),
            F.col(f"{_WINDOW}.end").alias("window_end"),
            *declared.keys,
            *declared.measures,
        )
    )


def _measure(measure: Measure, feed: Feed) -> Column:
    if measure.field is None:
        return F.count(F.lit(1))
    if measure.function == "distinct":  # Spark refuses count_distinct in streams
        return F.size(F.collect_set(measure.field)).cast("long")
    if feed.fields[measure.field].sum_is_wide(measure.function):
        return F.sum(F.col(measure.field).cast("decimal(28,0)"))  # a decimal(38,0): Spark adds ten digits
    return _FUNCTIONS[measure.function](measure.field)


def _seconds(span: timedelta) -> str:
    return f"{span.total_seconds()} seconds"
