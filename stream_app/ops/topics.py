"""Create topics where they are missing; one that exists is left as it is."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from stream_app.errors import StreamAppError
from stream_app.kafka.broker import PARTITIONS, create_missing
from stream_app.kafka.client import check, client_config
from stream_app.kafka.connection import KafkaConnection

_PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class TopicState:
    """A topic that is there now."""

    name: str
    partitions: int | None
    """Of a topic that was created; None of one that was there."""


@dataclass(frozen=True)
class TopicsReport:
    """The topics that were asked for, by name."""

    topics: tuple[TopicState, ...]


def topics(kafka: KafkaConnection, names: Iterable[str]) -> TopicsReport:
    """Create them, once a broker answers. Raises StreamAppError where none does in time, or refuses."""
    wanted = sorted({*names})
    check(kafka)
    admin = AdminClient({"log_level": 0, **client_config(kafka)})  # 0: no line for each try to connect
    created = create_missing(admin, _existing(admin, kafka.bootstrap_servers), wanted)
    return TopicsReport(tuple(TopicState(name, PARTITIONS if name in created else None) for name in wanted))


def _existing(admin: AdminClient, servers: str) -> set[str]:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return set(admin.list_topics(timeout=2).topics)
        except KafkaException as error:
            if time.monotonic() > deadline:
                problem = f"KAFKA_BOOTSTRAP_SERVERS: no answer from {servers} ({error.args[0].str()})"
                raise StreamAppError(problem) from None
