"""Bronze: every record of the topic, as it came."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema

from stream_app import schema


def bronze(records: DataFrame) -> DataFrame:
    """Kafka's columns -> those of schema.BRONZE, the headers as JSON.

    The value stays as it came. A key that is not UTF-8 is shown with U+FFFD in place of what is not, because a
    string column that held it could not be opened by Arrow or DuckDB. Headers travel as JSON with base64, or null:
    to bring a column of arrays of structs to Python costs more than all others together, even if all are null.
    """
    return records.select(
        F.make_valid_utf8(F.col("key").cast("string")).alias("key"),
        "value",
        F.to_json("headers", {"ignoreNullFields": "false"}).alias("headers"),
        F.col("timestamp").alias("kafka_ts"),
        "topic",
        "partition",
        "offset",
    ).select(*schema.BRONZE.names)


def with_headers(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """What `bronze` gives -> schema.BRONZE as Arrow, the headers as they came."""
    columns = to_arrow_schema(schema.BRONZE, timezone="UTC")
    index = columns.get_field_index("headers")
    field = columns.field(index)
    for batch in batches:
        texts = batch[field.name]
        if texts.null_count == len(texts):
            headers = pa.nulls(len(texts), field.type)
        else:
            headers = pa.array([text and _headers(text) for text in texts.to_pylist()], field.type)
        yield batch.set_column(index, field, headers).cast(columns)


def _headers(text: str) -> list[dict[str, Any]]:
    found = [(header["key"], header["value"]) for header in json.loads(text)]
    return [{"key": key, "value": None if value is None else base64.b64decode(value)} for key, value in found]
