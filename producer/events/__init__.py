"""What a feed's test traffic is made of: one module a feed, found by the feed's name.

A new feed is one new module `producer/events/<feed>.py` with a class `Events` that satisfies `EventSource`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import NamedTuple, Protocol, cast

FAR_MS = 10**11  # three years: how far a time may lie beyond a limit to which it does not matter how far


class Event(NamedTuple):
    """A valid record before it is encoded: the Kafka key, and the fields by their wire names."""

    key: str
    fields: dict[str, object]


class Late(NamedTuple):
    """The late records of a feed: their share unless LATE_SHARE says another, and how old they are."""

    share: float
    age_ms: int  # from their event time to their Kafka timestamp
    more_ms: int = 0  # at most so much on top, each magnitude as likely as the next


@dataclass(frozen=True)
class Contract:
    """What `faults` must know of a feed to break its records on purpose.

    It repeats a little of conf/feeds/<feed>.toml: the producer is a stranger to the app, as real ones are.
    """

    time_field: str
    required: tuple[str, ...]
    refused: Mapping[str, tuple[object, ...]]  # values of the right type that the contract still refuses
    lateness_ms: int
    future_tolerance_ms: int
    late: Late
    max_delay_ms: int  # from an event to its Kafka timestamp, for records that are neither late nor future
    unknown: Mapping[str, tuple[object, ...]] = field(default_factory=dict)  # keys that the feed's reference data lacks
    topic: str = ""  # where it is not called as the feed


class EventSource(Protocol):
    """A seeded, endless source of valid events."""

    contract: Contract

    def __init__(self, seed: int) -> None:
        """Two sources of one seed give the same events when asked for the same times."""

    def event(self, time_ms: int) -> Event:
        """Make the next event, with this event time. Nothing else in it depends on the time."""


def feeds() -> list[str]:
    """List the feeds that can be produced."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def source(feed: str, seed: int) -> EventSource:
    """Make the event source of one of `feeds()`."""
    module = importlib.import_module(f"{__name__}.{feed}")
    return cast("type[EventSource]", module.Events)(seed)


def seeded(purpose: str, seed: int) -> Random:
    """Make a random stream for one purpose, so that drawing more for it does not shift another."""
    return Random(f"{purpose} {seed}")  # noqa: S311 - test data, not a secret


def iso_utc(time_ms: int) -> str:
    """Write milliseconds since 1970 as ISO-8601 in UTC, for example 2026-11-21T01:20:30.125Z."""
    seconds, millis = divmod(time_ms, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{millis:03d}Z"
