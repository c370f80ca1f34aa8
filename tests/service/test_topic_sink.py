"""Topic sinks and the size of records: what the topic takes goes through, what it refuses does not stop the others."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable

import pytest
from confluent_kafka import Producer

from tests.service.harness import Service
from tests.service.servers import PARTITIONS, KafkaBroker

FEED = """
topic = "{topic}"
[fields.id]
type = "string"
[fields.ts]
type = "timestamp"
[fields.text]
type = "string"
[event_time]
field = "ts"
lateness = "1 hour"
future_tolerance = "1 hour"
[dedupe]
key = "id"
within = "1 hour"
[topics.takes]
topic = "{topic}-takes"
key = "id"
[topics.refuses]
topic = "{topic}-refuses"
key = "id"
headers = ["id"]
"""
LARGE = {"max.message.bytes": "104857600"}
SMALL = {"max.message.bytes": "1040000"}
SIZES = [100, 1_048_300, 100, 1_000_000, 2_000_000, 8_000_000, *[300] * 500]


@pytest.fixture
def service(broker: KafkaBroker, new_service: Callable[..., Service]) -> Service:
    topic = f"tbig-{time.time_ns()}"
    for name, config in ((topic, LARGE), (f"{topic}-takes", LARGE), (f"{topic}-refuses", SMALL)):
        broker.create_topic(name, PARTITIONS, **config)
    service = new_service(broker, topic=topic)
    service.feed_name = "tbig"
    (service.feeds_path / "tbig.toml").write_text(FEED.format(topic=topic))
    return service


def records() -> list[bytes]:
    ts = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 60))
    empty = len(json.dumps({"id": "00000", "ts": ts, "text": ""}))
    return [
        json.dumps({"id": f"{number:05d}", "ts": ts, "text": "x" * (size - empty)}).encode()
        for number, size in enumerate(SIZES)
    ]


def test_large_records_go_where_they_are_taken(broker: KafkaBroker, service: Service) -> None:
    topic = service.feed.topic
    producer = Producer({"bootstrap.servers": broker.address, "message.max.bytes": 100_000_000, "log_level": 0})
    for value in records():
        producer.produce(topic, value, key=b"k")
    assert producer.flush(120) == 0
    log = service.drain()
    assert service.count("silver") == len(SIZES)

    taken = [json.loads(value) for value in broker.records(f"{topic}-takes").values()]
    sizes = {row["id"]: len(row["text"]) for row in taken}
    assert sizes == {row[0]: row[1] for row in service.query("SELECT id, length(text) FROM silver")}
    assert len(taken) == len(SIZES), "each once"
    left_out = {f"{number:05d}" for number in (1, 4, 5)}
    ids = [json.loads(value)["id"] for value in broker.records(f"{topic}-refuses").values()]
    assert sorted(ids) == sorted(sizes.keys() - left_out)

    told = re.findall(r"tbig.refuses: topic \S+ refused a record of topic (\S+) partition=(\d+) offset=(\d+)", log)
    stood = service.query(f'SELECT topic, partition, "offset" FROM silver WHERE id IN {tuple(sorted(left_out))}')
    assert sorted(told) == sorted((str(topic), str(partition), str(offset)) for topic, partition, offset in stood)
    assert re.search(r"bytes=80\d{5} cause=MSG_SIZE_TOO_LARGE limit=1040000", log), log
    (status,) = [row for row in json.loads(service.op("status", FORMAT="json")) if row["sink"] == "refuses"]
    assert (status["refused"], status["restarts"], status["last_error"]) == (3, 0, "")
    assert service.audit().wrong == []
