"""Gold: windowed aggregates of silver, each window once, when it is final."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from stream_app.feed import Feed, Measure

_FUNCTIONS = {"sum": F.sum, "avg": F.avg, "min": F.min, "max": F.max}


def gold(rows: DataFrame, feed: Feed) -> DataFrame:
    """Silver's rows -> window_start, window_end, the key, the measures in the order of the feed file.

    Tumbling windows by event time. A window is emitted when the watermark (the newest event time less
    `gold.watermark`) has passed its end; what arrives after that is dropped by Spark. Sums and averages of
    decimals stay decimals.
    """
    declared = feed.gold
    measures = [_measure(measure).alias(name) for name, measure in declared.measures.items()]
    return (
        rows.withWatermark(feed.event_time.field, f"{declared.watermark.total_seconds()} seconds")
        .groupBy(
            F.window(feed.event_time.field, f"{declared.window.total_seconds()} seconds").alias("window"),
            declared.key,
        )
        .agg(*measures)
        .select(
            F.col("window.start").alias("window_start"),
            F.col("window.end").alias("window_end"),
            declared.key,
            *declared.measures,
        )
    )


def _measure(measure: Measure) -> Column:
    return F.count(F.lit(1)) if measure.field is None else _FUNCTIONS[measure.function](measure.field)
