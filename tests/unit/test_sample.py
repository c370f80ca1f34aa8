"""A sample of a topic is read as far as it goes, without a wait for records that are not there."""

from __future__ import annotations

from typing import Any, cast

import pytest
from confluent_kafka import Consumer, KafkaError, Message

from stream_app.errors import UnavailableError
from stream_app.kafka.sample import Sampled, _read

PARTITIONS = 3


class Come:
    """A message as librdkafka hands it on: a record, or the end of its partition."""

    def __init__(self, partition: int, offset: int, *, is_end: bool = False) -> None:
        self._place, self._is_end = (partition, offset), is_end

    def partition(self) -> int:
        return self._place[0]

    def offset(self) -> int:
        return self._place[1]

    def error(self) -> KafkaError | None:
        return KafkaError(KafkaError._PARTITION_EOF) if self._is_end else None

    def value(self) -> bytes:
        return b"%d" % self._place[1]

    def timestamp(self) -> tuple[int, int]:
        return 1, self._place[1]


class Ready:
    """A consumer whose records have all come. To ask it for more than it has, and to wait, takes all the time."""

    def __init__(self, *come: Come) -> None:
        self._come = list(come)

    def consume(self, most: int, seconds: float) -> list[Message]:
        assert not seconds or most <= len(self._come) or not self._come, "it waits in vain"
        taken, self._come = self._come[:most], self._come[most:]
        return cast("list[Message]", taken)


def read(ends: dict[int, int], *come: Come) -> list[Sampled]:
    return _read(cast("Consumer", cast("Any", Ready(*come))), ends)


@pytest.mark.parametrize("count", [1, 2, 100, 700])
def test_what_is_there_is_read_and_no_more_is_waited_for(count: int) -> None:
    ends = dict.fromkeys(range(PARTITIONS), count)
    come = [Come(partition, offset) for partition in ends for offset in range(count)]
    assert read(ends, *come) == [Sampled(b"%d" % one.offset(), one.offset() * 1000) for one in come]


def test_a_partition_that_ends_in_the_marker_of_a_transaction_is_read_to_its_end() -> None:
    come = [Come(0, 0), Come(0, 2, is_end=True)]
    assert read({0: 2}, *come) == [Sampled(b"0", 0)]


def test_a_broker_that_gives_nothing_is_told() -> None:
    with pytest.raises(UnavailableError, match="no record has come for 30 seconds"):
        read({0: 2}, Come(0, 0))
