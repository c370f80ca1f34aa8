"""Records as librdkafka reads them of a real broker: what gaps in a topic, and its ends, make of a batch."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from confluent_kafka import Producer, TopicPartition

from stream_app.errors import StreamAppError
from stream_app.feeds.feed import Feed
from stream_app.flows.unread import Unread
from stream_app.settings import Settings
from stream_app.sources import topic_partition as module
from stream_app.sources.messages import OffsetRange
from stream_app.sources.split import encoded
from stream_app.sources.topic_records import Records
from tests.helpers import flow_of
from tests.ports import free_port
from tests.service.servers import KafkaBroker

NOW = int(time.time() * 1000)


@pytest.fixture
def topic(broker: KafkaBroker) -> str:
    """A topic of one partition, with offsets 0 to 99."""
    name = f"records-{time.time_ns()}"
    broker.create_topic(name, 1)
    broker.send(name, [(f"k{i}", f"v{i}".encode(), NOW + i) for i in range(100)])
    return name


def reader(servers: str, feed: Feed, topic: str, **settings: Any) -> Records:
    bronze = flow_of(feed.model_copy(update={"topic": topic}), "bronze", Path())
    own = Settings(kafka_bootstrap_servers=servers, **settings)
    return Records(bronze, own.kafka, fail_on_data_loss=own.fail_on_data_loss)


def read_all(reader: Records, *ranges: tuple[int, int]) -> tuple[list[int], list[Unread]]:
    """The offsets that a task reads of a share of partition 0, and what it steps over."""
    share = encoded([[OffsetRange(0, start, end) for start, end in ranges]])
    found = list(reader.read(iter([share])))
    return [offset for batch in found for offset in batch["offset"].to_pylist()], reader.told().unread


def read(servers: str, feed: Feed, topic: str, *ranges: tuple[int, int], **settings: Any) -> list[int]:
    return read_all(reader(servers, feed, topic, **settings), *ranges)[0]


def test_a_share_is_read_to_the_offset_and_in_order(broker: KafkaBroker, feed: Feed, topic: str) -> None:
    assert read(broker.address, feed, topic, (90, 100), (3, 17)) == [*range(90, 100), *range(3, 17)]


def transacted(broker: KafkaBroker, topic: str, *numbers: int, commit: bool) -> None:
    """A transaction with those records, and its marker."""
    producer = Producer({"bootstrap.servers": broker.address, "transactional.id": f"{topic}-{numbers[0]}"})
    producer.init_transactions(60)
    producer.begin_transaction()
    for number in numbers:
        producer.produce(topic, f"in a transaction {number}".encode())
    assert producer.flush(60) == 0
    if commit:
        producer.commit_transaction(60)
    else:
        producer.abort_transaction(60)


def test_records_of_aborted_transactions_are_left_out_and_no_stretch_of_them_is_waited_for(
    broker: KafkaBroker, feed: Feed, topic: str
) -> None:
    """Wherever a range begins and ends: in what was aborted, at a marker, and at the end of the topic."""
    transacted(broker, topic, 100, 101, commit=False)  # the marker is 102
    transacted(broker, topic, 103, 104, commit=True)  # and 105
    transacted(broker, topic, *range(106, 126), commit=False)  # and 126, the last
    committed = [*range(100), 103, 104]
    ranges = [(0, 127), (98, 101), (98, 103), (100, 102), (102, 103), (104, 107), (105, 106), (107, 127), (126, 127)]
    for start, end in ranges:
        found = read_all(reader(broker.address, feed, topic), (start, end))
        assert found == ([offset for offset in committed if start <= offset < end], []), (start, end)
    every = [offset for offset in range(126) if offset not in {102, 105}]
    assert read(broker.address, feed, topic, (0, 127), kafka_isolation_level="read_uncommitted") == every


def test_records_that_are_gone_are_an_error_that_says_which(
    broker: KafkaBroker, feed: Feed, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin = broker.admin  # its futures fail once it is gone
    (deleted,) = admin.delete_records([TopicPartition(topic, 0, 40)]).values()
    deleted.result(60)
    begins, ends = "the partition begins at offset 40 by now", "the partition ends at offset 100"
    skipping = reader(broker.address, feed, topic, fail_on_data_loss=False)
    for part, lost, reason in (
        ((30, 50), (30, 40), begins),
        ((20, 30), (20, 30), begins),
        ((90, 120), (100, 120), ends),
        ((110, 120), (110, 120), ends),  # a partition that was cut short
    ):
        if part == (90, 120):  # the end may be that of a leader which is behind for a moment
            monkeypatch.setattr(module, "PATIENCE_SECONDS", 10.0)
        said = f"topic {topic}, partition 0, offsets {lost[0]} to {lost[1] - 1}: {reason}; .*FAIL_ON_DATA_LOSS=false"
        with pytest.raises(StreamAppError, match=said):
            read(broker.address, feed, topic, part)
        left = [offset for offset in range(*part) if 40 <= offset < 100]
        assert read_all(skipping, part) == (left, [Unread(0, *lost, reason)])


@pytest.mark.proves("What cannot be read is named and stepped over only by choice")
def test_a_damaged_batch_is_named_to_the_offset_and_nothing_else_is_skipped(feed: Feed, tmp_path: Path) -> None:
    kafka = KafkaBroker(tmp_path, free_port())
    kafka.start()
    try:
        kafka.create_topic("damaged", 1)
        for size in (10, 7, 1, 30, 4, 5):  # a batch each
            kafka.send("damaged", [("", b"v", NOW)] * size)
        kafka.stop()
        for base in (10, 17, 48):
            kafka.damage("damaged", base)
        kafka.start()
        damaged = [*range(10, 18), *range(48, 52)]
        reason = "the batch is damaged (CRC)"
        skipping = reader(kafka.address, feed, "damaged", fail_on_data_loss=False)
        for start, end in ((0, 57), (12, 50), (10, 17), (13, 14), (17, 18), (51, 57), (18, 48)):
            read_all_of = [offset for offset in range(start, end) if offset not in damaged]
            offsets, lost = read_all(skipping, (start, end))
            assert offsets == read_all_of, (start, end)
            assert {one.reason for one in lost} <= {reason}
            stepped_over = [offset for one in lost for offset in range(one.first, one.end)]
            assert stepped_over == [offset for offset in range(start, end) if offset in damaged], (start, end)
        with pytest.raises(StreamAppError, match=r"partition 0, offsets 10 to 16: the batch is damaged \(CRC\); go on"):
            read(kafka.address, feed, "damaged", (0, 57))
    finally:
        kafka.stop()


@pytest.mark.parametrize("codec", ["zstd", "gzip", "lz4", "snappy"])
@pytest.mark.proves("A hostile batch takes a bounded amount of memory")
def test_a_small_batch_of_a_large_record_is_read(broker: KafkaBroker, feed: Feed, codec: str) -> None:
    """What Kafka lets through: its limits are those of the compressed bytes."""
    name = f"records-{time.time_ns()}"
    broker.create_topic(name, 1, **{"max.message.bytes": "10000000"})  # snappy makes 6 MB of it
    sizes = [5, 120_000_000, 7]
    for size in sizes:
        broker.send(name, [("", bytes(size), NOW)], **{"compression.type": codec, "message.max.bytes": 1_000_000_000})
    records = reader(broker.address, feed, name)
    batches = list(records.read(iter([encoded([[OffsetRange(0, 0, 3)]])])))
    assert [len(value.as_py()) for batch in batches for value in batch["value"]] == sizes
    assert records.told().unread == []


@pytest.mark.proves("A hostile batch takes a bounded amount of memory")
def test_large_records_are_held_a_few_at_a_time(broker: KafkaBroker, feed: Feed) -> None:
    name = f"records-{time.time_ns()}"
    broker.create_topic(name, 1)
    broker.send(name, [("", bytes(900_000), NOW + i) for i in range(150)])
    records = reader(broker.address, feed, name)
    batches: Sequence[pa.RecordBatch] = list(records.read(iter([encoded([[OffsetRange(0, 0, 150)]])])))
    assert sum(batch.num_rows for batch in batches) == 150
    assert max(batch.num_rows for batch in batches[1:]) < 10


@pytest.mark.parametrize("fail_on_data_loss", [True, False])
def test_a_broker_that_does_not_answer_is_waited_for_and_named(
    feed: Feed, monkeypatch: pytest.MonkeyPatch, fail_on_data_loss: bool
) -> None:
    """What cannot be read is not gone, so it is never skipped."""
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 3.0)
    with pytest.raises(StreamAppError, match=r"nothing came for 3 s \(.*refused"):
        read(f"127.0.0.1:{free_port()}", feed, "nowhere", (0, 10), fail_on_data_loss=fail_on_data_loss)
