"""feed-new looks at a real topic: the feed that it writes is one, and takes each record of the sample."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from stream_app.settings import PROJECT
from tests.ports import free_port
from tests.service.harness import Service
from tests.service.servers import PARTITIONS, KafkaBroker
from tests.shapes import SHAPES

START_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z
COUNT = 300


@pytest.fixture
def service(broker: KafkaBroker, tmp_path: Path) -> Service:
    """What the commands are typed beside; it is not started."""
    feeds = tmp_path / "feeds"
    feeds.mkdir()
    return Service(tmp_path / "output", feeds, broker.address)


def send(broker: KafkaBroker, topic: str, name: str) -> int:
    """Fill a new topic with records of a shape, and with two that are none; their number."""
    broker.create_topic(topic, PARTITIONS, **{"retention.ms": "-1"})
    records = [json.dumps(SHAPES[name].record(number)).encode() for number in range(COUNT)]
    odd: list[bytes | None] = [b"{", None]
    broker.send(topic, [(f"k{i}", value, START_MS + i * 1000) for i, value in enumerate([*records, *odd])])
    return COUNT + len(odd)


def test_topics_of_well_known_shapes(broker: KafkaBroker, service: Service) -> None:
    for name in SHAPES:
        feed = f"shop_{name.replace(' ', '_')}"
        count = send(broker, f"Shop.{name.replace(' ', '-')}", name)
        written = json.loads(service.op("feed-new", TOPIC=f"Shop.{name.replace(' ', '-')}", FORMAT="json"))
        assert (written["feed"], written["records"]) == (feed, count)
        assert (written["odd"], written["refused"]) == ({"empty": 1, "not_json": 1}, {})
    feeds = sorted(file.stem for file in service.feeds_path.iterdir())
    assert service.op("feed-check") == f"no mistakes in {', '.join(feeds)}\n"


def test_a_file_that_is_there_is_left_alone(broker: KafkaBroker, service: Service) -> None:
    topic, (name, *_) = "twice", SHAPES
    send(broker, topic, name)
    shown = service.op("feed-new", TOPIC=topic, SAMPLE="30")
    file = service.feeds_path / "twice.toml"
    assert shown.startswith(f"{file}: written from 30 records\n")
    assert "\na guess: event_time: " in shown
    before = file.read_text()
    (said,) = re.findall("^#:schema (.*)$", before, re.MULTILINE)
    assert (file.parent / said).resolve() == PROJECT / "docs" / "feed.schema.json"
    assert "is there already; give another name by --feed" in service.op("feed-new", expected=2, TOPIC=topic)
    assert file.read_text() == before


def test_a_topic_that_is_not_there_and_one_without_records(broker: KafkaBroker, service: Service) -> None:
    refused = service.op("feed-new", expected=2, TOPIC="nowhere")
    assert "there is no topic nowhere" in refused
    assert refused.endswith("create it, or correct --topic\n")
    broker.create_topic("empty")
    assert "topic empty: has no record" in service.op("feed-new", expected=2, TOPIC="empty")
    assert [*service.feeds_path.iterdir()] == []


def test_a_small_batch_of_a_large_record_and_a_damaged_one_end_no_sample(tmp_path: Path) -> None:
    kafka = KafkaBroker(tmp_path / "broker", free_port())
    kafka.start()
    try:
        feeds = tmp_path / "feeds"
        feeds.mkdir()
        service = Service(tmp_path / "output", feeds, kafka.address)
        kafka.create_topic("odd", 1, **{"max.message.bytes": "10000000"})
        for size in (5, 120_000_000, 6, 7):  # a batch each
            value = json.dumps({"id": "a", "note": "x" * size}).encode()
            large = {"compression.type": "zstd", "message.max.bytes": 1_000_000_000}
            kafka.send("odd", [("", value, START_MS)], **large)
        kafka.stop()
        kafka.damage("odd", 2)
        kafka.start()
        shown = service.op("feed-new", TOPIC="odd").splitlines()
    finally:
        kafka.stop()
    assert shown[0] == f"{feeds / 'odd.toml'}: written from 3 records"
    assert "not read: partition 0, offset 2: the batch is damaged (CRC)" in shown
