"""One run of the service over several feeds, which has read everything and ended: many tests ask what it wrote."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from confluent_kafka import Producer

from stream_app.settings import PROJECT
from tests.helpers import START_MS, UNUSUAL
from tests.hostile import elsewhere
from tests.hostile import record as hostile_record
from tests.service.activity import event
from tests.service.fixtures import class_archive_path, class_option
from tests.service.harness import NO_UI, Service, jvm_options, produce, quick, transaction
from tests.service.servers import PARTITIONS, Database, DatabaseServer, KafkaBroker

COUNT = 8_000
"""Records of each feed that the project ships, as its producer makes them."""
ABORTED = 50
"""Records of a transaction that was aborted, at the beginning of the topic of transactions."""
LATE = 30
"""Page views that come too late for their windows."""
LINEAGE = "lineage.jsonl"
"""Where the service told of its lineage, beside the folder of its outputs."""
FEEDS = ("transactions", "user_activity", "readings", "sizes", "order")

READINGS = """
topic = "readings"

[fields.id]
type = "string"

[fields.at]
type = "timestamp"

[fields.sensor]
type = "string"
references = "sensors"

[lookups.sensors]
query = "SELECT 's' || n AS sensor, 'room ' || n AS room FROM generate_series(0, 2) AS _sensors (n) -- all of them"
key = "sensor"
columns = { place = { type = "string", column = "room" } }

[fields.celsius]
type = "double"
range = [-60, 60]

[rules.not_13]
check = "celsius::INTEGER <> 13"

[rules.not_hot]
check = "celsius < 35 AND sensor LIKE 's%'"
severity = "warn"

[event_time]
field = "at"
lateness = "1 hour"
future_tolerance = "1 minute"

[dedupe]
key = "id"
within = "1 hour"

[windows.warmest]
key = "sensor"
window = "1 minute"
watermark = "2 minutes"
measures = { warmest = "max(celsius)", readings = "count" }

[totals.by_sensor]
keys = ["sensor"]
measures = { readings = "count", warmest = "max(celsius)" }
top = { by = "readings", most = 2 }

[sinks.busiest]
of = "by_sensor"
to = "postgres"
table = "busiest"

[sinks.readings_delta]
of = "silver"
to = "delta"
partition_by = "date(kafka_ts)"

[sinks.warmest_now]
of = "warmest"
to = "delta"
fresh = true

[sinks.busiest_delta]
of = "by_sensor"
to = "delta"

[sinks.archive]
of = "silver"
to = "lake"

[sinks.archive_csv]
of = "silver"
to = "csv"

[sinks.dead_letters]
of = "quarantine"
to = "kafka"
topic = "readings-refused"
key = "key"
headers = ["partition", "offset"]

[sinks.warmest_out]
of = "warmest"
to = "kafka"
topic = "readings-warmest"
key = "sensor"

[sinks.warmest_csv]
of = "warmest"
to = "csv"

[sinks.all_records]
of = "bronze"
to = "lake"

[sinks.records_csv]
of = "bronze"
to = "csv"

[sinks.refused_table]
of = "quarantine"
to = "postgres"
table = "refused"

