"""A feed: one topic and all that is derived from it, as declared in conf/feeds/<feed>.toml.

Everything is checked when the file is read; whoever holds a Feed holds a consistent one. No pyspark here:
the tests, the ops commands and Spark's workers all read feeds.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Self

import pydantic
from pydantic import ValidationError, model_validator
from pydantic_core import to_json

from stream_app.errors import ConfigError
from stream_app.feeds.fields import Field
from stream_app.feeds.parts import (
    IDENTIFIER,
    SESSION_COLUMNS,
    ColumnName,
    Dedupe,
    EventTime,
    Frozen,
    Lake,
    Session,
    Table,
    Topic,
    TopicSink,
    Window,
    quoted,
)

# Columns that outputs add to silver's (docs/feeds.md#names), by the part that declares such an output.
_ADDED = {
    "fields": (frozenset({"kafka_ts", "topic", "partition", "offset"}), "where the record was in Kafka"),
    "windows": (frozenset({"window_start", "window_end"}), "the window that a late row missed"),
    "lakes": (frozenset({"event_date"}), "the date of its folders"),
    "topics": (frozenset({"processing_time"}), "the time of the batch"),
}
# What DuckDB has of its own in each database: make query could not tell a feed's outputs from it.
_OF_DUCKDB = frozenset({"information_schema", "memory", "pg_catalog", "system", "temp"})
# What a feed's folder holds beside the declared sinks.
_OWN_FOLDERS = frozenset({"bronze", "quarantine", "silver", "raw_csv", "late"})
_OWN_PREFIXES = ("late_", "postgres_")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


class Feed(Frozen):
    """One feed, consistent in itself: every column that a part names is declared and of a fitting type.

    fields: column of silver -> its declaration, in silver's order.
    windows, sessions: sink of gold -> its declaration.
    lakes, topics: sink of silver's rows -> its declaration.
    tables: PostgreSQL table -> its declaration; its sink is called postgres_<table>.
    """

    name: ColumnName
    topic: Topic
    fields: dict[ColumnName, Field]
    event_time: EventTime
    dedupe: Dedupe
    windows: dict[ColumnName, Window] = pydantic.Field(default_factory=dict)
    sessions: dict[ColumnName, Session] = pydantic.Field(default_factory=dict)
    lakes: dict[ColumnName, Lake] = pydantic.Field(default_factory=dict)
    topics: dict[ColumnName, TopicSink] = pydantic.Field(default_factory=dict)
    tables: dict[ColumnName, Table] = pydantic.Field(default_factory=dict)

    def path_of(self, column: str) -> tuple[str, ...]:
        """Return the names that lead to a declared column in a record; in reasons they are joined by dots."""
        return self.fields[column].path or (column,)

    def verdict_digest(self) -> str:
        """Return a digest of all that the verdict on a record depends on; it is kept on disk."""
        fields = {name: field.spelled() for name, field in self.fields.items()}
        declared = to_json({"fields": fields, "event_time": self.event_time})
        return hashlib.sha256(declared).hexdigest()[:16]

    @property
    def all_topics(self) -> frozenset[str]:
        """The topic that is read, and those that are written."""
        return frozenset({self.topic, *(declared.topic for declared in self.topics.values())})

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        derived = (self._window_problems, self._session_problems, self._sink_problems, self._table_problems)
        parts = (self._name_problems, self._column_problems, self._reference_problems, *derived)
        if problems := [problem for part in parts for problem in part()]:
            raise ValueError("; ".join(problems))
        return self

    def _name_problems(self) -> Iterator[str]:
        if self.name in _OF_DUCKDB:
            yield f"the file's name: DuckDB, which make query reads by, has a {self.name} of its own; rename the feed"

    def _column_problems(self) -> Iterator[str]:
        columns: dict[tuple[str, ...], str] = {}
        for column, field in self.fields.items():
            for part, (added, meaning) in _ADDED.items():
                if column in added and (sink := next(iter(getattr(self, part)), None)):
                    owner = "silver" if part == "fields" else f"{part}.{sink}"
                    problem = f"{owner} has a column of this name already, {meaning}"
                    yield f"fields.{column}: {problem}; rename it, with {_path_line(self.path_of(column))}"
            path = self.path_of(column)
            if (other := columns.setdefault(path, column)) != column:
                yield f"fields.{column}.path: {quoted('.'.join(path))} is the path of {other} too"
            yield from (f"fields.{column}.{rule}: {problem}" for rule, problem in field.problems())

    def _reference_problems(self) -> Iterator[str]:
        yield from self._unfit("event_time.field", self.event_time.field, "timestamp")
        yield from self._unfit("dedupe.key", self.dedupe.key, "any")

    def _unfit(self, key: str, column: str, wanted: str) -> Iterator[str]:
        field = self.fields.get(column)
        if field is None:
            yield f"{key}: {quoted(column)} is not a declared field"
        elif wanted not in {"any", field.type, "number" if field.is_number else None}:
            yield f"{key}: {column} is a {field.type}, not a {wanted}"

    def _window_problems(self) -> Iterator[str]:
        for sink, declared in self.windows.items():
            key = f"windows.{sink}"
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
                    if (field := self.fields.get(measure.field)) and (problem := field.overflow(measure.function)):
                        yield f"{key}.measures.{output}: {measure.field} {problem}"

    def _session_problems(self) -> Iterator[str]:
        for sink, session in self.sessions.items():
            for column in (*session.keys, *session.ends):
                yield from self._unfit(f"sessions.{sink}", column, "string")
            for part, columns in (("keys", session.keys), ("ends", tuple(session.ends))):
                if not columns or len({*columns}) < len(columns):
                    yield f"sessions.{sink}.{part}: lists columns, at least one, each once"
            for column in {*session.keys} & SESSION_COLUMNS:
                yield f"sessions.{sink}.keys: gold has a column {column} already"

    def _sink_problems(self) -> Iterator[str]:
        taken = set(_OWN_FOLDERS)
        for part in ("windows", "sessions", "lakes", "topics"):
            for sink in getattr(self, part):
                if sink in taken or sink.startswith(_OWN_PREFIXES):
                    yield f"{part}.{sink}: the feed has an output of this name already"
                taken.add(sink)
        for sink, topic in self.topics.items():
            for column in (topic.key, *topic.headers):
                yield from self._unfit(f"topics.{sink}", column, "string")
            if topic.topic == self.topic:
                yield f"topics.{sink}.topic: the feed would read what it writes"

    def _table_problems(self) -> Iterator[str]:
        for table, declared in self.tables.items():
            if problem := declared.problem(table):
                yield f"tables.{table}: {problem}"
            if declared.of not in {*self.windows, *self.sessions}:
                yield f"tables.{table}.of: {quoted(declared.of)} is neither a window nor a session of the feed"
            for key, column in self._columns_of(declared.of):
                if problem := declared.column_problem(column):
                    yield f"{key}: tables.{table} {problem}"

    def _columns_of(self, sink: str) -> Iterator[tuple[str, str]]:
        """Yield the columns that a sink of gold has by its declaration, each after the key that names it."""
        if window := self.windows.get(sink):
            yield from ((f"windows.{sink}.key", key) for key in window.keys)
            yield from ((f"windows.{sink}.measures.{measure}", measure) for measure in window.measures)
        if session := self.sessions.get(sink):
            yield from ((f"sessions.{sink}.keys", key) for key in session.keys)


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
                raise ConfigError(f"{directory / name}.toml: topic: {quoted(feed.topic)} is {other.name}'s too")
            for table in feed.tables.keys() & other.tables.keys():
                raise ConfigError(f"{directory / name}.toml: tables.{table}: {other.name} declares it too")
        feeds.append(feed)
    return tuple(feeds)


def _load(directory: Path, name: str) -> Feed:
    if not IDENTIFIER.fullmatch(name):  # it becomes a folder of outputs and a part of names
        raise ConfigError(f"{directory}: unsafe feed name {quoted(name)}, it must match {IDENTIFIER.pattern}")
    path = directory / f"{name}.toml"
    try:
        declared = tomllib.loads(path.read_text(encoding="utf-8-sig"), parse_float=Decimal)
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
        parts = [str(part) for part in mistake["loc"] if part != "[key]"]
        key = ".".join(part if _BARE_KEY.fullmatch(part) else quoted(part) for part in parts)
        cause = mistake.get("ctx", {}).get("error")
        message = plain.get(mistake["type"]) or str(cause or mistake["msg"])
        if parts[:1] == ["fields"] and parts[-1] == "wire" and mistake["type"] == "extra_forbidden":
            message = f"is called path now; write {_path_line((str(mistake['input']),))}"
        yield f"{key}: {message}" if key else message


def _path_line(path: tuple[str, ...]) -> str:
    """Return the line of a feed file that declares the path."""
    is_plain = all("." not in name for name in path)
    return f"path = {quoted('.'.join(path) if is_plain else list(path))}"
