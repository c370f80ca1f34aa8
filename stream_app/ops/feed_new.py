"""A first feed file is written from a sample of a live topic."""

from __future__ import annotations

import os
import re
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import pyarrow as pa

from stream_app.contract.contract import Contract
from stream_app.contract.wire import is_too_deep, json_of
from stream_app.errors import ConfigError, StreamAppError
from stream_app.feeds.load import checked
from stream_app.feeds.parts import IDENTIFIER, KAFKA_TIME, quoted
from stream_app.kafka.connection import KafkaConnection
from stream_app.ops.first_feed import guess
from stream_app.ops.first_feed.seen import Seen
from stream_app.ops.first_feed.toml import feed_file
from stream_app.settings import PROJECT
from stream_app.sources.sample import Sampled, newest
from stream_app.storage.planned import UNBOUNDED

_SCHEMA = PROJECT / "docs" / "feed.schema.json"
_HEAD = """\
Written by make feed-new from {records:,} records of the topic{odd}. Types are what they have.
What is marked as a guess wants a look. Then add rules, windows and more: docs/feeds.md.
"""


@dataclass(frozen=True)
class Written:
    """A feed file that is new."""

    file: Path
    feed: str
    records: int
    odd: dict[str, int]
    """How many of them no feed takes, by the reason that quarantine will give."""
    refused: dict[str, int]
    """How many of the others this one would refuse, by reason."""
    unread: tuple[str, ...]
    """Offsets that nobody can read, a line each; they are not among the records."""
    guesses: tuple[str, ...]
    """What a person has to look at, a line each."""


def feed_new(kafka: KafkaConnection, directory: Path, topic: str, feed: str = "", most: int = 10_000) -> Written:
    """Write <directory>/<feed>.toml from up to `most` of the topic's newest records.

    feed: the topic's name, made fit, where it is empty.
    Raises ConfigError for a file that is there, a folder or a topic that is not, and records that make no feed.
    Raises StreamAppError where nothing can be read.
    """
    name = feed or _named(topic)
    file = directory / f"{name}.toml"
    if not IDENTIFIER.fullmatch(name):
        raise ConfigError(f"--feed: {quoted(name)} is no name for a feed, it must match {IDENTIFIER.pattern}")
    if not directory.is_dir():
        raise ConfigError(f"FEEDS_PATH: there is no folder {directory}; make it first")
    if file.exists():
        raise ConfigError(f"{file}: is there already; give another name by --feed, or move it away")
    sample = newest(kafka, topic, most)
    records, unread = sample.records, tuple(map(str, sample.unread))
    if unread and not records:
        raise StreamAppError(f"topic {topic}: nothing of the sample can be read: {'; '.join(unread)}")
    text, odd, guesses = proposed(topic, records)
    written = Written(file, name, len(records), odd, _refused(name, text, records), unread, guesses)
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(f"#:schema {os.path.relpath(_SCHEMA, directory)}\n{text}")  # for editors
    except FileExistsError:
        raise ConfigError(f"{file}: is there already") from None
    return written


def proposed(topic: str, records: Sequence[Sampled]) -> tuple[str, dict[str, int], tuple[str, ...]]:
    """Return the text of a feed file, how many records are odd, by reason, and what is a guess."""
    root, odd = Seen(), Counter[str]()
    for record in records:
        value = _object(record.value)
        if isinstance(value, str):
            odd[value] += 1
        else:
            root.add(value, record.kafka_us)
    shown = ", ".join(f"{count:,} {reason}" for reason, count in sorted(odd.items()))
    if not root.objects:
        found = f"{len(records):,} records ({shown})" if records else "no record"
        raise ConfigError(f"topic {topic}: has {found}; a feed file is made of JSON objects")
    time = guess.event_time(root)
    key = guess.dedupe_key(root)
    fields = guess.fields(root, frozenset({time.path, *([key.path] if key else [])}))
    head = _HEAD.format(records=len(records), odd=f", of which {shown}" if odd else "")
    text = feed_file(topic, head.strip(), fields, time, key)
    guesses = (
        f"event_time: {'.'.join(time.path) or KAFKA_TIME}: {time.why}",
        f"dedupe: {'.'.join(key.path)}: {key.why}" if key else "dedupe: none: no member tells the records apart",
    )
    typed = tuple(f"{column}: {one.type}: {one.why}" for column, one in fields.items() if one.why)
    return text, dict(odd), guesses + typed


def _named(topic: str) -> str:
    return re.sub("_+", "_", re.sub("[^a-z0-9]", "_", topic.lower())).strip("_0123456789")[:60] or "feed"


def _object(value: bytes | None) -> dict[str, object] | str:
    """Return the record, or why it is none."""
    if not value:
        return "empty"
    try:
        found = None if is_too_deep(value) else json_of(value)
    except ValueError:
        return "not_json"
    if isinstance(found, dict):
        return found
    return "not_json" if is_too_deep(value) else "not_object"


def _refused(name: str, text: str, records: Sequence[Sampled]) -> dict[str, int]:
    """Return how many of the records that are objects the feed would refuse, by reason. It must be none."""
    feed, problems = checked(name, tomllib.loads(text, parse_float=Decimal))
    if feed is None:
        raise StreamAppError("; ".join(f"{key}: {problem}" for key, problem in problems))
    objects = [record for record in records if not isinstance(_object(record.value), str)]
    values = pa.array([record.value for record in objects], pa.binary())
    times = pa.array([record.kafka_us for record in objects], pa.int64())
    planned = pa.array([UNBOUNDED] * len(objects), pa.int64())
    rejected = Contract(feed).check_all(values, times, planned).rejected
    return dict(Counter(reason for _, verdict in rejected for reason in verdict.reasons))
