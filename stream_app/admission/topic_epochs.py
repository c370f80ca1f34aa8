"""Which log bronze has read: for each partition the offset behind its last record, and the leader epoch of that.

After an unclean leader election Kafka gives offsets that were read to other records. Nothing in an offset tells; but
asked where an epoch ended, the broker names an offset before ours, and librdkafka then says that the log was truncated.

They are kept beside the checkpoint, and not in bronze's files, for a batch without rows has none. An entry counts for
the batch after its own alone: with an older one a log that is whole would seem cut. Without an entry, as before the
first batch, after a power cut or where an older version wrote, nothing is asked.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaError, TopicPartition

from stream_app.feeds.feed import Feed
from stream_app.flows.flow import Flow
from stream_app.kafka.client import client_config, group
from stream_app.settings import Settings
from stream_app.storage.batch_files import replace_text

# Behind the last record may be marks of transactions and records of aborted ones: as many are read again at most.
_LONGEST_GAP = 10_000
_TRUNCATED = re.compile(r"log truncation detected.* broker end offset is (-?\d+)")
_CHECK_SECONDS = 10.0


@dataclass(frozen=True)
class Position:
    """What a partition was read up to: the offset behind the last record, and the leader epoch of that record."""

    offset: int
    epoch: int


def before(flow: Flow, batch_id: int) -> dict[int, Position]:
    """What bronze had read of each partition before the batch, as far as that is known."""
    return _read(flow).get(batch_id - 1, {})


def keep(flow: Flow, batch_id: int, read: Iterable[Mapping[int, tuple[int, int | None]]]) -> None:
    """Note what the batch has read, before its file appears: by partition, the offset behind a record, and its epoch.

    A partition of which the broker told no epoch is forgotten.
    """
    kept = _read(flow)
    newest: dict[int, tuple[int, int | None]] = {}
    for positions in read:
        newest |= {p: position for p, position in positions.items() if p not in newest or newest[p] < position}
    known = {p: position for p, position in kept.get(batch_id - 1, {}).items() if p not in newest}
    known |= {p: Position(offset, epoch) for p, (offset, epoch) in newest.items() if epoch is not None}
    entries = {batch: positions for batch, positions in kept.items() if batch == batch_id - 1} | {batch_id: known}
    written = {batch: {p: [at.offset, at.epoch] for p, at in found.items()} for batch, found in entries.items()}
    # not flushed, for each batch writes it: what a power cut leaves is of no batch that counts, or not to be read
    replace_text(flow.layout.leader_epochs, json.dumps(written), flushed=False)


def assigned(topic: str, partition: int, start: int, read: Position | None) -> TopicPartition:
    """Where to begin in order to read from `start` on, so that Kafka checks that it is the log that was read before."""
    if read is None or not 0 <= start - read.offset <= _LONGEST_GAP:
        return TopicPartition(topic, partition, start)
    return TopicPartition(topic, partition, read.offset, leader_epoch=read.epoch)


def diverged_at(error: KafkaError) -> int | None:
    """Where the log became another one, if that is what the error of a partition says."""
    found = _TRUNCATED.search(error.str())
    return max(0, int(found[1])) if found else None


def problem(topic: str, partition: int, start: int, diverged: int) -> str:
    """The line that tells of a log that became another one."""
    return (
        f"topic {topic}, partition {partition}: was read up to offset {start}, but an unclean leader election has "
        f"cut the log at offset {diverged}: offsets {diverged} to {start} are other records now, or none"
    )


def diverged(feed: Feed, settings: Settings, starts: Mapping[int, int], read: Mapping[int, Position]) -> dict[int, int]:
    """Ask Kafka which partitions' logs became other ones, and where; one that does not answer is left out."""
    asked = [assigned(feed.topic, p, start, read.get(p)) for p, start in starts.items() if p in read]
    asked = [place for place in asked if place.leader_epoch is not None]
    if not asked:
        return {}
    config = {"enable.auto.commit": False, "enable.partition.eof": True, "auto.offset.reset": "error", "log_level": 0}
    asking = {"group.id": group(feed.name), "fetch.message.max.bytes": 1}
    consumer = Consumer({**client_config(settings.kafka), **config, **asking})
    found: dict[int, int] = {}
    try:
        consumer.assign(asked)
        waiting, deadline = {place.partition for place in asked}, time.monotonic() + _CHECK_SECONDS
        while waiting and time.monotonic() < deadline:
            message = consumer.poll(0.1)
            if message is None or message.topic() is None or (partition := message.partition()) is None:
                continue
            waiting.discard(partition)
            error = message.error()
            if error is not None and (at := diverged_at(error)) is not None:
                found[partition] = at
    finally:
        consumer.close()
    return found


def _read(flow: Flow) -> dict[int, dict[int, Position]]:
    try:
        kept = json.loads(flow.layout.leader_epochs.read_text())
        return {int(b): {int(p): Position(*at) for p, at in found.items()} for b, found in kept.items()}
    except (FileNotFoundError, ValueError):
        return {}
