"""A feed: one topic and all that is derived from it, as declared in conf/feeds/<feed>.toml.

Everything is checked when the file is read; whoever holds a Feed holds a consistent one. No pyspark here:
the tests, the ops commands and Spark's workers all read feeds.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Sequence
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, StringConstraints, ValidationError, model_validator

from stream_app.errors import ConfigError

# Columns that the layers add beside the declared ones (design.md, "What users read").
_RESERVED = frozenset({"kafka_ts", "topic", "partition", "offset", "key", "value", "headers", "value_text", "reasons"})
# What a feed's folder holds beside the declared sinks.
_OWN_FOLDERS = frozenset({"bronze", "quarantine", "silver", "raw_csv", "late"})
# Lower case only: Spark resolves columns without regard to case, so two that differ by it would be one.
_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]{0,62}")
_DURATION = re.compile(r"([0-9]{1,6}) (second|minute|hour|day)s?")
_DECIMAL = re.compile(r"decimal\(([0-9]{1,2}),([0-9]{1,2})\)")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_MEASURE = re.compile(r"(count)|(sum|avg|max|min|distinct)\(([^()]+)\)")


def _quoted(value: object) -> str:
    """A value as TOML writes it, on one line whatever it holds."""
    return json.dumps(value, default=str)


def _duration(value: object) -> timedelta:
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None or int(match[1]) == 0:
        raise ValueError(f'{_quoted(value)} is not a duration such as "5 minutes"')
    return timedelta(**{f"{match[2]}s": int(match[1])})


def _measure(value: object) -> object:
    match = _MEASURE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f'{_quoted(value)} is not a measure such as "count" or "sum(amount)"')
    return {"function": match[1] or match[2], "field": match[3]}


Duration = Annotated[timedelta, BeforeValidator(_duration)]
ColumnName = Annotated[str, StringConstraints(pattern=f"^{_IDENTIFIER.pattern}$")]
TypeName = Annotated[str, StringConstraints(pattern=rf"^(string|timestamp|double|long|boolean|{_DECIMAL.pattern})$")]
# Needs no escape in JSON, which is what msgspec asks of a Struct's names.
WireName = Annotated[str, StringConstraints(pattern=r'^[^"\\\x00-\x1f]{1,128}$')]
# Kafka's rule; "." and ".." would be folders.
Topic = Annotated[str, StringConstraints(pattern=r"^(\.{0,2}[A-Za-z0-9_-]|\.{3})[A-Za-z0-9._-]*$", max_length=249)]


class _Frozen(BaseModel):
    """A value with closed keys that never changes."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Field(_Frozen):
    """One required, non-null field: its type, its JSON name where that differs, and its rules.

    type: string, timestamp, double, long, boolean or decimal(p,s).
    wire: the name in the JSON object; None means the column's own (Feed.wire_name tells).
    length: fewest and most characters of a string, both allowed.
    range: least and greatest number, both allowed.
    allowed: the only strings allowed.
    pattern: a regular expression that the whole string matches.
    """

    type: TypeName
    wire: WireName | None = None
    length: tuple[int, int] | None = None
    range: tuple[Decimal, Decimal] | None = None
    allowed: tuple[str, ...] | None = None
    pattern: re.Pattern[str] | None = None

    @property
    def precision_scale(self) -> tuple[int, int] | None:
        """The p and s of decimal(p,s); None for every other type."""
        match = _DECIMAL.fullmatch(self.type)
        return (int(match[1]), int(match[2])) if match else None

    @property
    def is_number(self) -> bool:
        """Whether the column holds numbers, which a range and the measures ask for."""
        return self.type in {"double", "long"} or self.precision_scale is not None

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (rule, what is wrong with it) for every rule that cannot be kept as it stands."""
        for rule in ("length", "range", "allowed", "pattern"):
            fits = self.is_number if rule == "range" else self.type == "string"
            if getattr(self, rule) is not None and not fits:
                yield rule, f"is not a rule for a {self.type} field"
        for rule, bounds in (("length", self.length), ("range", self.range)):
            if bounds and (bounds[0] > bounds[1] or (rule == "length" and bounds[0] < 0)):
                yield rule, "is not [least, greatest]"
        if self.allowed is not None and (not self.allowed or self.length or self.pattern):
            yield "allowed", "lists the values, at least one, and goes without length and pattern"
        precision, scale = self.precision_scale or (1, 0)
        if not scale <= precision <= 38 or precision < 1:
            yield "type", f"{self.type} is not a decimal of 1 to 38 digits"


class EventTime(_Frozen):
    """The timestamp column that says when it happened; `late` and `future` measure it against Kafka's timestamp."""

    field: str
    lateness: Duration
    future_tolerance: Duration


class Dedupe(_Frozen):
    """The column that identifies a record, and the span of event time in which repeats are looked for."""

    key: str
    within: Duration


class Measure(_Frozen):
    """One output column of a window: count of rows, exact number of distinct values, or a function of a number."""

    function: Literal["count", "distinct", "sum", "avg", "max", "min"]
    field: str | None = None


class Window(_Frozen):
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


