"""A dataset as JSON on a Kafka topic: of quarantine it is a dead-letter topic.

Guarantee: at least once, but for records that the topic refuses. A batch that is run again sends its records again,
identical to the byte; whoever must see each once drops repeats by a header that identifies the record. What the topic
refuses for a fault of the record, as its size, is logged and counted, and the batch goes on: no retry can help. The
dataset has the row. Windows and sessions are sent when they are final.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql.types import StructType

from stream_app import logs
from stream_app.failpoints import reach
from stream_app.feeds.aggregates import repeated
from stream_app.feeds.parts import ColumnName, Topic, quoted
from stream_app.feeds.schema import types_of
from stream_app.feeds.types import Type, scalar
from stream_app.flows.batch import Batch
from stream_app.flows.flow import Flow
from stream_app.kafka.broker import Broker
from stream_app.kafka.connection import KafkaConnection
from stream_app.layers.kind import Kind
from stream_app.layers.origin import Origins
from stream_app.settings import Servers
from stream_app.sinks import json_text
from stream_app.sinks.delivery import LARGEST_BYTES, TOLD, Delivery
from stream_app.sinks.protocol import Guarantee, Sink, Tools, Writer
from stream_app.sinks.report import REFUSED, Report
from stream_app.sources.split_rows import Batches, Rows

_PROCESSED = "processing_time"
_TOLD_RECORDS = 20
"""How many refused records of a batch have a line of their own in the log."""


class KafkaSink(Sink):
    """The dataset as JSON on a Kafka topic."""

    to: Literal["kafka"]
    """The kind of sink."""
    topic: Topic
    """The topic that is written."""
    key: ColumnName | tuple[ColumnName, ...] | None = None
    """The column whose text is the records' key, or several as a JSON object; without it they have none."""
    headers: tuple[ColumnName, ...] = ()
    """The columns whose texts are headers, too."""

    guarantee: ClassVar[Guarantee] = Guarantee.AT_LEAST_ONCE
    is_queryable: ClassVar[bool] = False

    def problems(self, kind: Kind) -> Iterator[tuple[str, str]]:
        """Yield columns that are no key or header, a topic that the feed reads, and a name that is taken."""
        types = types_of(kind.columns)
        keys = (self.key,) if isinstance(self.key, str) else self.key
        if keys is not None:
            yield from repeated("key", keys)
        for key, columns in (("key", keys or ()), ("headers", self.headers)):
            for column in columns:
                if column not in types:
                    yield key, f"{quoted(column)} is not a column of {kind.name}"
                elif types[column].is_nested:
                    yield key, f"{column} is a {types[column].name}, of which no text can be made"
        if self.topic == kind.feed.topic:
            yield "topic", "the feed would read what it writes"
        if _PROCESSED in types:
            yield "of", f"{kind.name} has a column {_PROCESSED}, and so has the JSON, the time of the batch; rename it"

    def reader_columns(self, kind: Kind) -> dict[str, tuple[Type, Origins]]:
        """Return the dataset's columns, and the time of the batch."""
        return super().reader_columns(kind) | {_PROCESSED: (scalar("timestamp"), ())}

    @property
    def topics(self) -> frozenset[str]:
        """The topic."""
        return frozenset({self.topic})

    def place(self, flow: Flow) -> str:  # noqa: ARG002 - of every flow
        """Return the topic."""
        return f"the topic {self.topic}"

    def qualified_name(self, flow: Flow, servers: Servers) -> tuple[str, str]:  # noqa: ARG002 - of every flow
        """Return the topic at the first of the brokers."""
        return servers.kafka.namespace, self.topic

    def compared(self, kind: Kind) -> None:  # noqa: ARG002 - of every dataset
        """Return None: what was sent is not read back."""
        return

    def writer(self, flow: Flow, rows: Rows | None, tools: Tools) -> Writer:
        """Return what sends the rows from inside of the tasks."""
        assert rows is not None  # noqa: S101 - it follows files
        return _Sender(flow, self, rows, tools.servers.kafka)


