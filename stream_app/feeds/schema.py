"""The columns of the layers as Spark types; times are UTC, in microseconds."""

from __future__ import annotations

from typing import Any

from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    DataType,
    IntegerType,
    LongType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

from stream_app.feeds.feed import Feed
from stream_app.feeds.types import Json, Type, of_spark

COORDINATES = StructType(
    [
        StructField("kafka_ts", TimestampType()),
        StructField("topic", StringType()),
        StructField("partition", IntegerType()),
        StructField("offset", LongType()),
    ]
)

_HEADER = StructType([StructField("key", StringType()), StructField("value", BinaryType())])

PLANNED = "_planned"
"""The column beside bronze's with the time at which a record's batch was planned, as int64 (storage/planned.py)."""
PINS = "_pins"
"""The column beside it with the snapshots of lookups that a record's batch is judged by (storage/pins.py)."""

FILE, ROW, SAYS = "_file", "_row", "_says"
PROVENANCE = StructType(
    [StructField(FILE, StringType()), StructField(ROW, LongType()), StructField(SAYS, StringType())]
)
"""The columns beside it with the file that a record is from: its name, the record's place in it, and what it says.

The place is null in the file of one batch, whose records are in the order of partition and offset.
"""

BRONZE = StructType(
    [
        StructField("key", StringType()),
        StructField("value", BinaryType()),
        StructField("headers", ArrayType(_HEADER)),
        *COORDINATES,
    ]
)

VALUES = StructType([BRONZE["value"], *COORDINATES])
"""What of bronze tells whether a record is valid."""
KEYED_VALUES = StructType([BRONZE["key"], *VALUES])

QUARANTINE = StructType(
    [
        StructField("key", StringType()),
        StructField("value", BinaryType()),
        StructField("value_text", StringType()),
        StructField("reasons", ArrayType(StringType())),
        *COORDINATES,
    ]
)


def types_of(columns: StructType) -> dict[str, Type]:
    """Return the columns with their types, as a feed file calls these."""
    return {column.name: of_spark(column.dataType.jsonValue()) for column in columns}


def fields(feed: Feed) -> StructType:
    """Return the declared fields of a feed and what its lookups join, in order."""
    return StructType([StructField(name, _type(field.as_type.spark)) for name, field in feed.values.items()])


def verdict(feed: Feed) -> StructType:
    """Return what the contract makes of a record: its values, and `warnings` if a rule of the feed warns."""
    return StructType([StructField(name, _type(kind.spark)) for name, kind in feed.columns.items()])


def silver(feed: Feed) -> StructType:
    """Return what the contract makes of a record, then where the record is in Kafka."""
    return StructType([*verdict(feed), *COORDINATES])


def _type(spark: Json) -> DataType:
    one: dict[str, Any] = {"name": "_", "type": spark, "nullable": True, "metadata": {}}
    return StructType.fromJson({"type": "struct", "fields": [one]})["_"].dataType