[sinks.readings_table]
of = "silver"
to = "postgres"
table = "readings"
"""

SIZES = """
topic = "sizes"
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
[sinks.raw_csv]
of = "silver"
to = "csv"
[sinks.takes]
of = "silver"
to = "kafka"
topic = "sizes-takes"
key = "id"
[sinks.refuses]
of = "silver"
to = "kafka"
topic = "sizes-refuses"
key = "id"
headers = ["id"]
"""
OUT = ("readings-refused", "readings-warmest")
"""The topics that readings is sent to."""
LARGE, SMALL = {"max.message.bytes": "104857600"}, {"max.message.bytes": "1040000"}
BYTES = [100, 1_048_300, 100, 1_000_000, 2_000_000, 8_000_000, *[300] * 500]
"""Of the records of the feed sizes."""

# One that PostgreSQL's texts cannot hold, and one that its indexes cannot.
HOSTILE_PAGES = ("a\0b", "".join(chr(0x4E00 + i * 7919 % 20_000) for i in range(2000)))


class Drained:
    """What the service wrote, a feed at a time, and its log. Nobody changes it."""

    def __init__(self, services: dict[str, Service], database: Database, log: str) -> None:
        self.services = services
        self.database = database
        self.log = log

    def __getitem__(self, feed: str) -> Service:
        return self.services[feed]


@pytest.fixture(scope="session")
def drained(
    broker: KafkaBroker,
    database_server: DatabaseServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Drained:
    """A service with five feeds and a database, which has run until it had read their topics."""
    folder, database, archive = tmp_path_factory.mktemp("drained"), database_server.create(), class_archive_path()
    feeds = folder / "feeds"
    feeds.mkdir()
    for name in ("transactions", "user_activity"):
        (feeds / f"{name}.toml").write_text((PROJECT / "conf" / "feeds" / f"{name}.toml").read_text())
    for name, text in (("readings", READINGS), ("sizes", SIZES), ("order", elsewhere("order"))):
        (feeds / f"{name}.toml").write_text(text)
    environment = quick(folder, archive)
    environment |= {"DATABASE_URL": database.url, "FEEDS": ",".join(FEEDS), "MAX_OFFSETS_PER_TRIGGER": "3000"}
    told = {"TYPE": "file", "LOG_FILE_PATH": str(folder / LINEAGE), "APPEND": "true"}
    environment |= {f"OPENLINEAGE__TRANSPORT__{name}": value for name, value in told.items()}
    root = folder / UNUSUAL
    services = {name: Service(root, feeds, broker.address, environment, name) for name in FEEDS}
    _fill_topics(broker, services)
    try:
        with class_option(archive) as option:
            own = jvm_options(folder / "run", option, NO_UI)["SPARK_SUBMIT_OPTS"]
            log = services["transactions"].drain(SPARK_SUBMIT_OPTS=own)
    finally:
        services["transactions"].kill()
    return Drained(services, database, log)


@pytest.fixture
def copied(drained: Drained, class_archive: Path, tmp_path: Path) -> Iterator[Service]:
    """A copy of the outputs of transactions, and a service on it that was not started: it may be changed."""
    original = drained["transactions"]
    environment = quick(tmp_path, class_archive)
    copy = Service(tmp_path / UNUSUAL, tmp_path / "feeds", original.servers, environment)
    shutil.copytree(original.root / copy.feed_name, copy.root / copy.feed_name)
    shutil.copytree(original.feeds_path, copy.feeds_path)
    yield copy
    copy.kill()


def _fill_topics(broker: KafkaBroker, services: dict[str, Service]) -> None:
    for topic in ("transactions", "user_activity", "enriched_activity", "readings", "order", "order-out", *OUT):
        broker.create_topic(topic)
    for topic, config in (("sizes", LARGE), ("sizes-takes", LARGE), ("sizes-refuses", SMALL)):
        broker.create_topic(topic, PARTITIONS, **config)

    now = time.time()
    _abort(broker, "transactions", [transaction(10**6 + i, now - 60) for i in range(ABORTED)])
    shares = {"BAD_SHARE": "0.03", "LATE_SHARE": "0.02", "FUTURE_SHARE": "0.02", "REPEAT_SHARE": "0.03"}
    produce(services["transactions"], COUNT=str(COUNT), SEED="7", MSGS_PER_SEC="0", **shares)

    hostile = [event(10**9 + i, now - 2400, i, "hostile", "page_view", page) for i, page in enumerate(HOSTILE_PAGES)]
    broker.send("user_activity", hostile)
    produce(services["user_activity"], COUNT=str(COUNT), SEED="7", MSGS_PER_SEC="0", BACKFILL="40 minutes")
    # read in the last of several batches, long after their windows are final
    late = [event(2 * 10**9 + i, now - 2160, i, "late", "page_view", i) for i in range(LATE)]
    broker.send("user_activity", late)

    broker.send("readings", [_reading(i, now - 1800 + i) for i in range(600)])
    broker.send("sizes", [("k", _of_size(i, size, now), int(now * 1000)) for i, size in enumerate(BYTES)], **_LARGE)
    # the second is a repeat of the first by its key, the last moves the watermark
    changed: Sequence[tuple[int, int, dict[str, object]]] = (
        (0, 1, {}),
        (1, 2, {"a.b": "bye"}),
        (1, 2, {}),
        (2, 5, {"[/x]": 7}),
        (3, 900, {}),
    )
    broker.send("order", [("k", hostile_record(n, seconds, **fields), START_MS) for n, seconds, fields in changed])


_LARGE = {"message.max.bytes": 100_000_000}


def _abort(broker: KafkaBroker, topic: str, records: Sequence[tuple[str, bytes, int]]) -> None:
    producer = Producer({"bootstrap.servers": broker.address, "transactional.id": "aborted"})
    producer.init_transactions(60)
    producer.begin_transaction()
    for key, value, at in records:
        producer.produce(topic, value, key=key, timestamp=at)
    assert producer.flush(60) == 0
    producer.abort_transaction(60)


def _reading(number: int, at: float) -> tuple[str, bytes, int]:
    sensor = f"s{number % 3}"
    celsius = 99 if number % 10 == 0 else number % 40
    reading = {"id": f"r{number}", "at": _iso(at), "sensor": sensor, "celsius": celsius}
    return sensor, json.dumps(reading).encode(), int(at * 1000)


def _of_size(number: int, size: int, now: float) -> bytes:
    """A record of that many bytes."""
    fields = {"id": f"{number:05d}", "ts": _iso(now - 60), "text": ""}
    return json.dumps(fields | {"text": "x" * (size - len(json.dumps(fields)))}).encode()


def _iso(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
