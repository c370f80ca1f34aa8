"""Records sent to a topic from inside of Spark's tasks; what the topic refuses is told, record by record.

Spark's own writer fails its batch with the first record that is too large, and would for ever. librdkafka tells of each
record what became of it, and takes larger ones.

An idempotent producer sends a task's records in order, none of them twice. The records carry the time of sending. With
older times, a broker that restarts forgets the producer and takes a batch without the one before it; librdkafka then
reports both as delivered.

Kafka refuses a producer's batch as a whole. So what it refuses is sent again, each record in a batch of its own, and so
is the rest of the task.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import pyarrow as pa
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from stream_app.errors import StreamAppError, UnavailableError
from stream_app.kafka.client import client_config
from stream_app.kafka.connection import KafkaConnection
from stream_app.kafka.refusal import refusal
from stream_app.sources.split_rows import Batches

LARGEST_BYTES = 104_857_600 - 2_048
"""What fits into the largest request that a broker takes by default (socket.request.max.bytes), beside a topic's name.

A broker answers nothing to a larger one but closes the connection, so it is not sent.
"""
# Hardly a topic refuses a batch of this size whose records it takes; more saves no CPU. A larger record is sent alone.
_BATCH_BYTES = 65_536
_CONFIG = {
    "enable.idempotence": True,  # with acks=all
    "partitioner": "murmur2_random",  # as Java's clients and Spark's writer: a key keeps its partition
    "message.max.bytes": LARGEST_BYTES,
    "batch.size": _BATCH_BYTES,
    "linger.ms": 20,
    "message.timeout.ms": 120_000,
    # What waits to be sent; the first must be above the largest record.
    "queue.buffering.max.kbytes": 131_072,
    "queue.buffering.max.messages": 20_000,
    "delivery.report.only.error": True,
    "log_level": 0,
}
_POLLED_RECORDS = 1_000
_REFUSALS = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError.INVALID_RECORD,
        KafkaError.POLICY_VIOLATION,
    }
)
"""A fault of the record, which the topic would refuse at each try."""
_AWAY = frozenset({KafkaError._MSG_TIMED_OUT, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN})

TOLD = "partition int, offset long, bytes long, cause string"
"""What a task tells of each record that the topic refused: where it stood in the feed's own topic."""
_TOLD = pa.schema([("partition", pa.int32()), ("offset", pa.int64()), ("bytes", pa.int64()), ("cause", pa.string())])


class _Record(NamedTuple):
    key: bytes | None
    value: bytes
    partition: int | None
    offset: int | None
    headers: list[tuple[str, str | bytes | None]]


class Delivery:
    """Sends to one topic."""

    def __init__(self, topic: str, headers: Sequence[str], kafka: KafkaConnection) -> None:
        self._topic = topic
        self._headers = headers
        self._kafka = kafka

    def send(self, batches: Batches) -> Batches:
        """Key, value, partition and offset of the source, a column a header -> TOLD, once all are sent or refused.

        Raises UnavailableError where no broker answers, StreamAppError where it does not let us write.
        """
        outbox = _Outbox(self._topic, self._kafka)
        for batch in batches:
            for number, record in enumerate(_records(batch, self._headers)):
                outbox.put(record)
                if number % _POLLED_RECORDS == 0:
                    outbox.look()
        yield outbox.close()


class _Outbox:
    """What a task has sent and not heard of yet."""

    def __init__(self, topic: str, kafka: KafkaConnection) -> None:
        self._topic = topic
        self._kafka = kafka
        self._is_alone = False
        """Whether each record is a batch of its own."""
        self._refused: list[dict[str, object]] = []
        self._again: list[_Record] = []
        self._failure: KafkaError | None = None
        self._connection: KafkaError | None = None
        self._refusal: StreamAppError | None = None
        self._producer = self._made()

    def put(self, record: _Record) -> None:
        """Hand a record over to the producer, once that has room for it."""
        undelivered = partial(self._undelivered, record)
        while True:
            try:
                return self._producer.produce(
                    self._topic, record.value, record.key, headers=record.headers, on_delivery=undelivered
                )
            except BufferError:
                self.look(0.1)
            except KafkaException as error:  # before it was sent
                self._undelivered(record, error.args[0], None)
                return self.look()

    def look(self, seconds: float = 0) -> None:
        """Hear what became of records. Raises StreamAppError if one failed by no fault of its own."""
        self._producer.poll(seconds)
        self._check()
        if self._again:
            self._flush()
            self._send_again()

    def close(self) -> pa.RecordBatch:
        """Wait for all; what was refused."""
        self._flush()
        if self._again:
            self._send_again()
            self._flush()
        return pa.RecordBatch.from_pylist(self._refused, _TOLD)

    def _flush(self) -> None:
        while self._producer.flush(1):
            self._check()
        self._check()

    def _send_again(self) -> None:
        self._is_alone, self._producer = True, self._made({"batch.num.messages": 1})
        again, self._again = self._again, []
        for record in again:
            self.put(record)

    def _made(self, more: dict[str, object] | None = None) -> Producer:
        return Producer({**_CONFIG, **client_config(self._kafka), **(more or {}), "error_cb": self._heard})

    def _heard(self, error: KafkaError) -> None:
        self._connection = error
        self._refusal = refusal(self._kafka, error) or self._refusal

    def _undelivered(self, record: _Record, error: KafkaError, _message: Message | None) -> None:
        size = len(record.value)
        if error.code() not in _REFUSALS:
            self._failure = self._failure or error
        elif self._is_alone or size > _BATCH_BYTES:
            place = {"partition": record.partition, "offset": record.offset}
            self._refused.append({**place, "bytes": size, "cause": error.name()})
        else:
            self._again.append(record)

    def _check(self) -> None:
        if self._refusal:
            raise type(self._refusal)(f"topic {self._topic}: {self._refusal}")
        if self._failure:
            heard = f" ({self._connection.str()})" if self._connection else ""
            kind = UnavailableError if self._failure.code() in _AWAY or self._failure.retriable() else StreamAppError
            raise kind(f"topic {self._topic}: {self._failure.str()}{heard}")


def _records(batch: pa.RecordBatch, headers: Sequence[str]) -> Iterator[_Record]:
    # a third of to_pylist's CPU, but numbers that are not there would be NaN
    columns = [
        column.to_pylist()
        if pa.types.is_integer(column.type) and column.null_count
        else column.to_numpy(zero_copy_only=False).tolist()
        for column in batch.columns
    ]
    for key, value, partition, offset, *values in zip(*columns, strict=True):
        yield _Record(key, value, partition, offset, list(zip(headers, values, strict=True)))
