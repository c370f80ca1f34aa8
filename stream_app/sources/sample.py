"""The newest records of a topic, for a look at what is in it."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

from confluent_kafka import Message

from stream_app.flows.unread import Unread
from stream_app.kafka.broker import Broker
from stream_app.kafka.client import client_config
from stream_app.kafka.connection import KafkaConnection
from stream_app.sources.messages import OffsetRange
from stream_app.sources.topic_partition import PartitionReader

_GROUP = "stream-app-sample"


@dataclass(frozen=True, slots=True)
class Sampled:
    """A record of a topic."""

    value: bytes | None
    kafka_us: int
    """Its Kafka timestamp, in microseconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What was found of a topic."""

    records: list[Sampled]
    unread: list[Unread]
    """What was stepped over, since nobody can read it."""


def newest(kafka: KafkaConnection, topic: str, most: int) -> Sample:
    """Return up to `most` of the newest records, as many of each partition; it commits nothing.

    Raises ConfigError where there is no such topic, and UnavailableError where the broker does not give them.
    """
    broker = Broker(kafka, named_by="--topic")
    asked = broker.topic(topic)
    ends, firsts = broker.stable_offsets(asked), broker.earliest_offsets(asked)
    share = -(-most // max(len(ends), 1))
    found = Sample([], [])
    config: dict[str, object] = {
        **client_config(kafka),
        "group.id": _GROUP,
        "isolation.level": kafka.isolation_level,
    }
    # a log that becomes another one meanwhile has newest records, too
    with closing(PartitionReader(topic, config, found.unread.append, lambda _part, _at: None)) as reader:
        for partition, end in sorted(ends.items()):
            for messages in reader.read(OffsetRange(partition, max(firsts[partition], end - share), end)):
                found.records.extend(map(_sampled, messages))
    del found.records[most:]
    return found


def _sampled(message: Message) -> Sampled:
    return Sampled(message.value(), message.timestamp()[1] * 1000)
