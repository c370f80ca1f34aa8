"""What the records of a sample have: for each member, how often and which values. Pure."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from stream_app.contract.scalars import uuid_of
from stream_app.contract.times import EPOCH_UNITS, days_of, epoch_reader, microseconds_of
from stream_app.contract.wire import Number, decimal_of

Path = tuple[str, ...]
_LONG_DIGITS = 19
MOST_DIGITS = 28
"""Of a decimal: there is room for a sum of them (feeds/fields.py)."""
_MOST_DECIMALS = 10  # more has what is no money


_READERS = {unit: epoch_reader(unit) for unit in EPOCH_UNITS}
_EPOCH_DIGITS = 9
"""Fewer has no second since 1973."""


@dataclass
class Distance:
    """How far times are from Kafka's timestamps of their records, in microseconds; negative before them."""

    least: int = 0
    most: int = 0

    @property
    def far(self) -> int:
        """The distance of the one that is farthest off."""
        return max(-self.least, self.most)

    def add(self, event_us: int, kafka_us: int) -> None:
        """Add one."""
        self.merge(Distance(event_us - kafka_us, event_us - kafka_us))

    def merge(self, other: Distance) -> None:
        """Add those of another."""
        self.least, self.most = min(self.least, other.least), max(self.most, other.most)


@dataclass
class Seen:
    """The values of one member, wherever it was."""

    kinds: set[str] = field(default_factory=set)
    """JSON's types of them, null left out."""
    given: int = 0
    """How often it was there, and not null."""
    values: set[Any] = field(default_factory=set)
    """The different texts and numbers among them."""
    members: dict[str, Seen] = field(default_factory=dict)
    objects: int = 0
    entries: int = 0
    """How many members all its objects have, null ones too."""
    element: Seen | None = None
    elements: int = 0
    is_long: bool = True
    is_double: bool = True
    decimals: int = 0
    """Of numbers the most decimals; -1 where one is no decimal that fits."""
    whole_digits: int = 0
    """Of those numbers the most digits before the point."""
    is_time: bool = True
    is_date: bool = True
    is_uuid: bool = True
    is_text: bool = True
    """Whether all texts are characters: half of a pair is none."""
    distance: Distance = field(default_factory=Distance)
    """Of texts that are times."""
    epochs: dict[str, Distance] = field(default_factory=lambda: {name: Distance() for name in _READERS})
    """Of numbers, by each `format` that reads all of them."""

    def add(self, value: object, kafka_us: int) -> None:
        """Add a value as contract/wire.py parses it, of a record with that Kafka timestamp."""
        if value is None:
            return
        self.given += 1
        match value:
            case dict():
                self.kinds.add("object")
                self.objects += 1
                self.entries += len(value)
                for name, one in value.items():
                    self.members.setdefault(name, Seen()).add(one, kafka_us)
            case list():
                self.kinds.add("array")
                self.element = self.element or Seen()
                self.elements += len(value)
                for one in value:
                    self.element.add(one, kafka_us)
            case bool():
                self.kinds.add("boolean")
            case Number():
                self.kinds.add("number")
                self.values.add(value)
                self._number(value, kafka_us)
            case str():
                self.kinds.add("string")
                self.values.add(value)
                self._text(value, kafka_us)

    def _number(self, text: Number, kafka_us: int) -> None:
        self.epochs = dict(self._as_times(text, kafka_us))
        is_whole = not {*text} & {*".eE"}
        self.is_long = self.is_long and is_whole and _fits_long(text)
        self.is_double = self.is_double and abs(float(text)) <= sys.float_info.max
        whole, _, fraction = text.lstrip("-").partition(".")
        scale = len(fraction)
        if {*text} & {*"eE"} or scale > _MOST_DECIMALS or decimal_of(text, MOST_DIGITS, scale) is None:
            self.decimals = -1
        elif self.decimals >= 0:
            self.decimals = max(self.decimals, scale)
            self.whole_digits = max(self.whole_digits, len(whole))

    def _as_times(self, text: Number, kafka_us: int) -> Iterator[tuple[str, Distance]]:
        for name, distance in self.epochs.items() if len(text) > _EPOCH_DIGITS else ():
            if (event_us := _READERS[name](text)) is not None:
                distance.add(event_us, kafka_us)
                yield name, distance

    def _text(self, text: str, kafka_us: int) -> None:
        if any("\ud800" <= sign <= "\udfff" for sign in text):
            self.is_text = False
        event_us = microseconds_of(text) if "-" in text else None  # 20260105 is rather a number
        if event_us is None:
            self.is_time = False
        else:
            self.distance.add(event_us, kafka_us)
        self.is_date = self.is_date and "-" in text and days_of(text) is not None
        self.is_uuid = self.is_uuid and uuid_of(text) is not None

    def merge(self, other: Seen) -> None:
        """Add the values of another member."""
        self.kinds |= other.kinds
        self.values |= other.values
        for counted in ("given", "objects", "entries", "elements"):
            setattr(self, counted, getattr(self, counted) + getattr(other, counted))
        for fits in ("is_long", "is_double", "is_time", "is_date", "is_uuid", "is_text"):
            setattr(self, fits, getattr(self, fits) and getattr(other, fits))
        self.whole_digits = max(self.whole_digits, other.whole_digits)
        self.decimals = -1 if -1 in (self.decimals, other.decimals) else max(self.decimals, other.decimals)
        self.distance.merge(other.distance)
        self.epochs = {name: distance for name, distance in self.epochs.items() if name in other.epochs}
        for name, distance in self.epochs.items():
            distance.merge(other.epochs[name])
        for name, one in other.members.items():
            self.members.setdefault(name, Seen()).merge(one)
        if other.element:
            self.element = self.element or Seen()
            self.element.merge(other.element)

    def always(self) -> Iterator[tuple[Path, Seen]]:
        """Yield what each object has, and each object in it, by the names that lead to it."""
        for name, one in self.members.items():
            if one.given == self.objects:
                yield (name,), one
                if one.kinds == {"object"}:
                    yield from (((name, *path), inner) for path, inner in one.always())


def _fits_long(text: str) -> bool:
    number = decimal_of(text, _LONG_DIGITS, 0)
    return number is not None and -(2**63) <= number < 2**63
