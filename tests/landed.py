"""A landing zone made without Kafka: records of the shop's producers in files, as a run of `make land` writes them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from confluent_kafka import Message

from producer.events import source
from producer.faults import Shares, Traffic
from stream_app.landing.lines import Writer, encoded, read
from stream_app.landing.zone import LandedFile, Zone

START = datetime(2026, 11, 20, 22, 0, tzinfo=UTC)
SHARES = Shares(bad=0.05, late=0.02, future=0.02, repeated=0.1)


def landed(zone: Zone) -> dict[tuple[int, int], bytes | None]:
    """The value of every record that has landed; a place that is there twice fails."""
    found: dict[tuple[int, int], bytes | None] = {}
    for file in zone.files():
        for line in (line for lines in read(file) for line in lines):
            assert (line.partition, line.offset) not in found
            found[line.partition, line.offset] = line.value_bytes
    return found


@dataclass
class Topic:
    """A topic of two partitions, which goes over midnight, and what of it has landed."""

    name: str
    root: Path
    seed: int = 1
    ends: dict[int, int] = field(default_factory=lambda: {0: 0, 1: 0})
    now: datetime = START
    feed: str = ""
    """The producer's, where it is not called as the topic."""

    def __post_init__(self) -> None:
        self._traffic = Traffic(source(self.feed or self.name, self.seed), SHARES, self.seed)
        self._rng = random.Random(self.seed)
        self.zone = Zone(self.root, self.name)
        self.zone.folder.mkdir(parents=True, exist_ok=True)
        self.zone.claim("id")

    def land(self, count: int, step_seconds: float = 20) -> list[LandedFile]:
        """Land so many more records, with event times that go on; a repeat may be in the other partition."""
        came: dict[int, list[Message]] = {0: [], 1: []}
        for _ in range(count):
            self.now += timedelta(seconds=step_seconds)
            message = self._traffic.message(int(self.now.timestamp() * 1000))
            partition = self._rng.randrange(2)
            came[partition].append(self._message(partition, message.key.encode(), message.value, message.timestamp_ms))
        return [self.write(messages, self.now) for messages in came.values() if messages]

    def write(self, messages: Sequence[Message], time: datetime) -> LandedFile:
        """Write a file of messages of one partition."""
        partition, first, last = messages[0].partition(), messages[0].offset(), messages[-1].offset()
        assert partition is not None
        assert first is not None
        assert last is not None
        file = self.zone.file(time, partition, first, last)
        file.path.parent.mkdir(parents=True, exist_ok=True)
        writer = Writer(file.path)
        writer.write(encoded(messages, int(time.timestamp() * 1000)))
        writer.close()
        return file

    def _message(self, partition: int, key: bytes, value: bytes | None, time_ms: int) -> Message:
        offset = self.ends[partition]
        self.ends[partition] += self._rng.choice((1, 1, 1, 2))  # a marker of a transaction has an offset, too
        made: dict[str, Any] = {"key": key, "value": value, "timestamp": (1, time_ms)}
        return Message(topic=self.name, partition=partition, offset=offset, **made)
