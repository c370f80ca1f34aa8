"""The parts of a feed file: fields, windows, sessions, and the sinks beside them. No pyspark here."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterator
from datetime import timedelta
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from typing import Annotated, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, StringConstraints

# Lower case only: Spark resolves columns without regard to case, so two that differ by it would be one.
IDENTIFIER = re.compile(r"[a-z][a-z0-9_]{0,62}")
_DURATION = re.compile(r"([0-9]{1,6}) (second|minute|hour|day)s?")
_DECIMAL = re.compile(r"decimal\(([0-9]{1,2}),([0-9]{1,2})\)")
# A sum has ten digits more, and Spark's decimals have 38.
_SUMMABLE_DIGITS = 28
_WIDE_SUM = 2**31
_ROOMY = Context(prec=1000, Emin=MIN_EMIN, Emax=MAX_EMAX)
_MEASURE = re.compile(r"(count)|(sum|avg|max|min|distinct)\(([^()]+)\)")


def quoted(value: object) -> str:
    """A value as TOML writes it, on one line whatever it holds."""
    return json.dumps(value, default=str)


def _duration(value: object) -> timedelta:
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None or int(match[1]) == 0:
        raise ValueError(f'{quoted(value)} is not a duration such as "5 minutes"')
    return timedelta(**{f"{match[2]}s": int(match[1])})


def _measure(value: object) -> object:
    match = _MEASURE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f'{quoted(value)} is not a measure such as "count" or "sum(amount)"')
    return {"function": match[1] or match[2], "field": match[3]}


def anchored(pattern: str) -> str:
    """A pattern that the whole text must match, for a search."""
    return rf"\A(?:{pattern})\z"


def _pattern(value: str) -> str:
    for pattern in (value, anchored(value)):
        try:
            pc.match_substring_regex(pa.array([""]), pattern)
        except pa.ArrowInvalid as error:
            cause = str(error).partition(": ")[2].removesuffix(f": {pattern}")
            raise ValueError(f"{quoted(value)} is no regular expression that RE2 takes: {cause}") from None
    return value


Duration = Annotated[timedelta, BeforeValidator(_duration)]
ColumnName = Annotated[str, StringConstraints(pattern=f"^{IDENTIFIER.pattern}$")]
TypeName = Annotated[str, StringConstraints(pattern=rf"^(string|timestamp|double|long|boolean|{_DECIMAL.pattern})$")]
# Needs no escape in JSON, which is what msgspec asks of a Struct's names.
WireName = Annotated[str, StringConstraints(pattern=r'^[^"\\\x00-\x1f]{1,128}$')]
# Kafka's rule; "." and ".." would be folders.
Topic = Annotated[str, StringConstraints(pattern=r"^(\.{0,2}[A-Za-z0-9_-]|\.{3})[A-Za-z0-9._-]*$", max_length=249)]


class Frozen(BaseModel):
    """A value with closed keys that never changes."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Field(Frozen):
    """One required, non-null field: its type, its JSON name where that differs, and its rules.

    type: string, timestamp, double, long, boolean or decimal(p,s).
    wire: the name in the JSON object; None means the column's own (Feed.wire_name tells).
    length: fewest and most characters of a string, both allowed.
    range: least and greatest number, both allowed.
    allowed: the only strings allowed.
    pattern: a regular expression (RE2) that the whole string matches.
    """

    type: TypeName
    wire: WireName | None = None
    length: tuple[int, int] | None = None
    range: tuple[Decimal, Decimal] | None = None
    allowed: tuple[str, ...] | None = None
    pattern: Annotated[str, AfterValidator(_pattern)] | None = None

    @property
    def precision_scale(self) -> tuple[int, int] | None:
        """The p and s of decimal(p,s); None for every other type."""
        match = _DECIMAL.fullmatch(self.type)
        return (int(match[1]), int(match[2])) if match else None

    @property
    def is_number(self) -> bool:
        """Whether the column holds numbers, which a range and the measures ask for."""
        return self.type in {"double", "long"} or self.precision_scale is not None

    def overflow(self, function: str) -> str | None:
        """Why two valid records could be too much for that measure, and the batch that has them fail for ever."""
        precision, _ = self.precision_scale or (0, 0)
        if precision > _SUMMABLE_DIGITS and function in {"sum", "avg"}:
            return f"has {precision} digits; of more than {_SUMMABLE_DIGITS} a {function} may have more than 38"
        return None

    def sum_is_wide(self, function: str) -> bool:
        """Whether the measure is a sum of longs that may be more than a long, so that it is a decimal(38,0).

        A sum of 2^32 records that are less than 2^31 each has room in a long.
        """
        is_sum = self.type == "long" and function == "sum"
        return is_sum and (self.range is None or max(map(abs, self.range)) >= _WIDE_SUM)

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (rule, what is wrong with it) for every rule that cannot be kept as it stands."""
        for rule in ("length", "range", "allowed", "pattern"):
            fits = self.is_number if rule == "range" else self.type == "string"
            if getattr(self, rule) is not None and not fits:
                yield rule, f"is not a rule for a {self.type} field"
        for rule, bounds in (("length", self.length), ("range", self.range)):
            if bounds and (bounds[0] > bounds[1] or (rule == "length" and bounds[0] < 0)):
                yield rule, "is not [least, greatest]"
        if self.range and self.range[0] <= self.range[1] and not self._has_a_value_in(*self.range):
            yield "range", f"holds no {self.type}"
        if self.allowed is not None and (not self.allowed or self.length or self.pattern):
            yield "allowed", "lists the values, at least one, and goes without length and pattern"
        precision, scale = self.precision_scale or (1, 0)
        if not scale <= precision <= 38 or precision < 1:
            yield "type", f"{self.type} is not a decimal of 1 to 38 digits"

    def _has_a_value_in(self, least: Decimal, greatest: Decimal) -> bool:
        if self.type == "double":
            return float(least) <= sys.float_info.max and float(greatest) >= -sys.float_info.max
        precision, scale = self.precision_scale or (0, 0)
        most = 10**precision - 1 if precision else 2**63 - 1  # in units of the last decimal
        low, high = (min(max(bound.scaleb(scale, _ROOMY), -most - 1), most + 1) for bound in (least, greatest))
        first, last = max(math.ceil(low), -most - (self.type == "long")), min(math.floor(high), most)
        return first <= last


class EventTime(Frozen):
    """The timestamp column that says when it happened; `late` and `future` measure it against Kafka's timestamp."""

    field: str
    lateness: Duration
    future_tolerance: Duration


