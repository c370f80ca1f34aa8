"""Records of the feed user_activity, and what a consumer of its enriched topic sees."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from typing import Any

from confluent_kafka import Consumer

from stream_app.sinks.protocol import sink_of
from tests.service.harness import Service
from tests.service.servers import PATIENCE_SECONDS, Database, KafkaBroker

DELTA_TABLES = """
[sinks.activity_table]
of = "silver"
to = "delta"
partition_by = "date(event_time)"

[sinks.views_now]
of = "page_view_counts"
to = "delta"
fresh = true

[sinks.sessions_now]
of = "user_sessions"
to = "delta"
fresh = true

[totals.by_user]
keys = ["user_id"]
measures = { events = "count", last = "max(event_time)" }

[totals.liveliest]
keys = ["country"]
measures = { events = "count" }
top = { by = "events", most = 2 }

[sinks.users_now]
of = "by_user"
to = "delta"
partition_by = "user_id"

[sinks.liveliest_now]
of = "liveliest"
to = "delta"
"""
"""Sinks for the feed file beside those that it has."""


def with_delta_tables(new_service: Callable[..., Service], broker: KafkaBroker, database: Database) -> Service:
    """A service of user_activity whose feed file has Delta tables, too."""
    service = new_service(broker, feed="user_activity", DATABASE_URL=database.url)
    with (service.feeds_path / "user_activity.toml").open("a") as file:
        file.write(DELTA_TABLES)
    return service


def event(number: int, at: float, user: int, session: str, event_type: str, page: int | str) -> tuple[str, bytes, int]:
    """A valid record that happened at `at` (seconds since the epoch), as KafkaBroker.send takes it."""
    record = {
        "event_id": str(uuid.UUID(str(number).zfill(32))),
        "user_id": f"u{user}",
        "event_type": event_type,
        "page_url": f"https://shop.example.com/{page}",
        "session_id": session,
        "event_time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at)),
        "device": "mobile",
        "country": "DE",
    }
    return str(record["user_id"]), json.dumps(record).encode(), int(at * 1000)


def topic_of(service: Service, sink: str) -> str:
    """The topic that a sink writes to."""
    (topic,) = sink_of(service.flows[sink]).topics
    return topic


def check_topic(service: Service, broker: KafkaBroker) -> None:
    """A consumer that drops repeats by the header sees each row of silver once."""
    seen = _consumed(broker, topic_of(service, "enriched_activity"), service.count("silver"))
    assert seen.keys() == {str(row[0]) for row in service.query("SELECT event_id FROM silver")}
    one = next(iter(seen.values()))
    assert one.keys() == {*service.feed.fields, "kafka_ts", "topic", "partition", "offset", "processing_time"}


def _consumed(broker: KafkaBroker, topic: str, count: int) -> dict[str, dict[str, Any]]:
    config = {"bootstrap.servers": broker.address, "group.id": "test", "auto.offset.reset": "earliest"}
    consumer = Consumer(config)
    consumer.subscribe([topic])
    seen: dict[str, dict[str, Any]] = {}
    try:
        while len(seen) < count:
            message = consumer.poll(PATIENCE_SECONDS)
            assert message is not None, f"{len(seen)} of {count} have come"
            (header,) = message.headers() or []
            value = json.loads(message.value() or b"")
            assert header == ("event_id", value["event_id"].encode())
            seen[value["event_id"]] = value
    finally:
        consumer.close()
    return seen
