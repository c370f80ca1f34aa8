"""Replay and reset, whatever they are told, and a death on the way: what is read again is what was there."""

from __future__ import annotations

import signal
import time
import uuid
from collections.abc import Callable

from tests.helpers import START_MS
from tests.hostile import elsewhere, record
from tests.service.harness import Service, transaction
from tests.service.servers import Database, KafkaBroker
from tests.service.watch import send


def test_replay_takes_what_passes_now_once(service: Service, broker: KafkaBroker) -> None:
    now = time.time()
    records: list[tuple[str, bytes | None, int]] = []
    for i in range(300):
        changed: dict[str, object] = {"currency": "XTS"} if i % 3 == 0 else {}
        key, value, at = transaction(i, now - 900 + i, **changed)
        records.append((key, value, at + (600_000 if i % 3 == 1 else 0)))  # every third is late
    broker.send(service.feed.topic, records)
    service.drain()
    assert (service.count("silver"), service.count("quarantine")) == (100, 200)
    feed_file = service.feeds_path / "transactions.toml"
    feed_file.write_text(feed_file.read_text().replace('"ZAR"]', '"ZAR", "XTS"]'))
    assert "100" in service.op("replay", DRY_RUN="1")
    assert not service.flows["silver"].layout.replay.exists()
    assert "100 records" in service.op("replay", REASON="not_allowed:currency")
    assert "100 records" in service.op("replay", ALLOW="late")
    assert "records" not in service.op("replay", ALLOW="late"), "nothing is taken twice"
    service.start(TRIGGER_INTERVAL="available-now", FAIL_POINT="transactions.silver:renamed")
    service.end(-signal.SIGKILL)
    service.drain()
    assert service.count("silver") == service.count("raw_csv") == 300
    assert service.query("SELECT count(DISTINCT txn_id) FROM silver") == [(300,)]
    assert service.audit().wrong == []
    service.drain()
    assert service.count("silver") == 300

    # what quarantine holds by the old rule goes with silver, or it would be in both
    preview = service.op("reset", SINK="silver", YES="1")
    assert "transactions.quarantine" in preview
    assert "replayed records" in preview
    service.drain()
    assert (service.count("silver"), service.count("quarantine")) == (200, 100)
    assert service.audit().wrong == []


def test_reset_rebuilds_from_bronze_and_bronze_from_where_it_is_told(service: Service, broker: KafkaBroker) -> None:
    middle = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 50))
    send(broker, service, 0, 1000)
    service.drain(MAX_OFFSETS_PER_TRIGGER="100", MAX_FILES_PER_SINK="4")
    before = {name: service.contents(name) for name in ("silver", "gold", "raw_csv")}
    assert "there is no terminal" in service.op("reset", expected=2, SINK="silver")
    preview = service.op("reset", SINK="silver", YES="1")
    assert all(f"transactions.{name}" in preview for name in before)
    assert "transactions.bronze," in preview
    assert service.count("silver") == service.count("gold") == 0
    assert service.count("bronze") == 1000
    service.drain()
    assert {name: service.contents(name) for name in before} == before

    assert "--to: is for bronze" in service.op("reset", expected=2, SINK="gold", TO="latest", YES="1")
    assert "partition:offset 0:" in service.op("reset", TO=middle, YES="1")
    service.drain()
    assert 0 < service.count("bronze") < 1000
    service.op("reset", TO="latest", YES="1")
    service.drain()
    assert service.count("bronze") == 0
    send(broker, service, 1000, 10)
    service.drain()
    assert service.count("silver") == 10
    assert service.audit().wrong == []


def test_a_feed_of_hostile_names_is_reset(
    broker: KafkaBroker, database: Database, new_service: Callable[..., Service]
) -> None:
    topic = f"names-{uuid.uuid4().hex[:8]}"
    for created in (topic, f"{topic}-out"):
        broker.create_topic(created)
    service = new_service(broker, topic=topic, DATABASE_URL=database.url)
    service.feed_name = "order"
    (service.feeds_path / "order.toml").write_text(elsewhere(topic))
    records = [record(0, 1), record(1, 2, **{"a.b": "bye"}), record(2, 900)]
    broker.send(topic, [("k", value, START_MS) for value in records])
    service.drain()
    assert "order.from" in service.op("reset", SINK="from", YES="1")
    service.drain()
    assert service.query('SELECT "window", "end", start FROM "from" ORDER BY ALL') == [("bye", 1, 3), ("w", 1, 3)]
    assert service.audit().wrong == []
