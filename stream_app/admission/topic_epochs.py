"""Which log bronze has read: for each partition the offset behind its last record, and the leader epoch of that.

After an unclean leader election Kafka gives offsets that were read to other records. Nothing in an offset tells. But
the broker can be asked where an epoch ended. If that is before our offset, librdkafka says that the log was truncated.

Positions are kept beside the checkpoint and not in bronze's files, because a batch without rows has no file. An entry
counts for the batch after its own alone: by an older one a log that is whole would seem cut. Without an entry nothing
is asked: before the first batch, after a power cut, or where an older version wrote.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from confluent_kafka import TopicPartition

from stream_app.flows.flow import Flow
from stream_app.storage.batch_files import replace_text

# Behind the last record may be marks of transactions and records of aborted ones: as many are read again at most.
_LONGEST_GAP = 10_000


@dataclass(frozen=True)
class Position:
    """What a partition was read up to: the offset behind the last record, and the leader epoch of that record."""

    offset: int
    epoch: int


def before(flow: Flow, batch_id: int) -> dict[int, Position]:
    """Return what bronze had read of each partition before the batch, as far as that is known."""
    return _read(flow).get(batch_id - 1, {})


def keep(flow: Flow, batch_id: int, read: Iterable[Mapping[int, tuple[int, int | None]]]) -> None:
    """Note what the batch has read, before its file appears: by partition, the offset behind a record, and its epoch.

    A partition whose epoch the broker did not tell is forgotten.
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


def problem(topic: str, partition: int, start: int, diverged: int) -> str:
    """Return the line that tells of a log that became another one."""
    return (
        f"topic {topic}, partition {partition}: was read up to offset {start}, but an unclean leader election has "
        f"cut the log at offset {diverged}: offsets {diverged} to {start} are other records now, or none"
    )


def to_ask(topic: str, starts: Mapping[int, int], read: Mapping[int, Position]) -> list[TopicPartition]:
    """Return the places at which Kafka can tell whether the log is the one that was read."""
    places = [assigned(topic, p, start, read.get(p)) for p, start in starts.items() if p in read]
    return [place for place in places if place.leader_epoch is not None]


def _read(flow: Flow) -> dict[int, dict[int, Position]]:
    """Return what is noted; nothing where it cannot be read, as after a power cut."""
    try:
        kept = json.loads(flow.layout.leader_epochs.read_text())
        return {
            int(batch): {int(p): Position(int(offset), int(epoch)) for p, (offset, epoch) in found.items()}
            for batch, found in kept.items()
        }
    except (FileNotFoundError, ValueError, TypeError, AttributeError):
        return {}
