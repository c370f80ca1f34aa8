"""Offsets that bronze could not read and stepped over, with FAIL_ON_DATA_LOSS=false: kept beside its checkpoint.

The file is `unread.jsonl` in bronze's checkpoint folder, so a reset of bronze takes it along. A line is a range:

    {"batch": 7, "partition": 0, "first": 100, "end": 110, "reason": "failed CRC32C check"}

`end` is the offset after the last. A range lies inside of the batch's offsets, and no two ranges share an offset. A
line is on the disk before the batch's file appears, so it may be of a batch that is not committed.

An offset that bronze has passed may be neither in bronze nor in this file. It holds no record that Kafka would give: a
marker or an aborted record of a transaction, or what compaction took. Kafka does not tell these from each other.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from stream_app.flows.flow import Flow
from stream_app.storage.batch_files import replace_text
from stream_app.storage.checkpoint import damaged


@dataclass(frozen=True, order=True)
class Unread:
    """Offsets of a partition, from `first` up to and without `end`, that could not be read."""

    partition: int
    first: int
    end: int
    reason: str

    @property
    def offsets(self) -> int:
        """How many these are."""
        return self.end - self.first

    def __str__(self) -> str:
        """As a person is told of it."""
        last = self.end - 1
        which = f"offset {last}" if last == self.first else f"offsets {self.first} to {last}"
        return f"partition {self.partition}, {which}: {self.reason}"


def read(bronze: Flow) -> dict[int, list[Unread]]:
    """Return the ranges that each batch of bronze stepped over, in order."""
    found: dict[int, list[Unread]] = {}
    try:
        for line in bronze.layout.unread.read_text().splitlines():
            noted = json.loads(line)
            found.setdefault(noted.pop("batch"), []).append(Unread(**noted))
    except FileNotFoundError:
        return {}
    except (ValueError, LookupError, TypeError, AttributeError):
        raise damaged(bronze.layout.unread) from None
    return found


def note(bronze: Flow, batch_id: int, ranges: Iterable[Unread]) -> None:
    """Note what the batch steps over, in place of what an earlier run of it has noted."""
    now = joined(ranges)
    noted = read(bronze)
    if noted.get(batch_id, []) == now:
        return
    every = noted | {batch_id: now}
    lines = [json.dumps({"batch": batch} | asdict(one)) for batch in sorted(every) for one in every[batch]]
    replace_text(bronze.layout.unread, "".join(f"{line}\n" for line in lines))


def joined(ranges: Iterable[Unread]) -> list[Unread]:
    """Return the ranges in order; ranges that touch and have one reason are one."""
    found: list[Unread] = []
    for one in sorted(set(ranges)):
        last = found[-1] if found else None
        if last and (last.partition, last.end, last.reason) == (one.partition, one.first, one.reason):
            found[-1] = Unread(one.partition, last.first, one.end, one.reason)
        else:
            found.append(one)
    return found
