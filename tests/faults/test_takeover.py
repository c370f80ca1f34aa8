"""Outputs that commit c6c8daf wrote are taken over without a reset (tests/fixtures/make_outputs.py made them)."""

from __future__ import annotations

import json
import tarfile
from collections import Counter
from pathlib import Path

import psycopg
import pytest

from stream_app.kafka.broker import Broker
from tests.fixtures.make_outputs import (
    ENRICHED,
    FEEDS,
    TOPICS,
    create_topics,
    feeds,
    held,
    line,
    record,
    send,
    transactions,
    user_activity,
)
from tests.service.harness import Service, jvm_options
from tests.service.servers import Database, KafkaBroker

ARCHIVE = Path(__file__).parents[1] / "fixtures" / "outputs-c6c8daf.tar.xz"
MORE = 60
TABLES = ("page_view_counts", "active_users", "user_sessions")
Rows = Counter[tuple[object, ...]]


def restore(broker: KafkaBroker, folder: Path) -> list[str]:
    """Make the topics hold what they held, at the same offsets; return the lines of the enriched one."""
    create_topics(broker)
    for topic in (*TOPICS.values(), ENRICHED):
        lines = (folder / "records" / f"{topic}.jsonl").read_text().splitlines()
        partitions, records = zip(*map(record, lines), strict=True)
        send(broker, topic, list(records), list(partitions))
        # who reads the topic for the first time sees what was there: keys, values, offsets, times, headers
        assert [line(message) for message in held(broker, topic)] == lines
    return lines


def rows(service: Service) -> dict[str, Rows]:
    """The rows of each output, and of what came too late for it."""
    in_files = [flow for flow in service.flows.values() if flow.form]
    views, late = [flow.sink for flow in in_files], [flow.layout.late_name for flow in in_files if flow.stateful]
    return {view: Counter(map(_hashable, service.query(f"SELECT * FROM {view}"))) for view in (*views, *late)}


def _hashable(row: tuple[object, ...]) -> tuple[object, ...]:
    return tuple(str(value) if isinstance(value, list) else value for value in row)


def final_rows(database: Database) -> dict[str, Rows]:
    with psycopg.connect(database.url) as connection:
        found = {}
        for table in TABLES:
            names = psycopg.sql.SQL("SELECT * FROM {} WHERE final").format(psycopg.sql.Identifier(table))
            described = connection.execute(names)
            own = [i for i, column in enumerate(described.description or []) if not column.name.startswith("_")]
            found[table] = Counter(tuple(row[i] for i in own) for row in described.fetchall())
        return found


@pytest.mark.proves("An upgrade keeps what is on your disks")
def test_outputs_that_commit_c6c8daf_wrote_are_taken_over_without_a_reset(
    broker: KafkaBroker, database: Database, class_archive: Path, tmp_path: Path
) -> None:
    with tarfile.open(ARCHIVE) as packed:
        packed.extractall(tmp_path / "kept", filter="data")
    sent = restore(broker, tmp_path / "kept")
    database.change((tmp_path / "kept" / "tables.sql").read_text())
    environment = jvm_options(tmp_path, f"-XX:SharedArchiveFile={class_archive}")
    environment |= {"DATABASE_URL": database.url, "FEEDS": ",".join(FEEDS), "MAX_FILES_PER_SINK": "3"}
    declared, output = feeds(tmp_path / "feeds"), tmp_path / "kept" / "output"
    services = [Service(output, declared, broker.address, environment, feed) for feed in FEEDS]
    for service in services:
        owner = output / service.feed_name / "bronze" / "_owner.json"
        of_this_broker = {"topic_id": Broker(service.settings.kafka).topic(service.feed.topic).id}
        owner.write_text(json.dumps(json.loads(owner.read_text()) | of_this_broker))
    before, tables = [rows(service) for service in services], final_rows(database)
    for made in (transactions, user_activity):
        send(broker, TOPICS[made.__name__], list(made(len(before[0]["bronze"]), MORE)))

    services[0].drain()

    for service, old in zip(services, before, strict=True):
        service.op("audit", FEED=service.feed_name)
        assert service.audit().wrong == []
        now = rows(service)
        for view, kept in old.items():
            assert kept <= now[view], view
        added = {view: now[view].total() - old[view].total() for view in now}
        assert added["bronze"] == MORE
        assert added["silver"] + added["quarantine"] <= MORE
        assert added["silver"] == added["raw_csv"] > MORE / 2
        assert added.get("lake", added["silver"]) == added["silver"]
        assert all(now[view].total() > old[view].total() for view in ("quarantine", *service.feed.windows))
    for table, kept in tables.items():
        assert kept < final_rows(database)[table]
    lines = list(map(line, held(broker, ENRICHED)))
    assert Counter(sent) < Counter(lines)
    assert len(lines) == services[1].count("silver")
