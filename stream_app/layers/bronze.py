"""Bronze: every record of the topic, byte for byte."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from stream_app import schema


def bronze(records: DataFrame) -> DataFrame:
    """Kafka's columns -> schema.BRONZE.

    The value stays as it came. A key that is not UTF-8 is shown with U+FFFD in place of what is not, because a
    string column that held it could not be opened by Arrow or DuckDB.
    """
    return records.select(
        F.make_valid_utf8(F.col("key").cast("string")).alias("key"),
        "value",
        "headers",
        F.col("timestamp").alias("kafka_ts"),
        "topic",
        "partition",
        "offset",
    ).select(*schema.BRONZE.names)
