"""Bronze's records: from Kafka's messages, and the shares that a batch's offsets are cut into."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import hypothesis.strategies as st
import pyarrow as pa
import pytest
from confluent_kafka import Message
from hypothesis import given
from pyspark.sql.pandas.types import to_arrow_schema

from stream_app.errors import StreamAppError
from stream_app.feeds import schema
from stream_app.feeds.feed import Feed
from stream_app.flows.batch import planned
from stream_app.flows.flow import Flow
from stream_app.layers.bronze import records
from stream_app.sources.messages import OffsetRange
from stream_app.sources.topic_records import offset_ranges, shares
from tests.helpers import at, flow_of, plan

EPOCH, MILLISECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(milliseconds=1)


def message(offset: int, key: bytes | None, value: bytes | None, headers: Sequence[object] | None = None) -> Message:
    made: dict[str, Any] = {"key": key, "value": value, "headers": headers, "timestamp": (1, _ms(offset))}
    return Message(topic="transactions", partition=2, offset=offset, **made)


def _ms(offset: int) -> int:
    return round(at(offset).timestamp() * 1000)


@pytest.mark.proves("Bronze keeps values byte for byte")
def test_bronze_keeps_every_byte_and_makes_keys_readable() -> None:
    headers = [("trace", b"\x00\xff"), ("trace", None), ('a "key" ü', b"")]
    messages = [
        message(7, b"card-1", b"\x00\xffbytes", headers),
        message(8, b"\xffcard", None),
        message(9, None, b""),
    ]
    found = records(messages, "transactions")
    assert found.schema == to_arrow_schema(schema.BRONZE, timezone="UTC")
    place = {"topic": "transactions", "partition": 2}
    expected = [
        ("card-1", b"\x00\xffbytes", [{"key": key, "value": value} for key, value in headers]),
        ("\N{REPLACEMENT CHARACTER}card", None, None),
        (None, b"", None),
    ]
    assert found.to_pylist() == [
        {"key": key, "value": value, "headers": shown, "kafka_ts": at(offset), "offset": offset} | place
        for offset, (key, value, shown) in enumerate(expected, 7)
    ]


def test_a_header_whose_name_is_not_text_does_not_stop_the_query() -> None:
    class Unreadable:
        """What confluent-kafka does with such a message; measured with one that librdkafka sent itself."""

        def __getattr__(self, name: str) -> object:
            return getattr(message(7, b"card-1", b"value"), name)

        def headers(self) -> object:
            raise SystemError("returned a result with an exception set")

    (found,) = records([cast(Message, Unreadable())], "transactions").to_pylist()
    assert (found["value"], found["headers"]) == (b"value", None)


FIRST_MS, LAST_MS = -62_135_596_800_000, 253_402_300_799_999
FAR_OFF = [-(2**63), -18_444_850_617_709_551, -9_223_372_036_854_776, FIRST_MS - 1, LAST_MS + 1, 2**63 - 1]


@given(st.lists(st.integers(-(2**63), 2**63 - 1) | st.sampled_from(FAR_OFF)))
def test_every_time_becomes_one_of_the_calendar(times: list[int]) -> None:
    """A client's clock may be any: of nanoseconds, or so far back that microseconds of it would wrap to 2030."""
    made: Any = [{"key": b"", "value": b"", "timestamp": (1, time)} for time in times]
    messages = [Message(topic="transactions", partition=0, offset=0, **one) for one in made]
    found = [row["kafka_ts"] for row in records(messages, "transactions").to_pylist()]
    assert [(time - EPOCH) // MILLISECOND for time in found] == [min(max(time, FIRST_MS), LAST_MS) for time in times]


@given(st.binary())
def test_every_key_becomes_text_that_arrow_can_open(key: bytes) -> None:
    found = records([message(0, key, b"")], "transactions")
    found.validate(full=True)
    assert found["key"].type == pa.string()
    assert found["key"][0].as_py() == key.decode(errors="replace")


@pytest.fixture
def flow(feed: Feed, tmp_path: Path) -> Flow:
    """Bronze, whose first two batches Spark has planned."""
    flow = flow_of(feed, "bronze", tmp_path)
    plan(flow, 0, {"transactions": {"0": 10, "1": 20}})
    plan(flow, 1, {"transactions": {"0": 10, "1": 25, "2": 5}})
    first = flow.checkpoint.path / "sources" / "0" / "0"
    first.parent.mkdir(parents=True)
    first.write_text('\0v1\n{"transactions":{"0":4,"1":0}}')  # as Spark 4.2 writes it
    return flow


def test_a_batch_reads_from_where_the_one_before_ended_and_a_new_partition_from_its_start(flow: Flow) -> None:
    first, second = (offset_ranges(flow, planned(flow, batch), fail_on_data_loss=True) for batch in range(2))
    assert first == [OffsetRange(0, 4, 10), OffsetRange(1, 0, 20)]
    assert second == [OffsetRange(1, 20, 25), OffsetRange(2, 0, 5)]


def test_a_partition_that_became_shorter_is_an_error(flow: Flow) -> None:
    plan(flow, 2, {"transactions": {"0": 10, "1": 7, "2": 9}})
    with pytest.raises(StreamAppError, match="partition 1: was read up to offset 25, ends at 7"):
        offset_ranges(flow, planned(flow, 2), fail_on_data_loss=True)
    assert offset_ranges(flow, planned(flow, 2), fail_on_data_loss=False) == [OffsetRange(2, 5, 9)]


lengths = st.lists(st.tuples(st.integers(0, 1 << 40), st.integers(0, 200_000)), max_size=8)


@given(lengths, st.integers(1, 16))
def test_shares_hold_each_offset_once_in_order_and_evenly(bounds: list[tuple[int, int]], most: int) -> None:
    ranges = [OffsetRange(number, start, start + length) for number, (start, length) in enumerate(bounds)]
    found = shares(ranges, most)
    joined: list[OffsetRange] = []
    for part in (part for share in found for part in share):
        if joined and joined[-1].partition == part.partition:
            assert joined[-1].end == part.start
            joined[-1] = OffsetRange(part.partition, joined[-1].start, part.end)
        else:
            joined.append(part)
    assert joined == [part for part in ranges if part.start < part.end]
    assert len(found) <= most
    sizes = [sum(part.end - part.start for part in share) for share in found]
    assert all(sizes)
    assert len(set(sizes[:-1])) <= 1
    assert not sizes or sizes[-1] <= sizes[0] < 40_000 or len(found) == most
