"""Records as librdkafka reads them of a real broker: what gaps in a topic, and its ends, make of a batch."""

import time
from collections.abc import Sequence

import pyarrow as pa
import pytest
from confluent_kafka import Producer, TopicPartition

from local.ports import any_free
from stream_app.errors import StreamAppError
from stream_app.feed import Feed
from stream_app.settings import Settings
from stream_app.sources import records as module
from stream_app.sources.records import OffsetRange, Records
from stream_app.sources.split import encoded
from tests.service.servers import KafkaBroker

NOW = int(time.time() * 1000)


@pytest.fixture
def topic(broker: KafkaBroker) -> str:
    """A topic of one partition, with offsets 0 to 99."""
    name = f"records-{time.time_ns()}"
    broker.create_topic(name, 1)
    broker.send(name, [(f"k{i}", f"v{i}".encode(), NOW + i) for i in range(100)])
    return name


def read(servers: str, feed: Feed, topic: str, *ranges: tuple[int, int], fail_on_data_loss: bool = True) -> list[int]:
    """The offsets that a task reads of a share of partition 0."""
    settings = Settings(kafka_bootstrap_servers=servers, fail_on_data_loss=fail_on_data_loss)
    share = encoded([[OffsetRange(0, start, end) for start, end in ranges]])
    found = list(Records(feed.model_copy(update={"topic": topic}), settings).read(iter([share])))
    return [offset for batch in found for offset in batch["offset"].to_pylist()]


def test_a_share_is_read_to_the_offset_and_in_order(broker: KafkaBroker, feed: Feed, topic: str) -> None:
    assert read(broker.address, feed, topic, (90, 100), (3, 17)) == [*range(90, 100), *range(3, 17)]


def test_the_marks_of_transactions_are_offsets_without_records(broker: KafkaBroker, feed: Feed, topic: str) -> None:
    producer = Producer({"bootstrap.servers": broker.address, "transactional.id": topic})
    producer.init_transactions(60)
    for number in range(2):
        producer.begin_transaction()
        producer.produce(topic, b"in a transaction")
        assert producer.flush(60) == 0
        if number:
            producer.commit_transaction(60)
        else:
            producer.abort_transaction(60)
    # 100 is aborted and marked at 101, as Spark's source would show it; 102 is committed and marked at 103, the end
    assert [offset for offset in read(broker.address, feed, topic, (98, 104)) if offset != 100] == [98, 99, 102]
    assert read(broker.address, feed, topic, (103, 104)) == []


def test_records_that_are_gone_are_an_error_that_says_which(
    broker: KafkaBroker, feed: Feed, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PATIENCE_SECONDS", 3.0)
    admin = broker.admin  # its futures fail once it is gone
    (deleted,) = admin.delete_records([TopicPartition(topic, 0, 40)]).values()
    deleted.result(60)
    with pytest.raises(StreamAppError, match=f"topic {topic}, partition 0, offsets 30 to 50: .*out of range"):
        read(broker.address, feed, topic, (30, 50))
    assert read(broker.address, feed, topic, (30, 50), fail_on_data_loss=False) == list(range(40, 50))
    with pytest.raises(StreamAppError, match=r"offsets 90 to 120: the partition ends at offset 100"):
        read(broker.address, feed, topic, (90, 120))
    assert read(broker.address, feed, topic, (90, 120), fail_on_data_loss=False) == list(range(90, 100))
    # a partition that was cut short begins anew below the range
    assert read(broker.address, feed, topic, (110, 120), fail_on_data_loss=False) == []


def test_large_records_are_held_a_few_at_a_time(broker: KafkaBroker, feed: Feed) -> None:
    name = f"records-{time.time_ns()}"
    broker.create_topic(name, 1)
    broker.send(name, [("", bytes(900_000), NOW + i) for i in range(150)])
    settings = Settings(kafka_bootstrap_servers=broker.address)
    reader = Records(feed.model_copy(update={"topic": name}), settings)
    batches: Sequence[pa.RecordBatch] = list(reader.read(iter([encoded([[OffsetRange(0, 0, 150)]])])))
    assert sum(batch.num_rows for batch in batches) == 150
    assert max(batch.num_rows for batch in batches[1:]) < 10


@pytest.mark.parametrize("fail_on_data_loss", [True, False])
def test_a_broker_that_does_not_answer_is_waited_for_and_named(
    feed: Feed, monkeypatch: pytest.MonkeyPatch, fail_on_data_loss: bool
) -> None:
    """What cannot be read is not gone, so it is never skipped."""
    monkeypatch.setattr(module, "_PATIENCE_SECONDS", 3.0)
    with pytest.raises(StreamAppError, match=r"nothing came for 3 s \(.*refused"):
        read(f"127.0.0.1:{any_free()}", feed, "nowhere", (0, 10), fail_on_data_loss=fail_on_data_loss)
