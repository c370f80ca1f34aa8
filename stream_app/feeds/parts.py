"""The parts of a feed file beside its fields: windows, sessions, and the sinks. No pyspark here."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, WithJsonSchema

# Lower case only: Spark resolves columns without regard to case, so two that differ by it would be one.
IDENTIFIER = re.compile(r"[a-z][a-z0-9_]{0,62}")
_DURATION = re.compile(r"([0-9]{1,6}) (second|minute|hour|day)s?")
_MEASURE = re.compile(r"(count|start)|(sum|avg|max|min|distinct)\(([^()]+)\)")


def _text(pattern: re.Pattern[str], example: str) -> WithJsonSchema:
    """Return what docs/feed.schema.json says of a text that is read by that pattern."""
    return WithJsonSchema({"type": "string", "pattern": f"^({pattern.pattern})$", "examples": [example]})


def quoted(value: object) -> str:
    """Return a value as TOML writes it, on one line whatever it holds."""
    return json.dumps(value, default=str)


def _duration(value: object) -> timedelta:
    if isinstance(value, timedelta):  # which no feed file can have (judged.py)
        return value
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None or int(match[1]) == 0:
        raise ValueError(f'{quoted(value)} is not a duration such as "5 minutes"')
    return timedelta(**{f"{match[2]}s": int(match[1])})


def _measure(value: object) -> object:
    match = _MEASURE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f'{quoted(value)} is not a measure such as "count" or "sum(amount)"')
    return {"function": match[1] or match[2], "field": match[3]}


Duration = Annotated[timedelta, BeforeValidator(_duration), _text(_DURATION, "5 minutes")]
ColumnName = Annotated[str, StringConstraints(pattern=f"^{IDENTIFIER.pattern}$")]
# Kafka's rule; "." and ".." would be folders.
Topic = Annotated[str, StringConstraints(pattern=r"^(\.{0,2}[A-Za-z0-9_-]|\.{3})[A-Za-z0-9._-]*$", max_length=249)]


class Frozen(BaseModel):
    """A value with closed keys that never changes.

    The docstring of a key is what editors show of it (docs/feed.schema.json). Pydantic does not look for it: that would
    parse each module once more for each model, at a tenth of the start of every command.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")


class Wire(Frozen):
    """How the records of the topic are written."""

    unknown: Literal["ignore", "report", "quarantine"] = "report"
    """What becomes of fields that are not declared: nothing, a count by name, or the reason unknown_field:<path>."""


KAFKA_TIME = "kafka_ts"
"""The column of silver that has a record's Kafka timestamp; it may be the event time."""


class EventTime(Frozen):
    """The timestamp column that says when it happened; `late` and `future` measure it against Kafka's timestamp."""

    field: str
    """The timestamp column that says when it happened."""
    lateness: Duration
    """How long before its Kafka timestamp a record may be dated. Beyond that it is `late`."""
    future_tolerance: Duration
    """How far after its Kafka timestamp, or our clock, a record may be dated. Beyond that it is `future`."""
    idle: Duration | None = None
    """After that long without a new record the event time goes on by itself. Without it, it never does."""

    def spelled(self) -> dict[str, object]:
        """Return it for a digest that is kept on disk: `idle` decides no record."""
        return self.model_dump(mode="json", exclude={"idle"})


class Dedupe(Frozen):
    """The columns that identify a record, and the time in which repeats are looked for."""

    key: ColumnName | tuple[ColumnName, ...]
    """The column that identifies a record, or several that do so together."""
    within: Duration
    """How long repeats are looked for, by Kafka timestamps."""

    @property
    def keys(self) -> tuple[str, ...]:
        """The columns of the key."""
        return (self.key,) if isinstance(self.key, str) else self.key

    def spelled(self) -> str:
        """Return it for a digest that is kept on disk: a list of one column is as that column."""
        one = self.keys[0] if len(self.keys) == 1 else self.key
        return self.model_copy(update={"key": one}).model_dump_json()


class Measure(Frozen):
    """One output column: the count of rows, the start of a window, or a function of the values of a field."""

    function: Literal["count", "start", "distinct", "sum", "avg", "max", "min"]
    field: str | None = None


Measures = dict[ColumnName, Annotated[Measure, BeforeValidator(_measure), _text(_MEASURE, "sum(amount)")]]


class Window(Frozen):
    """Windows of event time, tumbling or with `slide` sliding, by key if there is one; a sink of gold."""

    key: ColumnName | tuple[ColumnName, ...] | None = None
    """The column to count by, or several. A row without a value counts by itself."""
    window: Duration
    """The length of a window."""
    slide: Duration | None = None
    """From the start of a window to that of the next; it divides `window`. Without it, windows do not overlap."""
    watermark: Duration
    """How much later than the newest event time a record may come and still count."""
    where: dict[ColumnName, str] = {}
    """Column -> the only value of it that counts."""
    measures: Measures
    """The columns after window and key, in order: count, start, sum(x), avg(x), min(x), max(x), distinct(x)."""

    @property
    def every(self) -> timedelta:
        """From the start of a window to that of the next."""
        return self.slide or self.window

    @property
    def keys(self) -> tuple[str, ...]:
        """The columns of the key, if any."""
        return (self.key,) if isinstance(self.key, str) else self.key or ()

    @property
    def columns(self) -> frozenset[str]:
        """What it reads of silver beside the event time."""
        measured = (measure.field for measure in self.measures.values() if measure.field)
        return frozenset({*self.keys, *self.where, *measured})


class Top(Frozen):
    """The first rows by a measure, ties broken by the keys."""

    by: ColumnName
    """The measure, the greatest first. It must be one that never falls: count, max, or a sum of numbers from 0 on."""
    most: Annotated[int, Field(ge=1, le=10_000)]
    """How many rows."""


class Total(Frozen):
    """Running aggregates by key over all of silver, without an end; a sink that keeps rows by key has them."""

    keys: tuple[ColumnName, ...]
    """The columns to count by. A row without a value counts by itself."""
    where: dict[ColumnName, str] = {}
    """Column -> the only value of it that counts."""
    measures: Measures
    """The columns after the keys, in order: count, sum(x), avg(x), min(x), max(x)."""
    top: Top | None = None
    """Keep only the first rows by a measure."""

    @property
    def columns(self) -> frozenset[str]:
        """What it reads of silver."""
        measured = (measure.field for measure in self.measures.values() if measure.field)
        return frozenset({*self.keys, *self.where, *measured})


SESSION_COLUMNS = frozenset({"session_start", "session_end", "duration_seconds", "events", "outcome"})
"""The columns of a session beside its keys."""


class Session(Frozen):
    """Records that share `keys`, to a pause longer than `gap`, or to one that matches `ends`; a sink of gold."""

    keys: tuple[ColumnName, ...]
    """The columns that the records of a session share."""
    ends: dict[ColumnName, str] = {}
    """Column -> the value by which a record ends its session; of several columns all must match. Optional."""
    gap: Duration
    """The longest pause within a session."""
    watermark: Duration
    """How much later than the newest event time a record may come and still count."""

    @property
    def columns(self) -> frozenset[str]:
        """What it reads of silver beside the event time."""
        return frozenset({*self.keys, *self.ends})
