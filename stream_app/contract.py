"""The contract of a feed: (value bytes, Kafka timestamp) -> a typed row, or all reasons why not. Pure; no pyspark.

msgspec decides the common case in one strict pass; only what it refuses is judged again, slowly, to name every
reason. The first may refuse what the second accepts, never the other way round, and their rows are identical.

Numbers are judged by value, not by spelling: 5.0 and 5e0 are the long 5, 12.340 fits two decimals. A number that
its column cannot hold exactly (12.345, the long 5.5) or at all (1e400) is out_of_range; a double is rounded.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec

from stream_app.declared import Field
from stream_app.errors import ConfigError
from stream_app.feed import Feed
from stream_app.wire import Number, decimal_of, is_too_deep, json_of, microseconds, microseconds_of

Value = str | int | float | bool | Decimal
Row = tuple[Value, ...]

FORGIVABLE = frozenset({"late", "future"})


@dataclass(frozen=True, slots=True)
class Rejected:
    """Why a record is no row: at least one reason, by field in the feed's order, then late and future."""

    reasons: tuple[str, ...]


_EMPTY = Rejected(("empty",))
_NOT_JSON = Rejected(("not_json",))
_NOT_OBJECT = Rejected(("not_object",))


class Contract:
    """The function of one feed; `check` is all that it does.

    columns: silver's declared columns, in the order of a row's values.
    forgive: reasons that do not keep a record out (replay); ConfigError for any but late and future, since
    only those leave a whole row.
    """

    def __init__(self, feed: Feed, forgive: frozenset[str] = frozenset()) -> None:
        if stern := sorted(forgive - FORGIVABLE):
            raise ConfigError(f"{', '.join(stern)} cannot be forgiven, only {' and '.join(sorted(FORGIVABLE))}")
        self.columns = tuple(feed.fields)
        self._columns = tuple(_COLUMNS[field.type.partition("(")[0]](field) for field in feed.fields.values())
        self._wires = tuple(map(feed.wire_name, feed.fields))
        self._finishes = tuple((i, c.finish) for i, c in enumerate(self._columns) if c.finish is not None)
        self._clock = self.columns.index(feed.event_time.field)
        self._lateness = math.inf if "late" in forgive else microseconds(feed.event_time.lateness)
        self._tolerance = math.inf if "future" in forgive else microseconds(feed.event_time.future_tolerance)
        # Attributes are numbered, since a column may have a name that no attribute can have.
        names = [f"f{i}" for i in range(len(self.columns))]
        record = msgspec.defstruct(
            "Record",
            [(name, column.decoded) for name, column in zip(names, self._columns, strict=True)],
            rename=dict(zip(names, self._wires, strict=True)),
            gc=False,
        )
        self._decode = msgspec.json.Decoder(record).decode

    def check(self, value: bytes | None, kafka_ts: int) -> Row | Rejected:
        """Judge one record by its value and its Kafka timestamp, in microseconds since the epoch.

        Return the row, in the order of `columns`: str, int, float, bool, Decimal of the declared scale, timestamps
        as int microseconds since the epoch; or Rejected. Never raises, and depends on nothing but its arguments.
        """
        if not value:
            return _EMPTY
        if (value.find(b"{", 1) > 0 or b"[" in value) and is_too_deep(value):  # most records are flat
            return _NOT_JSON
        row = self._decide(value, kafka_ts)
        return self._explain(value, kafka_ts) if row is None else row

    def _decide(self, value: bytes, kafka_ts: int) -> Row | None:
        """Return the row of a valid record, fast; None leaves the record to _explain."""
        try:
            record = self._decode(value)
            if not value.isascii():
                value.decode()  # msgspec does not look into the text that it skips
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        row: list[Any] = list(msgspec.structs.astuple(record))
        for i, finish in self._finishes:
            finished = finish(row[i])
            if finished is None:
                return None
            row[i] = finished
        if -self._lateness <= row[self._clock] - kafka_ts <= self._tolerance:
            return tuple(row)
        return None

    def _explain(self, value: bytes, kafka_ts: int) -> Row | Rejected:
        try:
            record = json_of(value)
        except ValueError:
            return _NOT_JSON
        if not isinstance(record, dict):
            return _NOT_OBJECT
        row: list[Any] = []
        reasons: list[str] = []
        for wire, column in zip(self._wires, self._columns, strict=True):
            given = record.get(wire)
            judged = (
                column.judge(given) if type(given) is column.kind else ("missing" if given is None else "bad_type",)
            )
            row.append(judged)
            if isinstance(judged, tuple):
                reasons += [f"{reason}:{wire}" for reason in judged]
        if isinstance(time := row[self._clock], int):
            if time - kafka_ts < -self._lateness:
                reasons.append("late")
            if time - kafka_ts > self._tolerance:
                reasons.append("future")
        return Rejected(tuple(reasons)) if reasons else tuple(row)


