"""Where a batch begins and ends, as a checkpoint has it: the offsets of a topic, or a place in a layer's files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

IDLE_CLOCK, WATERMARK = "idle_clock", "watermark"
_SELDOM = {IDLE_CLOCK, WATERMARK}


@dataclass(frozen=True)
class LayerOffset:
    """What a query has taken of the files of the layer before it; as it is, before the first of them."""

    batch: int = -1
    """The newest batch."""
    clock: int = 0
    """The newest Kafka timestamp in them, in microseconds since the epoch; 0 where the layer has none."""
    replay: int = -1
    """The newest file of the ledger of replayed records, which silver reads too."""
    idle_clock: int = 0
    """How far the event time went without a record, in microseconds since the epoch; 0 where it never did."""
    watermark: int = 0
    """The watermark, in milliseconds, of the newest batch that ran because a start found it due; 0 before the first."""

    def as_json(self) -> dict[str, Any]:
        """Return it as Spark notes it; where nothing seldom has happened, as it always was."""
        return {key: at for key, at in asdict(self).items() if at or key not in _SELDOM}


@dataclass(frozen=True)
class TopicOffsets:
    """The next offset of each partition of a topic."""

    topic: str
    partitions: Mapping[int, int]

    def as_json(self) -> dict[str, Any]:
        """Return it as Spark notes it."""
        return {self.topic: {str(partition): at for partition, at in self.partitions.items()}}


Offset = LayerOffset | TopicOffsets


def in_layer(offset: Offset) -> LayerOffset:
    """Return the offset of a query that follows a layer."""
    assert isinstance(offset, LayerOffset)  # noqa: S101 - the caller knows what the query follows
    return offset


def by_partition(offset: Offset) -> Mapping[int, int]:
    """Return the offsets of a query that reads a topic."""
    assert isinstance(offset, TopicOffsets)  # noqa: S101 - the caller knows what the query reads
    return offset.partitions


def parse(noted: Mapping[str, Any]) -> Offset:
    """Return what Spark has noted. Raises ValueError, LookupError or TypeError where that is neither.

    The place in a layer is a number; a topic has partitions, whatever its name is.
    """
    if isinstance(noted.get("batch"), int):
        return LayerOffset(*(int(noted.get(name, default)) for name, default in _BEFORE_ALL.items()))
    ((topic, partitions),) = noted.items()
    return TopicOffsets(topic, {int(partition): int(at) for partition, at in partitions.items()})


_BEFORE_ALL = asdict(LayerOffset())
