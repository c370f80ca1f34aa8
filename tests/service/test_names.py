"""A feed whose names are words of SQL, of Spark and of our own, as a user runs it: every sink and every command."""

from __future__ import annotations

import json

import pytest
from confluent_kafka import Consumer

from stream_app.feeds.sql import name
from tests.service.activity import topic_of
from tests.service.drained import Drained
from tests.service.harness import Service
from tests.service.servers import KafkaBroker


@pytest.fixture(scope="module")
def service(drained: Drained) -> Service:
    return drained["order"]


def test_every_layer_and_every_table(service: Service, drained: Drained) -> None:
    assert len(service.query("FROM silver")) == 3
    assert service.query('SELECT "window", "end", start FROM "from" ORDER BY ALL') == [("bye", 1, 3), ("w", 1, 3)]
    assert service.query('SELECT count(*) FROM "order"."user"') == [(1,)]
    assert service.query('SELECT count(*) FROM "order"."table"') == [(3,)]

    tables = {
        "excluded": ("window", "end", "key"),
        "incoming": ("window", "last", "order"),
        "user": ("first", "events"),
    }
    for table, columns in tables.items():
        listed = ", ".join(map(name, columns))
        opened = "session_start" if table == "user" else "window_start"
        stored = drained.database.query(f'SELECT {listed} FROM "{table}" WHERE final ORDER BY {opened}, {listed}')
        sink = {"excluded": "from", "incoming": "window"}.get(table, table)
        assert stored == service.query(f'SELECT {listed} FROM "order".{name(sink)} ORDER BY {opened}, {listed}'), table
        assert drained.database.query(f'SELECT count(*) FROM "{table}" WHERE NOT final') != [(0,)]


def test_what_is_sent_to_another_topic(service: Service, broker: KafkaBroker) -> None:
    sent = consumed(broker, topic_of(service, "select"), 3)
    assert {each["user"] for each in sent} == {"u0", "u1", "u3"}
    assert all(each.keys() == {*service.feed.fields, *COORDINATES} for each in sent)


def test_a_feed_with_names_of_sql_goes_through_every_command(service: Service) -> None:
    """A reset is tried in tests/faults/test_reset.py."""
    for table in ("excluded", "incoming", "user"):
        assert "count" in service.op("query", SQL=f'SELECT count(*) FROM "order".postgres_{table}')
    assert "order.user: 1 rows" in service.op("show", FEED="order")
    assert "order.postgres_excluded" in service.op("status", FEED="order")
    assert "bad_type:[/x]" in service.op("replay", FEED="order", REASON="bad_type:[/x]", DRY_RUN="1")
    assert service.audit().wrong == []
    assert "WRONG" not in service.op("audit", FEED="order")


COORDINATES = ("kafka_ts", "topic", "partition", "offset", "processing_time")


def consumed(broker: KafkaBroker, topic: str, count: int) -> list[dict[str, object]]:
    config = {"bootstrap.servers": broker.address, "group.id": topic, "auto.offset.reset": "earliest"}
    consumer = Consumer(config)
    consumer.subscribe([topic])
    found: list[dict[str, object]] = []
    try:
        while len(found) < count:
            message = consumer.poll(60)
            assert message is not None, f"{len(found)} of {count} have come"
            assert [*dict(message.headers() or {})] == ["first", "key"]
            found.append(json.loads(message.value() or b""))
    finally:
        consumer.close()
    return found
