"""A feed whose names are words of SQL, of Spark and of our own, as a user runs it: every sink and every command."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer

from stream_app.ops.sql import name
from tests.helpers import START_MS, UNUSUAL
from tests.hostile import elsewhere, record
from tests.service.harness import Service, jvm_options
from tests.service.servers import Database, KafkaBroker


@pytest.fixture
def service(broker: KafkaBroker, database: Database, tmp_path: Path) -> Iterator[Service]:
    """A service on topics of its own, with its records, that has read them all."""
    topic = f"names-{uuid.uuid4().hex[:8]}"
    for created in (topic, f"{topic}-out"):
        broker.create_topic(created)
    (tmp_path / "feeds").mkdir()
    (tmp_path / "feeds" / "order.toml").write_text(elsewhere(topic))
    environment = jvm_options(tmp_path / "run") | {"DATABASE_URL": database.url}
    service = Service(tmp_path / "run" / UNUSUAL, tmp_path / "feeds", broker.address, environment, "order")
    records = [record(0, 1), record(1, 2, **{"a.b": "bye"}), record(1, 2), record(2, 5, **{"[/x]": 7}), record(3, 900)]
    broker.send(topic, [("k", value, START_MS) for value in records])
    service.drain()
    yield service
    service.kill()


def test_every_sink_and_every_command(service: Service, database: Database, broker: KafkaBroker) -> None:
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
        stored = database.query(f'SELECT {listed} FROM "{table}" WHERE final ORDER BY {opened}, {listed}')
        sink = {"excluded": "from", "incoming": "window"}.get(table, table)
        assert stored == service.query(f'SELECT {listed} FROM "order".{name(sink)} ORDER BY {opened}, {listed}'), table
        assert database.query(f'SELECT count(*) FROM "{table}" WHERE NOT final') != [(0,)]
        assert "count" in service.op("query", SQL=f'SELECT count(*) FROM "order".postgres_{table}')

    sent = consumed(broker, service.feed.topics["select"].topic, 3)
    assert {each["user"] for each in sent} == {"u0", "u1", "u3"}
    assert all(each.keys() == {*service.feed.fields, *COORDINATES} for each in sent)

    assert "order.user: 1 rows" in service.op("show")
    assert "order.postgres_excluded" in service.op("status")
    assert "bad_type:[/x]" in service.op("replay", REASON="bad_type:[/x]", DRY_RUN="1")
    assert "order.from" in service.op("reset", SINK="from", YES="1")
    service.drain()
    assert service.query('SELECT "window", "end", start FROM "from" ORDER BY ALL') == [("bye", 1, 3), ("w", 1, 3)]
    assert service.audit().wrong == []
    assert "WRONG" not in service.op("audit")


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
