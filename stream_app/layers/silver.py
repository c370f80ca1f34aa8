"""Silver: the valid records, typed, each once."""

from __future__ import annotations

from pyspark.sql import DataFrame

from stream_app import schema
from stream_app.feed import Feed

CLOCK = "_clock"
"""The time that repeats are measured by: Kafka's timestamp, never behind the newest one of earlier batches.

Deduplication drops what is behind its watermark (Spark, dropDuplicatesWithinWatermark). On event time or on the bare
Kafka timestamp that would lose a valid record whose partition is read an hour after the others; on this clock no
record is ever behind. It is derived from the offsets alone (sources/layer.py), so a replay sees the same.
"""


def silver(valid: DataFrame, feed: Feed) -> DataFrame:
    """The contract's rows with CLOCK -> schema.silver(feed), one row for each dedupe key.

    A repeat is removed if it follows the first within the feed's `dedupe.within`; up to twice that, it may be. Of two
    in one batch either may stay.
    """
    clocked = valid.withWatermark(CLOCK, f"{feed.dedupe.within.total_seconds()} seconds")
    return clocked.dropDuplicatesWithinWatermark([feed.dedupe.key]).select(*schema.silver(feed).names)
