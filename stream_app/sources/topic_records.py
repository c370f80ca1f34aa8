"""The records of a micro-batch of bronze, read from Kafka by the tasks that write them.

Spark's Kafka source plans the batch and keeps its offsets in the checkpoint (sources/topic.py). The records themselves
are read by librdkafka, in the process that has them as Arrow a moment later: through the JVM, each would be copied four
times on its way, at seven times the CPU (docs/benchmark.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from stream_app.admission import topic_epochs
from stream_app.admission.verdict import reset_command
from stream_app.errors import StreamAppError
from stream_app.flows.batch import Batch
from stream_app.flows.flow import Flow
from stream_app.flows.unread import Unread
from stream_app.kafka.client import client_config, group
from stream_app.kafka.connection import KafkaConnection
from stream_app.layers.bronze import records
from stream_app.sources.messages import OffsetRange, offset_of
from stream_app.sources.split import SPLIT, decoded, encoded
from stream_app.sources.split_rows import Batches
from stream_app.sources.topic_partition import PartitionReader
from stream_app.storage.offsets import by_partition

_MIN_RECORDS_PER_SHARE = 20_000


def offset_ranges(bronze: Flow, batch: Batch, *, fail_on_data_loss: bool) -> list[OffsetRange]:
    """Return what the batch has to read of each partition of the topic, in the partitions' order.

    Raises StreamAppError where a partition has become shorter, unless records may be gone.
    """
    topic = bronze.feed.topic
    start, end, read = by_partition(batch.start), by_partition(batch.end), topic_epochs.before(bronze, batch.id)
    # a partition without a start is new
    ranges = [OffsetRange(p, start.get(p, 0), at, read.get(p)) for p, at in end.items()]
    for part in ranges:
        if part.offsets < 0 and fail_on_data_loss:
            problem = (
                f"topic {topic}, partition {part.partition}: was read up to offset {part.start}, ends at {part.end}"
            )
            raise StreamAppError(f"{problem}; {_advice(bronze)}")
    return sorted((part for part in ranges if part.offsets > 0), key=lambda part: part.partition)


def splits_of(ranges: Sequence[OffsetRange], spark: SparkSession) -> DataFrame:
    """Return the ranges as SPLIT, a row for each task."""
    found = shares(ranges, spark.sparkContext.defaultParallelism)
    return spark.createDataFrame(pa.Table.from_batches([encoded(found)]), SPLIT)


def shares(ranges: Sequence[OffsetRange], most: int) -> list[list[OffsetRange]]:
    """Cut the ranges, in order, into at most `most` equal shares, fewer where these would be small."""
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


@dataclass(frozen=True)
class Told:
    """What a task has learnt beside the records that it read."""

    read: dict[int, tuple[int, int | None]]
    """By partition: the offset behind the last record, and its leader epoch (admission/topic_epochs.py)."""
    diverged: dict[int, int]
    """Where a partition's log became another one, if FAIL_ON_DATA_LOSS=false let the task go on."""
    unread: list[Unread]
    """What it stepped over by the same."""


class Records:
    """Reads a feed's topic inside of Spark's tasks."""

    def __init__(self, bronze: Flow, kafka: KafkaConnection, *, fail_on_data_loss: bool) -> None:
        self._bronze = bronze
        self._topic = bronze.feed.topic
        self._may_skip = not fail_on_data_loss
        own = {"group.id": group(bronze.feed.name), "isolation.level": kafka.isolation_level}
        self._config: dict[str, object] = {**client_config(kafka), **own}
        self._told = Told({}, {}, [])

    def read(self, splits: Batches) -> Batches:
        """Yield the records of the splits as schema.BRONZE, in the order of partition and offset.

        Raises StreamAppError where records cannot be read, but for FAIL_ON_DATA_LOSS=false. Raises UnavailableError
        where no broker gives them.
        """
        self._told = Told({}, {}, [])
        reader = PartitionReader(self._topic, self._config, self._lose, self._diverge)
        try:
            for part in (part for share in decoded(splits) for part in share):
                for messages in reader.read(part):
                    self._told.read[part.partition] = offset_of(messages[-1]) + 1, messages[-1].leader_epoch()
                    yield records(messages, self._topic)
        finally:
            reader.close()

    def told(self) -> Told:
        """Return what a task that has read its splits knows beside their records."""
        return self._told

    def _lose(self, lost: Unread) -> None:
        self._refuse(f"topic {self._topic}, {lost}")
        self._told.unread.append(lost)

    def _diverge(self, part: OffsetRange, diverged: int) -> None:
        self._refuse(topic_epochs.problem(self._topic, part.partition, part.start, diverged))
        self._told.diverged[part.partition] = diverged

    def _refuse(self, problem: str) -> None:
        if not self._may_skip:
            raise StreamAppError(f"{problem}; {_advice(self._bronze)}")


def _advice(bronze: Flow) -> str:
    return f"go on without it by FAIL_ON_DATA_LOSS=false, or reset it with: {reset_command(bronze)}"
