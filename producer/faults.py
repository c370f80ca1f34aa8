"""Traffic as it is: valid records, and a seeded share of deliberately bad, late, future and repeated ones."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import NamedTuple

import msgspec

from producer.events import FAR_MS, Contract, Event, EventSource, seeded

REPEAT_SLOTS = 24  # reaching back over about 2 ** 24 records; their age bounds it sooner

encode = msgspec.json.Encoder().encode


class Kind(StrEnum):
    """What a message was made to be."""

    VALID = "valid"
    BAD = "bad"
    LATE = "late"
    FUTURE = "future"
    REPEATED = "repeated"


class Message(NamedTuple):
    """A record as it goes to Kafka."""

    key: str
    value: bytes | None
    timestamp_ms: int
    kind: Kind


@dataclass(frozen=True)
class Shares:
    """How much of the traffic is made of each kind of fault, from 0 to 1; together at most 1."""

    bad: float = 0.0
    late: float = 0.0
    future: float = 0.0
    repeated: float = 0.0


class Traffic:
    """A seeded, endless stream of messages.

    The same feed, seed, shares and timestamps give the same messages, byte for byte. Other timestamps change
    the event times, and at most which record is repeated, for a repeat must be fresh.
    """

    def __init__(self, events: EventSource, shares: Shares, seed: int) -> None:
        self._events = events
        self._contract = events.contract
        self._rng = seeded("faults", seed)
        self._recent = Recent(self._contract.lateness_ms)
        self._bad_below = shares.bad
        self._late_below = self._bad_below + shares.late
        self._future_below = self._late_below + shares.future
        self._repeated_below = self._future_below + shares.repeated

    def message(self, timestamp_ms: int) -> Message:
        """Make the next message, to be sent with this Kafka timestamp."""
        draw = self._rng.random()
        if draw >= self._repeated_below:
            return self._valid(timestamp_ms)
        if draw < self._bad_below:
            event = self._events.event(self._in_time(timestamp_ms))
            return Message(event.key, spoiled(event, self._contract, self._rng), timestamp_ms, Kind.BAD)
        if draw < self._late_below:
            late = self._contract.late
            event = self._events.event(timestamp_ms - late.age_ms - self._up_to(late.more_ms))
            return Message(event.key, encode(event.fields), timestamp_ms, Kind.LATE)
        if draw < self._future_below:
            event = self._events.event(timestamp_ms + self._contract.future_tolerance_ms + self._up_to(FAR_MS))
            return Message(event.key, encode(event.fields), timestamp_ms, Kind.FUTURE)
        earlier = self._recent.pick(self._rng.random(), timestamp_ms)
        if earlier is None:
            return self._valid(timestamp_ms)
        return Message(earlier.key, earlier.value, timestamp_ms, Kind.REPEATED)

    def _valid(self, timestamp_ms: int) -> Message:
        time_ms = self._in_time(timestamp_ms)
        event = self._events.event(time_ms)
        message = Message(event.key, encode(event.fields), timestamp_ms, Kind.VALID)
        self._recent.keep(message, time_ms)
        return message

    def _in_time(self, timestamp_ms: int) -> int:
        return timestamp_ms - int(self._rng.random() * self._contract.max_delay_ms)

    def _up_to(self, most_ms: int) -> int:
        """From a second to so many milliseconds, each magnitude as likely as the next; 0 where that is the most."""
        return int(10 ** self._rng.uniform(3, math.log10(most_ms))) if most_ms else 0


class Recent:
    """A few dozen valid messages, some from just now and some from long ago, at any rate of traffic.

    Slot i takes every 2 ** (i + 1)-th message (a ruler sequence), so they reach back over any batch.
    """

    def __init__(self, max_age_ms: int) -> None:
        self._max_age_ms = max_age_ms
        self._kept = 0
        self._slots: list[tuple[Message, int] | None] = [None] * REPEAT_SLOTS

    def keep(self, message: Message, time_ms: int) -> None:
        """Remember a message and its event time."""
        self._kept += 1
        slot = (self._kept & -self._kept).bit_length() - 1
        self._slots[min(slot, REPEAT_SLOTS - 1)] = (message, time_ms)

    def pick(self, draw: float, timestamp_ms: int) -> Message | None:
        """One of the messages by a number from 0 to 1; None if none is fresh enough.

        Fresh is what is not late at the new timestamp: a late repeat would be quarantined, and prove nothing
        about repeats.
        """
        fresh = [kept[0] for kept in self._slots if kept and timestamp_ms - kept[1] <= self._max_age_ms]
        return fresh[int(draw * len(fresh))] if fresh else None


def spoiled(event: Event, contract: Contract, rng: Random) -> bytes | None:
    """Encode the event, broken in one of the ways of `SPOILERS`; None is a tombstone."""
    ways = list(SPOILERS.values())
    # keys that nobody knows are a quarter of the bad records of a feed that looks keys up
    return rng.choice([*ways, *[_unknown] * (len(ways) // 3)] if contract.unknown else ways)(event, contract, rng)


def _with(event: Event, field: str, value: object) -> bytes:
    return encode({**event.fields, field: value})


def _cut(event: Event, _contract: Contract, rng: Random) -> bytes:
    value = encode(event.fields)
    return value[: rng.randrange(1, len(value))]


def _invalid_utf8(event: Event, _contract: Contract, rng: Random) -> bytes:
    value = encode(event.fields)
    at = rng.randrange(len(value) + 1)
    return value[:at] + rng.choice((b"\xff", b"\xc3\x28", b"\xed\xa0\x80")) + value[at:]


def _not_finite(event: Event, contract: Contract, rng: Random) -> bytes:
    fields = {**event.fields, rng.choice(contract.required): rng.choice((math.nan, math.inf, -math.inf))}
    return json.dumps(fields).encode()  # the standard library writes NaN and Infinity, which JSON does not know


def _missing(event: Event, contract: Contract, rng: Random) -> bytes:
    absent = rng.choice(contract.required)
    return encode({name: value for name, value in event.fields.items() if name != absent})


def _bad_type(event: Event, contract: Contract, rng: Random) -> bytes:
    field = rng.choice(contract.required)
    value = event.fields[field]
    other: object = rng.choice((42, 0.5)) if isinstance(value, str) else str(value)
    return _with(event, field, rng.choice((other, [value], {"value": value}, True)))


def _bad_time(event: Event, contract: Contract, rng: Random) -> bytes:
    time = str(event.fields[contract.time_field])
    day, clock = time[:10], time[11:]
    wrong = (
        "yesterday",
        day,
        clock,
        "",
        "1764547200",
        f"{day[:4]}-02-31T{clock}",
        f"{day}T25:00:00Z",
        f"{time}[UTC]",
    )
    return _with(event, contract.time_field, rng.choice(wrong))


def _refused(event: Event, contract: Contract, rng: Random) -> bytes:
    field = rng.choice(list(contract.refused))
    return _with(event, field, rng.choice(contract.refused[field]))


def _unknown(event: Event, contract: Contract, rng: Random) -> bytes:
    field = rng.choice(list(contract.unknown))
    return _with(event, field, rng.choice(contract.unknown[field]))


Spoiler = Callable[[Event, Contract, Random], bytes | None]

SPOILERS: Mapping[str, Spoiler] = {
    "cut": _cut,
    "not JSON": lambda event, _contract, _rng: f"ERROR could not serialise {event.key}".encode(),
    "trailing text": lambda event, _contract, rng: encode(event.fields) + rng.choice((b"}", b" ok", b"{}", b"\x00")),
    "invalid UTF-8": _invalid_utf8,
    "not finite": _not_finite,
    "not an object": lambda event, _contract, rng: encode(rng.choice(([event.fields], event.key, 7, None, []))),
    "empty": lambda _event, _contract, _rng: b"",
    "tombstone": lambda _event, _contract, _rng: None,
    "missing": _missing,
    "null": lambda event, contract, rng: _with(event, rng.choice(contract.required), None),
    "bad type": _bad_type,
    "bad time": _bad_time,
    "refused": _refused,
}
