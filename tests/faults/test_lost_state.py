"""State on disk or in Kafka that is gone or another's: a refusal that says what to type, and what that mends."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable

import pytest
from confluent_kafka import TopicPartition

from tests.service.harness import Service, ended_by, produce, refusal, transaction, wait_for
from tests.service.servers import PARTITIONS, Database, KafkaBroker


@pytest.fixture
def used(service: Service, broker: KafkaBroker) -> Service:
    """A service that has read a thousand records, and is stopped."""
    now = time.time()
    broker.send(service.feed.topic, [transaction(i, now - 900 + i * 0.5) for i in range(1000)])
    service.drain()
    return service


@pytest.mark.proves("Files that people touch are noticed", "bronze", "silver", "windows")
def test_output_and_checkpoint_that_do_not_belong_together(used: Service) -> None:
    """A checkpoint gone, outputs gone, another's files: each in turn, each mended before the next."""
    silver, bronze, gold = (used.flows[layer] for layer in ("silver", "bronze", "gold"))
    kept = used.root.parent / "kept"
    shutil.copytree(used.root, kept)

    shutil.rmtree(bronze.layout.output)
    assert "make reset FEED=transactions SINK=bronze" in refusal(used)
    shutil.copytree(kept / "transactions" / "bronze", bronze.layout.output)

    for file in gold.files():
        file.path.unlink()
    assert "make reset FEED=transactions SINK=gold" in refusal(used)
    used.op("reset", SINK="gold", YES="1")
    used.drain()
    assert used.count("gold") > 0
    assert used.audit().wrong == []

    stranger = silver.layout.output / "silver_20200101_000000_0000009999.parquet"
    shutil.copy(silver.files()[0].path, stranger)
    assert stranger.name in refusal(used)
    stranger.unlink()

    shutil.rmtree(silver.checkpoint.path)
    assert "make reset FEED=transactions SINK=silver" in refusal(used)
    used.op("reset", SINK="silver", YES="1")
    used.drain()
    assert used.count("silver") == 1000
    assert used.audit().wrong == []


def test_a_topic_that_lost_records_and_then_was_made_again(used: Service, broker: KafkaBroker) -> None:
    """Offsets that expired before they were read, and a new topic of the same name."""
    now = time.time()
    broker.send(used.feed.topic, [transaction(1000 + i, now - 300 + i * 0.1) for i in range(300)])
    admin = broker.admin
    everything = [TopicPartition(used.feed.topic, p, -1) for p in range(PARTITIONS)]
    for future in admin.delete_records(everything).values():
        future.result()
    line = refusal(used)
    assert "no longer holds" in line
    assert "FAIL_ON_DATA_LOSS=false" in line
    broker.send(used.feed.topic, [transaction(2000 + i, now - 200 + i * 0.1) for i in range(300)])
    used.drain(FAIL_ON_DATA_LOSS="false")
    assert used.count("silver") == 1300
    assert used.audit().wrong == []

    topic = used.feed.topic
    _make_again(broker, topic)
    line = refusal(used)
    assert "deleted and created again" in line
    assert "make reset FEED=transactions SINK=bronze" in line
    used.op("reset", YES="1")
    broker.send(topic, [transaction(3000 + i, now - 100 + i * 0.1) for i in range(30)])
    used.start()
    wait_for(lambda: used.count("raw_csv") == 30, "the records of the new topic")

    # once more, under the running service
    read = used.contents("bronze")
    _make_again(broker, topic)
    broker.send(topic, [transaction(4000 + i, now - 100 + i * 0.1) for i in range(60)])
    line = ended_by(used.end(expected=2))
    assert "deleted and created again" in line or "there is no topic" in line  # for a moment there was none
    assert used.contents("bronze") == read


def _make_again(broker: KafkaBroker, topic: str) -> None:
    admin = broker.admin
    admin.delete_topics([topic])[topic].result()
    wait_for(lambda: topic not in admin.list_topics(timeout=60).topics, "the topic to go")
    broker.create_topic(topic)


def test_a_database_that_lost_its_tables(
    broker: KafkaBroker, database: Database, new_service: Callable[..., Service]
) -> None:
    """It is refused, not filled with what comes from now on; a reset fills it from silver."""
    service = new_service(broker, feed="user_activity", DATABASE_URL=database.url)
    produce(service, COUNT="5000", SEED="7", MSGS_PER_SEC="0", BACKFILL="40 minutes")
    service.drain(MAX_OFFSETS_PER_TRIGGER="2000")
    database.change("DROP TABLE stream_app_batches, page_view_counts, active_users, user_sessions")
    assert "lacks batches of user_activity.postgres_page_view_counts" in refusal(service)
    tables = [f"postgres_{table}" for table in ("page_view_counts", "active_users", "user_sessions")]
    for table in tables:
        assert table in service.op("reset", SINK=table, YES="1")
    service.drain()
    report = service.audit()
    assert report.wrong == []
    assert all(report.counts[table] for table in tables)
