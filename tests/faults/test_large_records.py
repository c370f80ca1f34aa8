"""Records as large as a topic takes them go through every layer and sink, the audit and a replay."""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from local import broker as local_broker
from stream_app.ops.status import status
from tests.ports import free_port
from tests.service.harness import Service, failures
from tests.service.servers import PARTITIONS, Database, KafkaBroker

FEED = """
topic = "large"
[fields.id]
type = "string"
[fields.ts]
type = "timestamp"
[fields.user]
type = "string"
[fields.note]
type = "string"
length = [0, 97_000_000]
[event_time]
field = "ts"
lateness = "1 hour"
future_tolerance = "1 minute"
[dedupe]
key = "id"
within = "1 hour"
[windows.by_user]
key = "user"
window = "1 minute"
watermark = "2 minutes"
measures = { rows = "count" }
[sessions.visits]
keys = ["user"]
ends = { id = "end" }
gap = "1 minute"
watermark = "2 minutes"
[sinks.raw_csv]
of = "silver"
to = "csv"
[sinks.lake]
of = "silver"
to = "lake"
[sinks.copy]
of = "silver"
to = "kafka"
topic = "copy"
key = "id"
[sinks.postgres_by_user]
of = "by_user"
to = "postgres"
table = "by_user"
[sinks.postgres_visits]
of = "visits"
to = "postgres"
table = "visits"
"""
MEGABYTE = 1_000_000
TAKEN = 110 * MEGABYTE
SIZES = [5, 30, 60, 96]
REFUSED = 99
MIRRORS = ("silver", "raw_csv", "lake")


@pytest.fixture
def large_broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KafkaBroker]:
    """A broker of the test's own, as its topics hold a GB; with room for several records of 99 MB at once."""
    monkeypatch.setattr(local_broker, "_JVM", ("-Xmx2g", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"))
    kafka = KafkaBroker(tmp_path / "broker", free_port())
    kafka.start()
    for topic in ("large", "copy"):
        kafka.create_topic(topic, PARTITIONS, **{"max.message.bytes": str(TAKEN)})
    yield kafka
    kafka.stop()


def record(name: str, at: float, size: int = 0) -> tuple[str, bytes | None, int]:
    """A record whose note has that many MB, which do not compress, and what JSON and CSV must quote."""
    noise = base64.b64encode(os.urandom(size * MEGABYTE * 3 // 4)).decode()
    note = '",\r\n"' + noise[5:] if size else ""
    event_ts = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
    return "k", json.dumps({"id": name, "ts": event_ts, "user": "u", "note": note}).encode(), int(time.time() * 1000)


@pytest.mark.proves("Large records go through", "bronze", "quarantine", "silver", "windows", "sessions", "csv", "lake")
def test_large_records_go_through(
    new_service: Callable[..., Service], large_broker: KafkaBroker, database: Database
) -> None:
    service = new_service(large_broker, topic="large", DATABASE_URL=database.url, SPARK_DRIVER_MEMORY="4g")
    service.feed_name = "large"
    feed = service.feeds_path / "large.toml"
    feed.write_text(FEED)
    limits = {"message.max.bytes": TAKEN, "queue.buffering.max.kbytes": 1_000_000}
    now = time.time()
    for size in (*SIZES, REFUSED):
        large_broker.send("large", [record(f"on-time-{size}", now - 60, size)], **limits)
        large_broker.send("large", [("k", b"\xff" * (size * MEGABYTE), int(now * 1000))], **limits)
    large_broker.send("large", [record(f"small-{i}", now - 60) for i in range(100)])
    service.drain()
    check(service, rows=104, quarantined=6, sizes=SIZES)

    feed.write_text(FEED.replace("97_000_000", "99_000_000"))
    assert "1 records are in the ledger" in service.op("replay")
    for size in (30, 96):
        large_broker.send("large", [record(f"late-{size}", now - 600, size)], **limits)
    service.drain(MAX_FILES_PER_SINK="1")
    sizes = sorted([*SIZES, REFUSED, 30, 96])
    check(service, rows=107, quarantined=6, sizes=sizes)
    for late in ("late_by_user", "late_visits"):
        assert service.query(f"SELECT length(note) FROM {late} ORDER BY 1") == [(30 * MEGABYTE,), (96 * MEGABYTE,)]


def check(service: Service, rows: int, quarantined: int, sizes: list[int]) -> None:
    """Every sink has every row, and the audit and the status say so."""
    report = service.audit()
    assert report.wrong == []
    assert service.count("quarantine") == quarantined
    for layer in MIRRORS:
        found = service.query(f"SELECT length(note) FROM {layer} WHERE note != '' ORDER BY 1")
        assert found == [(size * MEGABYTE,) for size in sizes], layer
        assert service.count(layer) == rows, layer
    found = service.query("SELECT octet_length(value) FROM quarantine WHERE value_text[1] != '{' ORDER BY 1")
    assert found == [(size * MEGABYTE,) for size in (*SIZES, REFUSED)]
    told = {row.sink: row for row in status(service.root, tuple(service.flows.values())).sinks}
    assert {told[sink].rows for sink in MIRRORS} == {rows}
    assert failures(service.log.read_text()) == []
