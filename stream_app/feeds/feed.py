"""A feed: one topic and all that is derived from it, as declared in conf/feeds/<feed>.toml.

Everything is checked when the file is read; whoever holds a Feed holds a consistent one. No pyspark here:
the tests, the ops commands and Spark's workers all read feeds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Self

import pydantic
from pydantic import model_validator
from pydantic_core import to_json

from stream_app.feeds import lookups
from stream_app.feeds.conditions import Conditions
from stream_app.feeds.fields import Field, problems
from stream_app.feeds.lookups import Lookup
from stream_app.feeds.parts import (
    KAFKA_TIME,
    SESSION_COLUMNS,
    ColumnName,
    Dedupe,
    EventTime,
    Frozen,
    Session,
    Topic,
    Window,
    Wire,
    quoted,
)
from stream_app.feeds.rules import WARNINGS, WARNINGS_TYPE, Rule
from stream_app.feeds.sinks import SinkTable
from stream_app.feeds.types import Type

# Columns that outputs add to silver's (docs/feeds.md#names), by the part that declares such an output.
_ADDED = {
    "fields": (frozenset({"kafka_ts", "topic", "partition", "offset"}), "where the record was in Kafka"),
    "windows": (frozenset({"window_start", "window_end"}), "the window that a late row missed"),
}
RESERVED = frozenset[str]().union(*(added for added, _ in _ADDED.values()))
"""The columns that a field may not be called by, in one feed or another."""
# What DuckDB has of its own in each database: make query could not tell a feed's outputs from it.
_OF_DUCKDB = frozenset({"information_schema", "memory", "pg_catalog", "system", "temp"})
# What a feed's folder holds beside the declared outputs.
_OWN_FOLDERS = frozenset({"bronze", "quarantine", "silver", "late"})
_OWN_PREFIX = "late_"

Problem = tuple[str, str]
"""A key of the file, as TOML writes it, and what is wrong with it."""


class InconsistentError(ValueError):
    """What is wrong with a feed whose parts are each well-formed."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(f"{key}: {problem}" for key, problem in problems))
        self.problems = problems


