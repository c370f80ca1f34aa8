"""A feed: one topic and all that is derived from it, as declared in conf/feeds/<feed>.toml.

Everything is checked when the file is read; whoever holds a Feed holds a consistent one. No pyspark here:
the tests, the ops commands and Spark's workers all read feeds.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Self

import pydantic
from pydantic import model_validator
from pydantic_core import to_json

from stream_app.feeds import depth, lookups
from stream_app.feeds.aggregates import Columns, Problem, repeated
from stream_app.feeds.conditions import Conditions
from stream_app.feeds.field_problems import problems
from stream_app.feeds.fields import Field, required_in
from stream_app.feeds.lookups import Lookup
from stream_app.feeds.parts import (
    KAFKA_TIME,
    ColumnName,
    Dedupe,
    EventTime,
    Frozen,
    Session,
    Topic,
    Total,
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
    """Dataset -> its declaration."""
    sessions: dict[ColumnName, Session] = pydantic.Field(default_factory=dict)
    """Dataset -> its declaration: what the records of a key add up to."""
    totals: dict[ColumnName, Total] = pydantic.Field(default_factory=dict)
    """Dataset -> its declaration: running aggregates by key, kept where rows are kept by key."""
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
        declared = to_json({"fields": fields, "event_time": self.event_time.spelled(), **newer})
        return hashlib.sha256(declared).hexdigest()[:16]

    @property
    def sources(self) -> dict[str, str]:
        """What the values of fields and of what is in them are made of beside their types, by path."""
        return {path: said for name, field in self.fields.items() for path, said in field.sources(name, name)}

    @property
    def references(self) -> dict[str, str]:
        """Each field that is looked up, with its lookup."""
        return {name: field.references for name, field in self.fields.items() if field.references}

    @property
    def dedupe_keys(self) -> tuple[str, ...]:
        """The columns that tell records apart; none where each is kept."""
        return self.dedupe.keys if self.dedupe else ()

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

    @property
    def required(self) -> frozenset[str]:
        """The paths of silver's columns, and of members of structs, that no record lacks: `items[].price`."""
        return frozenset(required_in(self.fields))

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
            self._aggregate_problems,
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
        of_fields = (*problems(self.fields), *depth.problems(self.fields))
        yield from ((f"fields.{key}", problem) for key, problem in of_fields)

    def _reference_problems(self) -> Iterator[Problem]:
        columns = Columns(self.values)
        if "event_time" in self.model_fields_set:
            column = self.event_time.field
            yield from () if column == KAFKA_TIME else columns.unfit("event_time.field", column, "timestamp")
            yield from columns.unfit_for_each("event_time.field", column)
        if self.dedupe:
            yield from repeated("dedupe.key", self.dedupe.keys)
            for column in self.dedupe.keys:
                yield from columns.unfit("dedupe.key", column, "any")
                yield from columns.unfit_for_each("dedupe.key", column)

    def _aggregate_problems(self) -> Iterator[Problem]:
        columns = Columns(self.values)
        yield from columns.windows(self.windows)
        yield from columns.sessions(self.sessions)
        yield from columns.totals(self.totals)

    def _lookup_problems(self) -> Iterator[Problem]:
        yield from lookups.problems(self.lookups, self.fields, RESERVED | {WARNINGS})

    def _rule_problems(self) -> Iterator[Problem]:
        if WARNINGS in self.fields and any(rule.severity == "warn" for rule in self.rules.values()):
            problem = "silver has a column of this name already, the rules that warn of a row"
            yield f"fields.{WARNINGS}", f"{problem}; rename it, with {path_line(self.path_of(WARNINGS))}"
        if self.rules:
            whole = {name: field.as_type.duckdb for name, field in self.values.items() if field.is_whole}
            conditions, ill = Conditions(whole), self.values.keys() - whole
            for name, rule in self.rules.items():
                if ill & {*re.findall(r"\w+", rule.check)}:  # what is wrong with the field is said already
                    continue
                try:
                    conditions.examine(rule.check)
                except ValueError as error:
                    yield f"rules.{name}.check", str(error)

    def _output_problems(self) -> Iterator[Problem]:
        taken = set(_OWN_FOLDERS)
        for part in ("windows", "sessions", "totals", "sinks"):
            for output in getattr(self, part):
                if output in taken or output.startswith(_OWN_PREFIX):
                    yield f"{part}.{output}", "the feed has an output of this name already"
                taken.add(output)


def path_line(path: tuple[str, ...]) -> str:
    """Return the line of a feed file that declares the path."""
    is_plain = all("." not in name for name in path)
    return f"path = {quoted('.'.join(path) if is_plain else list(path))}"
