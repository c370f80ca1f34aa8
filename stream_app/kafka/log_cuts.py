"""Where a partition's log was cut, after what somebody has read: librdkafka finds out, and has a text for it alone."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

from confluent_kafka import Consumer, KafkaError, TopicPartition

from stream_app.kafka.client import client_config
from stream_app.kafka.connection import KafkaConnection

_TRUNCATED = re.compile(r"log truncation detected.* broker end offset is (-?\d+)")
_CHECK_SECONDS = 10.0


def cut_at(error: KafkaError) -> int | None:
    """Return where the log became another one, if that is what the error of a partition says."""
    found = _TRUNCATED.search(error.str())
    return max(0, int(found[1])) if found else None


def log_cuts(kafka: KafkaConnection, group: str, read: Sequence[TopicPartition]) -> dict[int, int]:
    """Return where the logs of partitions of one topic were cut before what was read of them.

    Each place has the leader epoch of the record before it. A partition that does not answer is left out.
    """
    config = {"enable.auto.commit": False, "enable.partition.eof": True, "auto.offset.reset": "error", "log_level": 0}
    asking = {"group.id": group, "fetch.message.max.bytes": 1}
    consumer = Consumer({**client_config(kafka), **config, **asking})
    found: dict[int, int] = {}
    try:
        consumer.assign([*read])
        waiting, deadline = {place.partition for place in read}, time.monotonic() + _CHECK_SECONDS
        while waiting and time.monotonic() < deadline:
            message = consumer.poll(0.1)
            if message is None or message.topic() is None or (partition := message.partition()) is None:
                continue
            waiting.discard(partition)
            error = message.error()
            if error is not None and (at := cut_at(error)) is not None:
                found[partition] = at
    finally:
        consumer.close()
    return found
