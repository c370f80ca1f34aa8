"""The records of a micro-batch of bronze, read from Kafka by the tasks that write them.

Spark's Kafka source plans the batch and keeps its offsets in the checkpoint (sources/kafka.py). The records themselves
are read by librdkafka, in the process that has them as Arrow a moment later: through the JVM, each would be copied four
times on its way, at seven times the CPU (docs/benchmark.md).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
from confluent_kafka import Consumer, KafkaError, Message
from pyspark.sql import DataFrame, SparkSession

from stream_app.broker import client_config
from stream_app.checkpoint import PlannedBatch
from stream_app.errors import StreamAppError
from stream_app.feed import Feed
from stream_app.flow import Flow
from stream_app.layers.bronze import records
from stream_app.settings import Settings
from stream_app.sources import epochs
from stream_app.sources.epochs import Position
from stream_app.sources.kafka import group
from stream_app.sources.rows import Batches
from stream_app.sources.split import SPLIT, decoded, encoded

_MIN_RECORDS_PER_SHARE = 20_000
# Few enough for the processor's cache, and bounds on what a task holds of large ones.
_POLLED_RECORDS, _POLLED_BYTES = 2_000, 4 << 20
_FIRST_POLLED_RECORDS = 100
_POLL_SECONDS = 0.1
_PATIENCE_SECONDS = 60.0
_CONSUMER = {
    "enable.auto.commit": False,
    "enable.partition.eof": True,
    "check.crcs": True,
    # as Spark's, whose end of a batch may lie behind an open transaction
    "isolation.level": "read_uncommitted",
    # What is read ahead of need. A full queue is looked at again after a backoff, by default after a second.
    "queued.min.messages": 20_000,
    "queued.max.messages.kbytes": 16_384,
    "fetch.queue.backoff.ms": 5,
    # At the end of a partition a broker holds a request back until something comes, and with it those for the next one.
    "fetch.wait.max.ms": 1,
    "log_level": 0,
}


@dataclass(frozen=True)
class Told:
    """What a task has learnt beside the records that it read, by partition (sources/epochs.py)."""

    read: dict[int, tuple[int, int | None]]
    """The offset behind the last record, and its leader epoch."""
    diverged: dict[int, int]
    """Where a log became another one, if FAIL_ON_DATA_LOSS=false let the task go on."""


@dataclass(frozen=True)
class OffsetRange:
    """Offsets of a partition, from `start` up to and without `end`."""

    partition: int
    start: int
    end: int
    read: Position | None = None
    """What was read before `start`, where the range is the first of its partition."""

    @property
    def offsets(self) -> int:
        """How many these are."""
        return self.end - self.start


def offset_ranges(flow: Flow, batch: PlannedBatch, settings: Settings) -> list[OffsetRange]:
    """What the batch has to read of each partition of the topic.

    Raises StreamAppError where a partition has become shorter, unless records may be gone.
    """
    topic = flow.feed.topic
    start, end, read = flow.start(batch.batch_id)[topic], batch.end[topic], epochs.before(flow, batch.batch_id)
    # a partition without a start is new
    ranges = [OffsetRange(int(p), start.get(p, 0), at, read.get(int(p))) for p, at in end.items()]
    for part in ranges:
        if part.offsets < 0 and settings.fail_on_data_loss:
            problem = (
                f"topic {topic}, partition {part.partition}: was read up to offset {part.start}, ends at {part.end}"
            )
            raise StreamAppError(problem)
    return sorted((part for part in ranges if part.offsets > 0), key=lambda part: part.partition)


def splits_of(ranges: Sequence[OffsetRange], spark: SparkSession) -> DataFrame:
    """The ranges as SPLIT, a row for each task."""
    found = shares(ranges, spark.sparkContext.defaultParallelism)
    return spark.createDataFrame(pa.Table.from_batches([encoded(found)]), SPLIT)


def shares(ranges: Sequence[OffsetRange], most: int) -> list[list[OffsetRange]]:
    """The ranges in order, cut into at most `most` equal shares, fewer where these would be small."""
    total = sum(part.offsets for part in ranges)
    number = max(1, min(most, total // _MIN_RECORDS_PER_SHARE))
    size = -(-total // number)
    found: list[list[OffsetRange]] = []
    room = 0
    for whole in ranges:
        part = whole
        while part.offsets:
            if not room:
                found.append([])
                room = size
            cut = min(part.end, part.start + room)
            found[-1].append(replace(part, end=cut))
            room -= found[-1][-1].offsets
            part = replace(part, start=cut, read=None)
    return found


class Records:
    """Reads a feed's topic inside of Spark's tasks."""

    def __init__(self, feed: Feed, settings: Settings) -> None:
        self._topic = feed.topic
        self._may_skip = not settings.fail_on_data_loss
        reset = "earliest" if self._may_skip else "error"
        self._config = {**client_config(settings), **_CONSUMER, "group.id": group(feed), "auto.offset.reset": reset}
        self._read: dict[int, tuple[int, int | None]] = {}
        self._diverged: dict[int, int] = {}

    def read(self, splits: Batches) -> Batches:
        """Splits -> their records as schema.BRONZE, in the order of partition and offset.

        Raises StreamAppError where records are gone, but for FAIL_ON_DATA_LOSS=false, and where none come for a minute.
        """
        errors: list[KafkaError] = []
        consumer = Consumer({**self._config, "error_cb": errors.append})
        try:
            for part in (part for share in decoded(splits) for part in share):
                for messages in self._messages(consumer, part, errors):
                    self._read[part.partition] = _offset(messages[-1]) + 1, messages[-1].leader_epoch()
                    yield records(messages, self._topic)
        finally:
            consumer.close()

    def told(self) -> Told:
        """Return what a task that has read its splits knows beside their records."""
        return Told(self._read, self._diverged)

    def _messages(self, consumer: Consumer, part: OffsetRange, errors: list[KafkaError]) -> Iterator[list[Message]]:
        begin = epochs.assigned(self._topic, part.partition, part.start, part.read)
        consumer.assign([begin])
        at, polled, heard, ended = part.start, _FIRST_POLLED_RECORDS, time.monotonic(), False
        while at < part.end:
            found = consumer.consume(min(polled, part.end - at), _POLL_SECONDS)
            if begin.offset < part.start and any(_is_out_of_range(event) for event in found):  # but the range is not
                begin = epochs.assigned(self._topic, part.partition, part.start, None)
                consumer.assign([begin])
                continue
            # not all offsets have a record: in a compacted topic, or where a transaction ended
            ends = [self._end(event, part, errors) for event in found if event.error()]
            taken = [message for message in found if message.error() is None]
            if taken:
                first, last = _offset(taken[0]), _offset(taken[-1])
                size = sum(len(message.value() or b"") for message in taken)
                polled = max(1, min(_POLLED_RECORDS, _POLLED_BYTES * len(taken) // max(1, size)))
                if first < begin.offset and begin.leader_epoch is not None:  # as auto.offset.reset has it go on
                    self._diverged.setdefault(part.partition, first)
                if first < at or last >= part.end:  # a topic that was cut short begins anew; a gap hid the range's end
                    taken = [message for message in taken if at <= _offset(message) < part.end]
                at = max(at, last + 1)
            if taken:
                yield taken
                heard = time.monotonic()
            elif time.monotonic() - heard > _PATIENCE_SECONDS:
                if ended and self._may_skip:
                    return
                cause = f" ({errors[-1].str()})" if errors else ""
                raise StreamAppError(f"{self._where(part)}: nothing came for {_PATIENCE_SECONDS:.0f} s{cause}")
            for end in (end for end in ends if end is not None):
                at, ended = max(at, end), True

    def _end(self, event: Message, part: OffsetRange, errors: list[KafkaError]) -> int | None:
        """Where the partition ends, if that is what an event says that came in place of a record."""
        error = event.error()
        assert error is not None  # noqa: S101 - it is an event
        if event.topic() is None:  # of the client, which goes on trying, and not of the partition
            errors.append(error)
            return None
        if (diverged := epochs.diverged_at(error)) is not None:
            raise StreamAppError(epochs.problem(self._topic, part.partition, part.start, diverged))
        if error.code() != KafkaError._PARTITION_EOF:
            raise StreamAppError(f"{self._where(part)}: {error.str()}")
        end = _offset(event)
        if end < part.end and not self._may_skip:
            raise StreamAppError(f"{self._where(part)}: the partition ends at offset {end}")
        return end

    def _where(self, part: OffsetRange) -> str:
        return f"topic {self._topic}, partition {part.partition}, offsets {part.start} to {part.end}"


def _is_out_of_range(event: Message) -> bool:
    error = event.error()
    return error is not None and error.code() == KafkaError._AUTO_OFFSET_RESET and epochs.diverged_at(error) is None


def _offset(message: Message) -> int:
    offset = message.offset()
    assert offset is not None  # noqa: S101 - of a message that was not consumed
    return offset