class Feed(_Frozen):
    """One feed, consistent in itself: every column that a part names is declared and of a fitting type.

    fields: column of silver -> its declaration, in silver's order.
    windows: sink of gold -> its declaration.
    """

    name: ColumnName
    topic: Topic
    fields: dict[ColumnName, Field]
    event_time: EventTime
    dedupe: Dedupe
    windows: dict[ColumnName, Window] = {}

    def wire_name(self, column: str) -> str:
        """Return the name that a declared column has in the JSON object, and in reasons."""
        return self.fields[column].wire or column

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if problems := [*self._column_problems(), *self._reference_problems(), *self._window_problems()]:
            raise ValueError("; ".join(problems))
        return self

    def _column_problems(self) -> Iterator[str]:
        columns: dict[str, str] = {}
        for column, field in self.fields.items():
            if column in _RESERVED:
                yield f"fields.{column}: every layer has a column of this name already"
            wire = self.wire_name(column)
            if (other := columns.setdefault(wire, column)) != column:
                yield f"fields.{column}.wire: {_quoted(wire)} is the wire name of {other} too"
            yield from (f"fields.{column}.{rule}: {problem}" for rule, problem in field.problems())

    def _reference_problems(self) -> Iterator[str]:
        yield from self._unfit("event_time.field", self.event_time.field, "timestamp")
        yield from self._unfit("dedupe.key", self.dedupe.key, "any")

    def _unfit(self, key: str, column: str, wanted: str) -> Iterator[str]:
        field = self.fields.get(column)
        if field is None:
            yield f"{key}: {_quoted(column)} is not a declared field"
        elif wanted not in {"any", field.type, "number" if field.is_number else None}:
            yield f"{key}: {column} is a {field.type}, not a {wanted}"

    def _window_problems(self) -> Iterator[str]:
        for sink, declared in self.windows.items():
            key = f"windows.{sink}"
            if sink in _OWN_FOLDERS or sink.startswith("late_"):
                yield f"{key}: the feed has an output of this name already"
            if declared.key is not None:
                yield from self._unfit(f"{key}.key", declared.key, "string")
            if declared.window % declared.every or declared.every > declared.window:
                yield f"{key}.slide: does not divide the window"
            for column in declared.where:
                yield from self._unfit(f"{key}.where.{column}", column, "string")
            if not declared.measures:
                yield f"{key}.measures: is empty"
            for output, measure in declared.measures.items():
                if output in {"window_start", "window_end", declared.key}:
                    yield f"{key}.measures.{output}: gold has a column of this name already"
                if measure.field is not None:
                    wanted = "any" if measure.function == "distinct" else "number"
                    yield from self._unfit(f"{key}.measures.{output}", measure.field, wanted)


def load_feeds(directory: Path, names: Sequence[str]) -> tuple[Feed, ...]:
    """Read <directory>/<name>.toml for every name, in the order given.

    Raises ConfigError, one line that names the file and the key of every mistake in it, for a file that is
    missing, is not TOML or breaks the vocabulary above; for an unsafe or repeated name; for two feeds on one
    topic; and for no name at all.
    """
    if not names:
        raise ConfigError(f"{directory}: no feed is named; there are: {_existing(directory)}")
    feeds: list[Feed] = []
    for name in names:
        feed = _load(directory, name)
        for other in feeds:
            if other.name == name:
                raise ConfigError(f"{directory / name}.toml: the feed is named twice")
            if other.topic == feed.topic:
                raise ConfigError(f"{directory / name}.toml: topic: {_quoted(feed.topic)} is {other.name}'s too")
        feeds.append(feed)
    return tuple(feeds)


def _load(directory: Path, name: str) -> Feed:
    if not _IDENTIFIER.fullmatch(name):  # it becomes a folder of outputs and a part of names
        raise ConfigError(f"{directory}: unsafe feed name {_quoted(name)}, it must match {_IDENTIFIER.pattern}")
    path = directory / f"{name}.toml"
    try:
        declared = tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
        if "name" in declared:
            raise ConfigError(f"{path}: name: unknown key, the file's name is the feed's")
        return Feed.model_validate(declared | {"name": name})
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such feed; there are: {_existing(directory)}") from None
    except ValidationError as error:
        raise ConfigError(f"{path}: {'; '.join(_mistakes(error))}") from None
    except (OSError, ValueError) as error:  # not readable, not UTF-8, not TOML
        raise ConfigError(f"{path}: {error}") from error


def _existing(directory: Path) -> str:
    return ", ".join(sorted(path.stem for path in directory.glob("*.toml"))) or "none"


def _mistakes(error: ValidationError) -> Iterator[str]:
    plain = {"extra_forbidden": "unknown key", "missing": "is missing"}
    for mistake in error.errors(include_url=False):
        parts = (str(part) for part in mistake["loc"] if part != "[key]")
        key = ".".join(part if _BARE_KEY.fullmatch(part) else _quoted(part) for part in parts)
        cause = mistake.get("ctx", {}).get("error")
        message = plain.get(mistake["type"]) or str(cause or mistake["msg"])
        yield f"{key}: {message}" if key else message