@dataclass(frozen=True)
class _Column:
    """How one field is decoded and judged.

    decoded: the type that msgspec decodes and checks.
    finish: decoded value -> the row's value, or None where only `judge` can tell; None if decoded is the value.
    kind: the Python type of the JSON type that the field asks for; any other is bad_type.
    judge: JSON value of that kind -> the row's value, or the reasons why not.
    """

    decoded: Any
    finish: Callable[[Any], Value | None] | None
    kind: type
    judge: Callable[[Any], Value | tuple[str, ...]]


def _string(field: Field) -> _Column:
    shortest, longest = field.length or (0, sys.maxsize)
    pattern = field.pattern

    def finish(text: str) -> str | None:
        return text if pattern is None or pattern.fullmatch(text) else None

    def judge(text: str) -> str | tuple[str, ...]:
        if _SURROGATE.search(text):
            return ("bad_type",)
        reasons: tuple[str, ...] = () if shortest <= len(text) <= longest else ("out_of_range",)
        if (field.allowed is not None and text not in field.allowed) or finish(text) is None:
            reasons += ("not_allowed",)
        return reasons or text

    decoded: Any = Annotated[str, msgspec.Meta(min_length=shortest, max_length=longest)]
    if field.allowed:
        decoded = Literal[field.allowed]
    return _Column(decoded, finish if pattern else None, str, judge)


# Half of a pair is legal in JSON but is no character: neither UTF-8 nor Arrow can hold it.
_SURROGATE = re.compile("[\ud800-\udfff]")


def _boolean(_: Field) -> _Column:
    return _Column(bool, None, bool, lambda given: given)


def _timestamp(_: Field) -> _Column:
    return _Column(str, microseconds_of, str, _or(("bad_time",), microseconds_of))


def _double(field: Field) -> _Column:
    least, greatest = map(float, field.range) if field.range else (-sys.float_info.max, sys.float_info.max)

    def finish(number: float) -> float | None:
        return number + 0.0 if least <= number <= greatest else None  # -0.0 + 0.0 is 0.0

    return _Column(float, finish, Number, _or(("out_of_range",), lambda text: finish(float(text))))


def _long(field: Field) -> _Column:
    least, greatest = field.range or (-math.inf, math.inf)

    def finish(number: int) -> int | None:
        return number if least <= number <= greatest and -(2**63) <= number < 2**63 else None

    def read(text: str) -> int | None:
        number = decimal_of(text, 19, 0)
        return None if number is None else finish(int(number))

    return _Column(int, finish, Number, _or(("out_of_range",), read))


def _decimal(field: Field) -> _Column:
    precision, scale = field.precision_scale or (0, 0)
    least, greatest = field.range or (-math.inf, math.inf)

    def read(text: str) -> Decimal | None:
        number = decimal_of(text, precision, scale)
        return number if number is not None and least <= number <= greatest else None

    # Raw, because msgspec's own Decimal also takes the string "12.5".
    return _Column(msgspec.Raw, lambda raw: read(str(raw, "latin-1")), Number, _or(("out_of_range",), read))


def _or(reasons: tuple[str, ...], read: Callable[[str], Value | None]) -> Callable[[str], Value | tuple[str, ...]]:
    def judge(text: str) -> Value | tuple[str, ...]:
        value = read(text)
        return reasons if value is None else value

    return judge


_COLUMNS = {
    "string": _string,
    "boolean": _boolean,
    "timestamp": _timestamp,
    "double": _double,
    "long": _long,
    "decimal": _decimal,
}