class Feed(Frozen):
    """One feed, consistent in itself: every column that a part names is declared and of a fitting type."""

    name: ColumnName
    """The name of its file."""
    topic: Topic
    """The topic that is read. No two feeds read the same one."""
    fields: dict[ColumnName, Field]
    """Column of silver -> its declaration, in silver's order."""
    rules: dict[ColumnName, Rule] = pydantic.Field(default_factory=dict)
    """Rule across fields -> its declaration, in the order of their reasons."""
    event_time: EventTime
    """Which column says when it happened, and how far from Kafka's timestamp that may be."""
    dedupe: Dedupe | None = None
    """What identifies a record, and how long repeats are looked for. Without it no record repeats another."""
    lookups: dict[ColumnName, Lookup] = pydantic.Field(default_factory=dict)
    """Lookup -> its declaration: reference data that fields must be found in, and columns of it."""
    wire: Wire = pydantic.Field(default_factory=Wire)
    """How the records are written, and what becomes of fields that are not declared."""
    windows: dict[ColumnName, Window] = pydantic.Field(default_factory=dict)
    """Sink of gold -> its declaration."""
    sessions: dict[ColumnName, Session] = pydantic.Field(default_factory=dict)
    """Dataset -> its declaration: what the records of a key add up to."""
    sinks: dict[ColumnName, SinkTable] = pydantic.Field(default_factory=dict)
    """Sink -> its declaration: where else a dataset is kept."""

    def path_of(self, column: str) -> tuple[str, ...]:
        """Return the names that lead to a declared column in a record; in reasons they are joined by dots."""
        return self.fields[column].path or (column,)

    def verdict_digest(self) -> str:
        """Return a digest of all that the verdict on a record depends on; it is kept on disk."""
        fields = {name: field.spelled() for name, field in self.fields.items()}
        newer: dict[str, object] = {"unknown": self.wire.unknown} if self.wire.unknown == "quarantine" else {}
        newer |= {"rules": self.rules} if self.rules else {}
        newer |= {"lookups": sorted(self.pinned.values())} if self.lookups else {}
        declared = to_json({"fields": fields, "event_time": self.event_time, **newer})
        return hashlib.sha256(declared).hexdigest()[:16]

    @property
    def references(self) -> dict[str, str]:
        """Each field that is looked up, with its lookup."""
        return {name: field.references for name, field in self.fields.items() if field.references}

    @property
    def pinned(self) -> dict[str, str]:
        """Each lookup, with what its snapshots are pinned by (feeds/lookups.py)."""
        keys = {lookup: self.fields[field].type for field, lookup in self.references.items()}
        return {name: lookup.identity(name, keys[name]) for name, lookup in self.lookups.items()}

    @property
    def values(self) -> dict[str, Field]:
        """The columns of silver that hold values of a record or of a lookup: the fields, then what is joined."""
        return self.fields | {column: one for lookup in self.lookups.values() for column, one in lookup.joined.items()}

    @property
    def columns(self) -> dict[str, Type]:
        """The columns of silver that the contract makes: the values, and `warnings` if a rule warns."""
        columns = {name: field.as_type for name, field in self.values.items()}
        is_warned = any(rule.severity == "warn" for rule in self.rules.values())
        return columns | {WARNINGS: WARNINGS_TYPE} if is_warned else columns

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if found := list(self.problems()):
            raise InconsistentError(found)
        return self

    def problems(self) -> Iterator[Problem]:
        """Yield what does not fit together; of model_construct's feeds, too, that lack parts."""
        derived = (
            self._lookup_problems,
            self._rule_problems,
            self._window_problems,
            self._session_problems,
            self._output_problems,
        )
        for part in (self._name_problems, self._column_problems, self._reference_problems, *derived):
            yield from part()

    def _name_problems(self) -> Iterator[Problem]:
        if self.name in _OF_DUCKDB:
            problem = f"DuckDB, which make query reads by, has a {self.name} of its own; rename the feed"
            yield "", f"the file's name: {problem}"

    def _column_problems(self) -> Iterator[Problem]:
        for column in self.fields:
            for part, (added, meaning) in _ADDED.items():
                if column in added and (sink := next(iter(getattr(self, part)), None)):
                    owner = "silver" if part == "fields" else f"{part}.{sink}"
                    problem = f"{owner} has a column of this name already, {meaning}"
                    yield f"fields.{column}", f"{problem}; rename it, with {path_line(self.path_of(column))}"
        yield from ((f"fields.{key}", problem) for key, problem in problems(self.fields))

    def _reference_problems(self) -> Iterator[Problem]:
        if "event_time" in self.model_fields_set:
            column = self.event_time.field
            yield from () if column == KAFKA_TIME else self._unfit("event_time.field", column, "timestamp")
            yield from self._unfit_for_each("event_time.field", column)
        if self.dedupe:
            yield from _repeated("dedupe.key", self.dedupe.keys)
            for column in self.dedupe.keys:
                yield from self._unfit("dedupe.key", column, "any")
                yield from self._unfit_for_each("dedupe.key", column)

    def _lookup_problems(self) -> Iterator[Problem]:
        yield from lookups.problems(self.lookups, self.fields, RESERVED | {WARNINGS})

    def _rule_problems(self) -> Iterator[Problem]:
        if WARNINGS in self.fields and any(rule.severity == "warn" for rule in self.rules.values()):
            problem = "silver has a column of this name already, the rules that warn of a row"
            yield f"fields.{WARNINGS}", f"{problem}; rename it, with {path_line(self.path_of(WARNINGS))}"
        if self.rules:
            conditions = Conditions({name: field.as_type.duckdb for name, field in self.values.items()})
            for name, rule in self.rules.items():
                try:
                    conditions.examine(rule.check)
                except ValueError as error:
                    yield f"rules.{name}.check", str(error)

    def _unfit_for_each(self, key: str, column: str) -> Iterator[Problem]:
        field = self.values.get(column)
        if field and field.is_optional:
            yield key, f"{column} is not required, so a record may have none"
        elif field and (field.is_nested or field.type == "json"):
            yield key, f"{column} is a {field.type}, which identifies no record"

    def _unfit(self, key: str, column: str, wanted: str) -> Iterator[Problem]:
        field = self.values.get(column)
        if field is None:
            yield key, f"{quoted(column)} is not a declared field"
        elif wanted not in {"any", field.type, "number" if field.is_number else None}:
            yield key, f"{column} is a {field.type}, not a {wanted}"

    def _window_problems(self) -> Iterator[Problem]:
        for sink, declared in self.windows.items():
            key = f"windows.{sink}"
            if declared.key is not None:
                yield from self._key_problems(f"{key}.key", declared.keys)
            if declared.window % declared.every or declared.every > declared.window:
                yield f"{key}.slide", "does not divide the window"
            for column in declared.where:
                yield from self._unfit(f"{key}.where.{column}", column, "string")
            if not declared.measures:
                yield f"{key}.measures", "is empty"
            for output, measure in declared.measures.items():
                if output in {"window_start", "window_end", *declared.keys}:
                    yield f"{key}.measures.{output}", "gold has a column of this name already"
                if measure.field is not None:
                    yield from self._measure_problems(f"{key}.measures.{output}", measure.field, measure.function)
                    if (field := self.values.get(measure.field)) and (problem := field.overflow(measure.function)):
                        yield f"{key}.measures.{output}", f"{measure.field} {problem}"

    def _session_problems(self) -> Iterator[Problem]:
        for sink, session in self.sessions.items():
            yield from self._key_problems(f"sessions.{sink}.keys", session.keys)
            for column in session.ends:
                yield from self._unfit(f"sessions.{sink}.ends.{column}", column, "string")
            for column in {*session.keys} & SESSION_COLUMNS:
                yield f"sessions.{sink}.keys", f"gold has a column {column} already"

    def _key_problems(self, key: str, columns: tuple[str, ...]) -> Iterator[Problem]:
        yield from _repeated(key, columns)
        for column in columns:
            yield from self._unfit(key, column, "any")
            if (field := self.values.get(column)) and not field.tells_apart:
                yield key, f"{column} is of type {field.type}, which is not one value"

    def _measure_problems(self, key: str, column: str, function: str) -> Iterator[Problem]:
        field = self.values.get(column)
        if function not in {"min", "max"} or field is None:
            yield from self._unfit(key, column, "any" if function == "distinct" else "number")
        elif not field.has_order:
            yield key, f"{column} is a {field.type}, which has no {function}"

    def _output_problems(self) -> Iterator[Problem]:
        taken = set(_OWN_FOLDERS)
        for part in ("windows", "sessions", "sinks"):
            for output in getattr(self, part):
                if output in taken or output.startswith(_OWN_PREFIX):
                    yield f"{part}.{output}", "the feed has an output of this name already"
                taken.add(output)


def _repeated(key: str, columns: tuple[str, ...]) -> Iterator[Problem]:
    if not columns:
        yield key, "is empty"
    if len({*columns}) < len(columns):
        yield key, "names a column twice"


def path_line(path: tuple[str, ...]) -> str:
    """Return the line of a feed file that declares the path."""
    is_plain = all("." not in name for name in path)
    return f"path = {quoted('.'.join(path) if is_plain else list(path))}"
