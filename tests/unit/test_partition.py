"""Reading a partition's range, with a broker that answers as it is told: what passes, and what cannot be read."""

from collections.abc import Iterator, Sequence
from itertools import islice
from types import SimpleNamespace
from typing import Any

import hypothesis.strategies as st
import pytest
from confluent_kafka import KafkaError, Message, TopicPartition
from hypothesis import given

from stream_app.errors import StreamAppError, UnavailableError
from stream_app.flows.unread import Unread
from stream_app.sources import topic_partition
from stream_app.sources.messages import OffsetRange
from stream_app.sources.topic_partition import PartitionReader

PASSING = [
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.REPLICA_NOT_AVAILABLE,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.KAFKA_STORAGE_ERROR,
    KafkaError.OFFSET_NOT_AVAILABLE,
    KafkaError._UNKNOWN_PARTITION,
    KafkaError._ALL_BROKERS_DOWN,
]


VALUE = b"v"


def record(offset: int) -> Message:
    return Message(topic="t", partition=0, offset=offset, value=VALUE)


def event(code: int, offset: int = -1, topic: str | None = "t") -> Message:
    made: dict[str, Any] = {"error": KafkaError(code)}
    return Message(topic=topic, partition=0, offset=offset, **made)


class Log:
    """A partition of batches, some of which cannot be read. Stands in for librdkafka's Consumer.

    Its clock goes on only while nothing comes, so that a machine that stands still for a moment is not out of patience.
    """

    def __init__(self, batches: Sequence[tuple[int, int, bool]], end: int) -> None:
        """Batches by their first offset, the one after their last, and whether they can be read."""
        self.batches, self.end, self.asked = batches, end, 0
        self.now = 0.0
        self.first: list[Message] = []
        """What comes before all else."""
        self.high = end

    def __repr__(self) -> str:
        return f"Log({self.batches}, {self.end})"

    def __call__(self, _config: dict[str, object]) -> "Log":
        return self

    def assign(self, places: list[TopicPartition]) -> None:
        self.asked += 1
        self._left = self._from(places[0].offset)

    def _from(self, at: int) -> Iterator[Message]:
        yield from self.first
        self.first = []
        for start, end, readable in self.batches:
            while end > at and not readable:
                yield event(KafkaError._BAD_MSG, start)  # for ever
            yield from map(record, range(max(at, start), end))
        yield event(KafkaError._PARTITION_EOF, self.end)

    def consume(self, number: int, seconds: float) -> list[Message]:
        found = list(islice(self._left, number))
        self.now += 0 if found else seconds
        return found

    def get_watermark_offsets(self, _place: TopicPartition, **_how: object) -> tuple[int, int]:
        return 0, self.high

    def close(self) -> None:
        pass


def read(log: Log, start: int, end: int) -> tuple[list[int], list[Unread]]:
    lost: list[Unread] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(topic_partition, "Consumer", log)
        patch.setattr(topic_partition, "time", SimpleNamespace(monotonic=lambda: log.now))
        reader = PartitionReader("t", {}, lost.append, lambda _part, _at: None)
        found = [message.offset() for messages in reader.read(OffsetRange(0, start, end)) for message in messages]
    return [offset for offset in found if offset is not None], lost


@st.composite
def logs(draw: st.DrawFn) -> Log:
    batches, at = [], 0
    for size, gap, readable in draw(
        st.lists(st.tuples(st.integers(1, 40), st.integers(0, 3), st.booleans()), max_size=8)
    ):
        batches.append((at + gap, at + gap + size, readable))
        at += gap + size
    return Log(batches, at)


@given(logs(), st.integers(0, 100), st.integers(0, 100))
@pytest.mark.proves("What cannot be read is named and stepped over only by choice")
def test_what_cannot_be_read_is_stepped_over_to_the_offset(log: Log, start: int, size: int) -> None:
    """Wherever the range begins and ends in the batches, and whatever gaps are between these."""
    end = min(start + size, log.end)
    found, lost = read(log, start, end)
    readable = [offset for first, last, good in log.batches if good for offset in range(first, last)]
    bad = [offset for first, last, good in log.batches if not good for offset in range(first, last)]
    assert found == [offset for offset in readable if start <= offset < end]
    stepped_over = [offset for one in lost for offset in range(one.first, one.end)]
    assert stepped_over == sorted(set(stepped_over))
    assert {*stepped_over} >= {offset for offset in bad if start <= offset < end}
    assert not {*stepped_over} & {*readable}


def test_the_end_of_a_batch_takes_few_questions() -> None:
    log = Log([(0, 100_000, False), (100_000, 100_010, True)], 100_010)
    assert read(log, 0, 100_010) == ([*range(100_000, 100_010)], [Unread(0, 0, 100_000, "the batch is damaged (CRC)")])
    assert log.asked < 60


@pytest.mark.parametrize("code", PASSING)
def test_what_passes_while_leaders_move_is_waited_for(code: int) -> None:
    log = Log([(0, 10, True)], 10)
    log.first = [event(code), event(code, topic=None), event(code, 3)]
    assert read(log, 0, 10) == ([*range(10)], [])


def test_what_does_not_pass_is_no_failure_of_the_query() -> None:
    """Nor is anything skipped: nobody knows what is there."""
    log = Log([], 0)
    log.first = [event(KafkaError.LEADER_NOT_AVAILABLE)]
    log._from = lambda _at: iter(log.first)  # type: ignore[method-assign, assignment]
    with pytest.raises(UnavailableError, match=r"topic t, partition 0, offsets 0 to 9: nothing came for .*\("):
        read(log, 0, 10)


def test_the_end_of_a_new_leader_that_is_behind_is_not_the_end() -> None:
    log = Log([(0, 10, True)], 10)
    log.first = [*map(record, range(5)), event(KafkaError._PARTITION_EOF, 5), *map(record, range(5, 10))]
    assert read(log, 0, 10) == ([*range(10)], [])


def test_a_partition_that_ends_is_cut_short_and_one_with_an_open_transaction_is_waited_for() -> None:
    log = Log([(0, 5, True)], 5)
    assert read(log, 0, 10) == ([*range(5)], [Unread(0, 5, 10, "the partition ends at offset 5")])
    log.high = 10
    with pytest.raises(UnavailableError, match="offsets 5 to 9"):
        read(log, 0, 10)


def test_who_may_not_read_is_told_at_once() -> None:
    log = Log([], 0)
    log.first = [event(KafkaError.TOPIC_AUTHORIZATION_FAILED)]
    with pytest.raises(StreamAppError, match="topic t: ") as error:
        read(log, 0, 10)
    assert not isinstance(error.value, UnavailableError)
