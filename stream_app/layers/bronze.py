"""Bronze: every record of the topic, as it came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import numpy as np
import pyarrow as pa
from confluent_kafka import Message
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType

from stream_app.feeds import schema
from stream_app.layers.origin import How, Origin, Origins, same
from stream_app.layers.record_kind import RecordKind

_COLUMNS = to_arrow_schema(schema.BRONZE, timezone="UTC")
_HEADERS = _COLUMNS.field("headers").type
_KAFKA_TS = _COLUMNS.field("kafka_ts").type
# The years 1 to 9999, which every reader has a calendar for.
_FIRST_MS, _LAST_MS = -62_135_596_800_000, 253_402_300_799_999


@dataclass(frozen=True)
class Bronze(RecordKind):
    """Bronze as a dataset. Its tasks read Kafka (sources/topic_records.py), which have no files to read."""

    upstream: ClassVar[str | None] = None
    shown: ClassVar[str] = (
        'key, left(coalesce(try(decode(value)), value::VARCHAR), 60) AS value, kafka_ts, partition, "offset"'
    )

    @property
    def columns(self) -> StructType:
        """schema.BRONZE."""
        return schema.BRONZE

    @property
    def origins(self) -> Mapping[str, Origins]:
        """What a record of Kafka has."""
        return same(self.columns.names) | {"kafka_ts": (Origin("timestamp", How.IDENTITY),)}

    @property
    def decided_by(self) -> Origins:
        """Nothing: each record is there."""
        return ()


def records(messages: Sequence[Message], topic: str) -> pa.RecordBatch:
    """Messages of the topic -> schema.BRONZE. The value stays as it came."""
    columns = {
        "key": texts_of([message.key() for message in messages]),
        "value": pa.array([message.value() for message in messages], pa.binary()),
        "headers": pa.array([_headers(message) for message in messages], _HEADERS),
        "kafka_ts": times_of([message.timestamp()[1] for message in messages]),
        "topic": pa.repeat(pa.scalar(topic, pa.string()), len(messages)),
        "partition": pa.array([message.partition() for message in messages], pa.int32()),
        "offset": pa.array([message.offset() for message in messages], pa.int64()),
    }
    return pa.RecordBatch.from_pydict(columns, _COLUMNS)


def times_of(milliseconds: Sequence[int]) -> pa.Array:
    """Return Kafka's timestamps as the layers have them.

    A time before the year 1 or after 9999 becomes its first or last millisecond: Kafka takes any from a client.
    """
    return pa.array(np.clip(np.array(milliseconds, np.int64), _FIRST_MS, _LAST_MS) * 1000).view(_KAFKA_TS)


def texts_of(keys: Sequence[bytes | None]) -> pa.Array:
    """Return keys as texts.

    Bytes that are not UTF-8 are shown as U+FFFD: Arrow and DuckDB could not open a string column with them.
    """
    try:
        return pa.array(keys, pa.string())
    except pa.ArrowInvalid:
        return pa.array([None if key is None else key.decode(errors="replace") for key in keys], pa.string())


def _headers(message: Message) -> list[dict[str, object]] | None:
    try:
        found = cast("list[tuple[str, bytes | None]] | None", message.headers())
    except SystemError:  # a header's name is not UTF-8, as Kafka has it be: confluent-kafka cannot show any of them
        return None
    return None if found is None else [{"key": key, "value": value} for key, value in found]
