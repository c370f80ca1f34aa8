"""The records of an example, `input.jsonl`: what a producer would send, and when the service would read it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Annotated

import msgspec

from stream_app.contract.contract import Contract
from stream_app.contract.times import EPOCH, microseconds, microseconds_of
from stream_app.contract.verdict import Rejected
from stream_app.errors import ConfigError
from stream_app.feeds.feed import Feed
from stream_app.feeds.load import Mistake
from stream_app.feeds.parts import KAFKA_TIME, Wire
from stream_app.ops.examples.jsonl import rows

_MILLISECOND = 1000
_FIRST_US = microseconds(datetime(2026, 1, 1, tzinfo=UTC) - EPOCH)
_NEVER = 2**62
_Int = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]


@dataclass(frozen=True)
class Given:
    """One record of the topic."""

    value: bytes | None
    key: str | None
    kafka_us: int
    """Kafka's timestamp, in whole milliseconds, as microseconds since the epoch."""
    partition: int
    offset: int


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    """A line of the file."""

    value: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    text: str | msgspec.UnsetType = msgspec.UNSET
    base64: bytes | msgspec.UnsetType = msgspec.UNSET
    key: str | None = None
    kafka_ts: str | None = None
    partition: _Int = 0
    batch: _Int | None = None
    note: str = ""
    """For who reads the file."""

    @property
    def sent(self) -> bytes | None:
        """The value as it is sent, JSON exactly as the line spells it; None for a record without one."""
        given = [one for one in (self.value, self.text, self.base64) if one is not msgspec.UNSET]
        if len(given) > 1:
            raise ValueError("has more than one of value, text and base64")
        if not given:
            return None
        return given[0].encode() if isinstance(given[0], str) else bytes(given[0])


def read(path: Path, feed: Feed) -> list[list[Given]]:
    """Return the records by batch, each batch in the order in which the service has it: by partition and offset.

    A line is an object. `value` is the record's JSON value, `text` its text or `base64` its bytes; without any of them
    the record has no value. `key` is null, `partition` 0, `batch` that of the line before (0 at first), and `kafka_ts`
    the record's own event time, else that of the line before. Raises ConfigError, one line with all mistakes.
    """
    reader = _Reader(path, feed)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: {error.strerror if isinstance(error, OSError) else error}") from None
    for number, line in rows(text):
        reader.add(number, line)
    if reader.mistakes:
        raise ConfigError("; ".join(map(str, reader.mistakes)))
    return [
        sorted((record for _, record in batch), key=lambda record: (record.partition, record.offset))
        for _, batch in groupby(reader.records, key=lambda numbered: numbered[0])
    ]


class _Reader:
    """The lines read so far."""

    def __init__(self, path: Path, feed: Feed) -> None:
        self.records: list[tuple[int, Given]] = []
        self.mistakes: list[Mistake] = []
        self._path = path
        self._offsets: Counter[int] = Counter()
        self._batch = 0
        self._kafka_us = _FIRST_US
        self._event_time = _EventTime(feed)

    def add(self, number: int, line: str) -> None:
        """Read one more."""
        try:
            given = msgspec.json.decode(line, type=_Line)
            value, kafka_us = given.sent, self._time(given)
            if given.batch is not None and given.batch < self._batch:
                raise ValueError(f"batch: {given.batch} comes after {self._batch}")
        except ValueError as error:  # msgspec's, too
            self.mistakes.append(Mistake(self._path, number, "", str(error)))
            return
        self._batch = self._batch if given.batch is None else given.batch
        self._kafka_us = kafka_us
        record = Given(value, given.key, kafka_us, given.partition, self._offsets[given.partition])
        self._offsets[given.partition] += 1
        self.records.append((self._batch, record))

    def _time(self, given: _Line) -> int:
        if given.kafka_ts is None:
            event_us = self._event_time.of(given.sent)
            return self._kafka_us if event_us is None else event_us // _MILLISECOND * _MILLISECOND
        found = microseconds_of(given.kafka_ts)
        if found is None:
            raise ValueError(f"kafka_ts: {json.dumps(given.kafka_ts)} is no time such as 2026-01-01T00:00:00Z")
        if found % _MILLISECOND:
            raise ValueError(f"kafka_ts: {json.dumps(given.kafka_ts)}: Kafka's timestamps are whole milliseconds")
        return found


class _EventTime:
    """Reads the event time of records alone, be they valid or not."""

    def __init__(self, feed: Feed) -> None:
        column = feed.event_time.field
        alone = feed.model_copy(
            update={"fields": {column: feed.fields.get(column)}, "rules": {}, "lookups": {}, "wire": Wire()}
        )
        self._contract = None if column == KAFKA_TIME else Contract(alone, forgive=frozenset({"late"}))

    def of(self, value: bytes | None) -> int | None:
        """Return it in microseconds since the epoch; None where the record has none."""
        verdict = self._contract.check(value, _NEVER, _NEVER) if self._contract else None
        return None if verdict is None or isinstance(verdict, Rejected) else int(verdict[0])


def count(batches: Sequence[Sequence[Given]]) -> int:
    """Return how many records there are."""
    return sum(map(len, batches))
