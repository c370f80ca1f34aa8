"""The newest records of a topic, for a look at what is in it."""

from __future__ import annotations

from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from stream_app.errors import UnavailableError
from stream_app.kafka.broker import Broker
from stream_app.kafka.client import client_config
from stream_app.kafka.connection import KafkaConnection

_AT_ONCE = 500
_PATIENCE_SECONDS = 30.0
_CONFIG = {
    "group.id": "stream-app-sample",
    "enable.auto.commit": False,
    "enable.partition.eof": True,
    "auto.offset.reset": "earliest",
    "log_level": 0,
}


@dataclass(frozen=True, slots=True)
class Sampled:
    """A record of a topic."""

    value: bytes | None
    kafka_us: int
    """Its Kafka timestamp, in microseconds since the epoch."""


def newest(kafka: KafkaConnection, topic: str, most: int) -> list[Sampled]:
    """Return up to `most` of the newest records, as many of each partition; it commits nothing.

    Raises ConfigError where there is no such topic, and UnavailableError where the broker does not give them.
    """
    broker = Broker(kafka, named_by="--topic")
    asked = broker.topic(topic)
    ends, firsts = broker.stable_offsets(asked), broker.earliest_offsets(asked)
    share = -(-most // max(len(ends), 1))
    starts = {partition: max(firsts[partition], end - share) for partition, end in ends.items()}
    open_ends = {partition: end for partition, end in ends.items() if starts[partition] < end}
    consumer = Consumer({**client_config(kafka), **_CONFIG, "isolation.level": kafka.isolation_level})
    try:
        consumer.assign([TopicPartition(topic, partition, starts[partition]) for partition in open_ends])
        return _read(consumer, open_ends)[:most]
    except KafkaException as error:
        raise UnavailableError(f"topic {topic}: {error.args[0].str()}") from None
    finally:
        consumer.close()


def _read(consumer: Consumer, ends: dict[int, int]) -> list[Sampled]:
    """Return the records before those ends; what is behind the last of them may be a marker of a transaction."""
    found: list[Sampled] = []
    ends = dict(ends)
    while ends:
        messages = consumer.consume(1, _PATIENCE_SECONDS)
        messages += consumer.consume(_AT_ONCE, 0)  # it would wait for so many to the end of its time
        if not messages:
            raise UnavailableError(f"KAFKA_BOOTSTRAP_SERVERS: no record has come for {_PATIENCE_SECONDS:.0f} seconds")
        for message in messages:
            error, partition, offset = message.error(), message.partition(), message.offset()
            if error is not None and error.code() != KafkaError._PARTITION_EOF:
                raise KafkaException(error)
            if partition is None or offset is None or partition not in ends:
                continue
            if error is None and offset < ends[partition]:
                found.append(Sampled(message.value(), message.timestamp()[1] * 1000))
            if error is not None or offset >= ends[partition] - 1:
                del ends[partition]
    return found