class _Sender:
    def __init__(self, flow: Flow, declared: KafkaSink, rows: Rows, kafka: KafkaConnection) -> None:
        self._flow = flow
        self._declared = declared
        self._rows = rows
        self._kafka = kafka

    def prepare(self, columns: StructType) -> None:
        """Do nothing: a topic holds what others have sent, too."""

    def write(self, batch: Batch, frame: DataFrame) -> Report:
        """Send the batch's rows; return when each is acknowledged, or refused by the topic."""
        flow, declared, read, time_ms = self._flow, self._declared, self._rows.read, batch.time_ms
        reach(flow.name, "before_staging", batch.id)
        delivery = Delivery(declared.topic, declared.headers, self._kafka)

        def task(splits: Batches) -> Batches:
            return delivery.send(messages(rows, declared, time_ms) for rows in read(splits))

        cores = frame.sparkSession.sparkContext.defaultParallelism
        refused = frame.coalesce(cores).mapInArrow(task, TOLD).toArrow()
        if refused.num_rows:
            _tell(flow, declared.topic, Broker(self._kafka, named_by="the sink's `topic`"), refused)
        reach(flow.name, "before_commit", batch.id)
        rows_in = batch.rows_in
        return Report(batch.id, rows_in, rows_in - refused.num_rows, counters={REFUSED: refused.num_rows})


def messages(rows: pa.RecordBatch, declared: KafkaSink, time_ms: int) -> pa.RecordBatch:
    """Rows -> key, value, where the record was (null of rows that are of no single record), and a column a header.

    The value is a JSON object of all columns, times in UTC with microseconds, and `processing_time`, the batch's own
    time, so that a replay is identical. Keys and headers are the texts of their columns; binary ones are as they are.
    A key of several columns is a JSON object of these, so that no two keys look alike.
    """
    processed = pa.repeat(pa.scalar(time_ms * 1000, pa.timestamp("us", "UTC")), rows.num_rows)
    places = {column: _place(rows, column) for column in ("partition", "offset")}
    columns = [
        _key(rows, declared.key),
        json_text.objects(rows.append_column(_PROCESSED, processed)).cast(pa.binary()),
        *places.values(),
        *(_bytes(rows[header]) for header in declared.headers),
    ]
    # one column may be the key and a header, or twice a header
    headers = [f"header_{number}" for number in range(len(declared.headers))]
    return pa.RecordBatch.from_arrays(columns, ["key", "value", *places, *headers])


def _key(rows: pa.RecordBatch, declared: str | tuple[str, ...] | None) -> pa.Array:
    if declared is None:
        return pa.nulls(rows.num_rows, pa.binary())
    if isinstance(declared, str):
        return _bytes(rows[declared])
    return json_text.objects(rows.select(declared)).cast(pa.binary())


def _bytes(column: pa.Array) -> pa.Array:
    return json_text.texts(column).cast(pa.binary())


def _place(rows: pa.RecordBatch, column: str) -> pa.Array:
    if column in rows.schema.names:
        return rows[column].cast(pa.int64())
    return pa.nulls(rows.num_rows, pa.int64())


def _tell(flow: Flow, topic: str, broker: Broker, refused: pa.Table) -> None:
    """Log which records were refused: the first ones each, the others by partition."""
    what = f"{flow.name}: topic {topic} refused"
    record = f"a record of topic {flow.feed.topic}" if flow.kind.has_places else f"a {flow.kind.name} record"
    limit = broker.largest_batch(topic)
    allowed = {"limit": min(limit, LARGEST_BYTES)} if limit else {}
    for one in refused.slice(0, _TOLD_RECORDS).to_pylist():
        known = {key: value for key, value in one.items() if value is not None}
        logs.warning(f"{what} {record}", **known, **allowed)
    more = refused.slice(_TOLD_RECORDS)
    places = more.group_by("partition").aggregate([("offset", "min"), ("offset", "max"), ("offset", "count")])
    for place in places.sort_by("partition").to_pylist():
        logs.warning(
            f"{what} more records of topic {flow.feed.topic}",
            partition=place["partition"],
            records=place["offset_count"],
            first=place["offset_min"],
            last=place["offset_max"],
        )
