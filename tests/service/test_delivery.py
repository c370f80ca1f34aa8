"""Records sent to a topic of a real broker: what it takes comes in order and once, what it refuses is told."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import pyarrow as pa
import pytest

from stream_app.errors import StreamAppError, UnavailableError
from stream_app.settings import Settings
from stream_app.sinks import delivery
from stream_app.sinks.delivery import LARGEST_BYTES, Delivery
from tests.ports import free_port
from tests.service.servers import PARTITIONS, KafkaBroker

Row = tuple[bytes | None, bytes]


@pytest.fixture
def new_topic(broker: KafkaBroker) -> Callable[..., str]:
    def make(**config: str) -> str:
        name = f"delivery-{time.time_ns()}"
        broker.create_topic(name, PARTITIONS, **config)
        return name

    return make


def sent(servers: str, topic: str, rows: Sequence[Row], batch_rows: int = 1000) -> list[dict[str, object]]:
    """Send rows as a task does, their numbers as offsets of partition 7; what was refused."""
    settings = Settings(kafka_bootstrap_servers=servers)
    schema = pa.schema(
        [("k", pa.binary()), ("v", pa.binary()), ("p", pa.int32()), ("o", pa.int64()), ("id", pa.binary())]
    )
    columns = zip(*((k, v, 7, i, str(i).encode()) for i, (k, v) in enumerate(rows)), strict=True)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    table = pa.table(arrays, schema=schema)
    told = Delivery(topic, ("id",), settings.kafka).send(iter(table.to_batches(batch_rows)))
    return [row for batch in told for row in batch.to_pylist()]


@pytest.mark.proves("Another topic has each row at least once")
def test_one_that_is_refused_takes_none_of_its_batch_with_it(
    broker: KafkaBroker, new_topic: Callable[..., str]
) -> None:
    """Kafka refuses a batch as a whole: some by their sum, of which each fits."""
    topic = new_topic(**{"max.message.bytes": "3000"})
    rows: list[Row] = [(b"k", b"%03d" % i + bytes(5_000 if i in {20, 77} else 200)) for i in range(100)]
    refused = [{"partition": 7, "offset": i, "bytes": 5_003, "cause": "MSG_SIZE_TOO_LARGE"} for i in (20, 77)]
    assert sent(broker.address, topic, rows) == refused
    taken = broker.records(topic)
    assert len({partition for partition, _ in taken}) == 1, "they have one key"
    assert [taken[place][:3] for place in sorted(taken)] == [b"%03d" % i for i in range(100) if i not in {20, 77}]


def test_records_up_to_the_largest_request_go_through(broker: KafkaBroker, new_topic: Callable[..., str]) -> None:
    topic = new_topic(**{"max.message.bytes": str(104_857_600)})
    rows: list[Row] = [(b"k", bytes(size)) for size in (5, 1_048_300, 2_000_000, LARGEST_BYTES - 200, LARGEST_BYTES, 6)]
    (refused,) = sent(broker.address, topic, rows)
    assert refused == {"partition": 7, "offset": 4, "bytes": LARGEST_BYTES, "cause": "MSG_SIZE_TOO_LARGE"}
    assert sorted(len(value) for value in broker.records(topic).values()) == [
        len(value) for _, value in (rows[0], rows[5], rows[1], rows[2], rows[3])
    ]


def test_the_default_limit_of_a_topic_refuses_what_is_larger(
    broker: KafkaBroker, new_topic: Callable[..., str]
) -> None:
    topic = new_topic()
    refused = sent(broker.address, topic, [(b"k", bytes(size)) for size in (1_048_300, 1_048_588, 2_000_000, 1)])
    assert [row["offset"] for row in refused] == [1, 2]
    assert len(broker.records(topic)) == 2


def test_a_record_without_a_key_is_not_for_a_compacted_topic(
    broker: KafkaBroker, new_topic: Callable[..., str]
) -> None:
    topic = new_topic(**{"cleanup.policy": "compact"})
    refused = sent(broker.address, topic, [(b"a", b"1"), (None, b"2"), (b"c", b"3")])
    assert [(row["offset"], row["cause"]) for row in refused] == [(1, "INVALID_RECORD")]
    assert sorted(broker.records(topic).values()) == [b"1", b"3"]


def test_a_key_has_the_partition_that_javas_clients_give_it(broker: KafkaBroker, new_topic: Callable[..., str]) -> None:
    """So it has since the sink was Spark's. The hashes are of Kafka's own test (UtilsTest.testMurmur2)."""
    topic = new_topic()
    hashes = {b"21": -973932308, b"foobar": -790332482, b"a-little-bit-long-string": -985981536, b"abc": 479470107}
    assert sent(broker.address, topic, [(key, key) for key in hashes]) == []
    found = {value: partition for (partition, _), value in broker.records(topic).items()}
    assert found == {key: (number & 0x7FFFFFFF) % 3 for key, number in hashes.items()}


@pytest.mark.proves("Another topic has each row at least once")
def test_more_than_the_queue_holds_goes_through_in_order(broker: KafkaBroker, new_topic: Callable[..., str]) -> None:
    topic = new_topic()
    rows: list[Row] = [(b"k", b"%06d" % i) for i in range(50_000)]
    assert sent(broker.address, topic, rows, 7_000) == []
    taken = broker.records(topic)
    assert [taken[place] for place in sorted(taken)] == [value for _, value in rows]


def test_what_is_no_fault_of_a_record_fails_the_batch(broker: KafkaBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(delivery._CONFIG, "message.timeout.ms", 3_000)
    with pytest.raises(UnavailableError, match=r"topic nowhere: .*timed out.*refused"):
        sent(f"127.0.0.1:{free_port()}", "nowhere", [(b"k", b"v")])
    monkeypatch.setitem(delivery._CONFIG, "topic.metadata.propagation.max.ms", 100)
    with pytest.raises(StreamAppError, match="topic not-there: "):
        sent(broker.address, "not-there", [(b"k", b"v")])