class Dedupe(Frozen):
    """The column that identifies a record, and the span of event time in which repeats are looked for."""

    key: str
    within: Duration


class Measure(Frozen):
    """One output column of a window: count of rows, exact number of distinct values, or a function of a number."""

    function: Literal["count", "distinct", "sum", "avg", "max", "min"]
    field: str | None = None


class Window(Frozen):
    """Windows of event time, tumbling or with `slide` sliding, by key if there is one; a sink of gold.

    where: column -> the only value of it that counts.
    measures: gold's columns after window and key, in order.
    """

    key: str | None = None
    window: Duration
    slide: Duration | None = None
    watermark: Duration
    where: dict[ColumnName, str] = {}
    measures: dict[ColumnName, Annotated[Measure, BeforeValidator(_measure)]]

    @property
    def every(self) -> timedelta:
        """From the start of a window to that of the next."""
        return self.slide or self.window

    @property
    def keys(self) -> tuple[str, ...]:
        """The key's column, if any."""
        return (self.key,) if self.key else ()

    @property
    def columns(self) -> frozenset[str]:
        """What it reads of silver beside the event time."""
        measured = (measure.field for measure in self.measures.values() if measure.field)
        return frozenset({*self.keys, *self.where, *measured})


SESSION_COLUMNS = frozenset({"session_start", "session_end", "duration_seconds", "events", "outcome"})
"""What stands beside the keys of a session."""


class Session(Frozen):
    """Sessions: the records that share `keys`, to one that matches `ends` or a pause longer than `gap`; a sink of gold.

    watermark: how much later a record may come and still count.
    """

    keys: tuple[ColumnName, ...]
    ends: dict[ColumnName, str]
    gap: Duration
    watermark: Duration

    @property
    def columns(self) -> frozenset[str]:
        """What it reads of silver beside the event time."""
        return frozenset({*self.keys, *self.ends})


# What each table of PostgreSQL has beside its own columns (its manual, "System Columns").
_SYSTEM = frozenset({"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"})


class Table(Frozen):
    """A PostgreSQL table that is kept fresh with what a sink of gold, `of`, will hold."""

    of: ColumnName

    @staticmethod
    def problem(name: str) -> str | None:
        """Return why PostgreSQL cannot have a table of ours by that name."""
        if name == "stream_app_batches":
            return "the service keeps what it has written in a table of this name"
        return "PostgreSQL keeps names that begin with pg_ to itself" if name.startswith("pg_") else None

    @staticmethod
    def column_problem(column: str) -> str | None:
        """Return why such a table cannot have a column of that name."""
        if column == "final":
            return "has a column final already, whether a row is final"
        return f"cannot have a column {column}: PostgreSQL keeps one in each table" if column in _SYSTEM else None


class Lake(Frozen):
    """Silver's rows as Parquet in folders `event_date=YYYY-MM-DD`, by the UTC date of the event time.

    dates: how old a date may be, when its batch is written, to have a folder of its own (sinks/dates.py).
    """

    dates: Duration = timedelta(days=400)


class TopicSink(Frozen):
    """Silver's rows as JSON on another Kafka topic, with `key` as key and `headers` as headers."""

    topic: Topic
    key: ColumnName
    headers: tuple[ColumnName, ...] = ()
