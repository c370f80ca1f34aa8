"""Rows of a dataset, chosen by column and time, in a given order, a page at a time.

No text of a client's becomes SQL: columns must be the dataset's, and values are parameters. A cursor
holds the values that the last row of a page is ordered by, so the next page is right while files are merged: a row that
was there at the first page is on exactly one.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from hashlib import blake2b

import duckdb
import msgspec
from duckdb.sqltypes import DuckDBPyType

from stream_app.errors import StreamAppError
from stream_app.feeds.schema import types_of
from stream_app.feeds.sql import name
from stream_app.feeds.types import Type
from stream_app.flows.flow import Flow
from stream_app.ops import rows
from stream_app.ops.rows import Rows
from stream_app.ops.views import read, steadily
from stream_app.sinks.protocol import Moment, sink_of
from stream_app.storage.opened import Opened

OPERATORS = {"eq": "=", "ne": "<>", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
"""What compares a column with a value; beside them there is `null`."""
NOW = Moment()
_MOST_VALUES = 200
"""How many values may be compared with: each is looked at before the query runs."""
A_TIME = "time such as 2026-11-21T10:00:00Z (in a URL, + is written %2B)"
_KEY = "_key"  # begins the columns that the cursor is made of, as no column of a feed can be called


class SelectionError(StreamAppError):
    """What was asked of a dataset cannot be answered; the message begins with the parameter that is wrong."""


@dataclass(frozen=True)
class Condition:
    """A condition on a column: an operator, and values. One of the values must fit."""

    column: str
    operator: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Selection:
    """What is asked of a dataset."""

    columns: tuple[str, ...] = ()
    """All where it is empty."""
    conditions: tuple[Condition, ...] = ()
    since: str = ""
    until: str = ""
    """The bounds of the dataset's time, the first inclusive, the second exclusive."""
    order: str = ""
    """A column, with a - before it for the greatest first. Without one the newest are first."""
    limit: int = 100
    cursor: str = ""
    moment: Moment = NOW
    """Of a table: as it was then, rather than as it is."""


@dataclass(frozen=True)
class Page:
    """Rows, and the cursor of those after them; None where there are no more."""

    rows: Rows
    next: str | None


def columns_of(flow: Flow) -> dict[str, Type]:
    """Return the columns of a dataset with their types."""
    return types_of(flow.kind.columns)


def select(connection: duckdb.DuckDBPyConnection, flow: Flow, selection: Selection) -> Page:
    """Return a page of a dataset. Raises SelectionError, duckdb.InterruptException where the connection was told so."""
    sink_of(flow).attach(connection, flow)

    def page(opened: Opened) -> Page:
        return _Query(connection, flow, selection, _source(flow, selection.moment, opened)).page()

    return steadily(flow, page)


def _source(flow: Flow, moment: Moment, opened: Opened) -> str:
    """Return the SQL for the rows that there are, or were. Raises ConfigError where nothing is kept of that moment."""
    if sink_of(flow).is_table:
        return sink_of(flow).select_at(flow, moment, opened)
    if moment != NOW:
        raise SelectionError(f"version, timestamp: {flow.name} has no versions; a Delta sink of it has")
    return read(flow, flow.files()[::-1], opened)  # row groups of newer files exclude older ones by their statistics


class _Query:
    """The SQL of a selection, and its parameters in order."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, flow: Flow, selection: Selection, source: str) -> None:
        """`source` is the SQL for all rows."""
        self._connection = connection
        self._flow = flow
        self._selection = selection
        self._source = source
        known = connection.sql(f"FROM ({source}) LIMIT 0")
        self._columns = dict(zip(known.columns, known.types, strict=True))
        self._parameters: list[str] = []
        self._order = self._ordered()

    def page(self) -> Page:
        """Return the page."""
        asked = self._selection
        shown = tuple(dict.fromkeys(asked.columns)) or tuple(self._columns)
        for column in shown:
            self._type("columns", column)
        keys = [f"{name(column)}::VARCHAR AS {_KEY}{i}" for i, (column, _) in enumerate(self._order)]
        where = [*self._conditions(), *self._bounds(), *self._after()] or ["true"]
        order = ", ".join(f"{name(column)} {'DESC' if falls else 'ASC'} NULLS LAST" for column, falls in self._order)
        sql = (
            f"SELECT {', '.join([*map(name, shown), *keys])} FROM ({self._source}) WHERE {' AND '.join(where)} "
            f"ORDER BY {order} LIMIT {asked.limit + 1}"
        )
        found = rows.read(self._connection, self._connection.sql(sql, params=self._parameters), asked.limit)
        held = found.table
        following = None if found.is_all else self._cursor(held.slice(held.num_rows - 1).to_pylist()[0])
        return Page(Rows(held.select(list(shown)), found.is_all), following)

    def _type(self, parameter: str, column: str) -> DuckDBPyType:
        if (found := self._columns.get(column)) is None:
            known = ", ".join(self._columns)
            raise SelectionError(f"{parameter}: {self._flow.name} has no column {column}; it has {known}")
        return found

    def _ordered(self) -> list[tuple[str, bool]]:
        """Return the columns to order by, which tell all rows apart, each with whether the greatest is first."""
        kind, column = self._flow.kind, self._selection.order.removeprefix("-")
        usual = [("kafka_ts", True), ("partition", True), ("offset", True)]
        if kind.running:
            usual = [*kind.running.ranks]
        elif kind.stateful:
            usual = [(one, True) for one in dict.fromkeys((kind.time, *kind.stateful.identity))]
        if not column:
            return usual
        if _has_no_order(self._type("order", column)):
            raise SelectionError(f"order: {column} is a {self._columns[column]}, which has no order here")
        return [
            (column, self._selection.order.startswith("-")),
            *((one, falls) for one, falls in usual if one != column),
        ]

    def _conditions(self) -> list[str]:
        if sum(len(condition.values) for condition in self._selection.conditions) > _MOST_VALUES:
            raise SelectionError(
                f"{self._selection.conditions[-1].column}: there are more than {_MOST_VALUES} conditions"
            )
        return [self._condition(condition) for condition in self._selection.conditions]

    def _condition(self, asked: Condition) -> str:
        column, kind = name(asked.column), self._type(asked.column, asked.column)
        if asked.operator == "null":
            if asked.values not in {("true",), ("false",)}:
                raise SelectionError(f"{asked.column}.null: is true or false")
            return f"{column} IS {'' if asked.values == ('true',) else 'NOT '}NULL"
        if asked.operator not in OPERATORS:
            known = ", ".join((*OPERATORS, "null"))
            raise SelectionError(f"{asked.column}.{asked.operator}: there is no such operator; there are {known}")
        if str(kind) == "VARCHAR[]" and asked.operator == "eq":
            held = (f"list_contains({column}, {self._value(asked.column, 'VARCHAR', one)})" for one in asked.values)
            return f"({' OR '.join(held)})"
        if _has_no_order(kind):
            raise SelectionError(f"{asked.column}: is a {kind}, of which only .null can be asked")
        compared = (
            f"{column} {OPERATORS[asked.operator]} {self._value(asked.column, str(kind), value)}"
            for value in asked.values
        )
        return f"({(' AND ' if asked.operator == 'ne' else ' OR ').join(compared)})"

    def _bounds(self) -> list[str]:
        asked = self._selection
        bounds = [one for one in (("from", ">=", asked.since), ("to", "<", asked.until)) if one[2]]
        if bounds and self._flow.kind.running:
            raise SelectionError(f"{bounds[0][0]}: {self._flow.name} has no time")
        time = name(self._flow.kind.time) if bounds else ""
        return [f"{time} {sign} {self._value(named, 'TIMESTAMPTZ', at)}" for named, sign, at in bounds]

    def _value(self, parameter: str, kind: str, value: str) -> str:
        """Return the SQL for a value of that type, which becomes a parameter. No number is rounded."""
        try:
            ((cast,),) = self._connection.execute(f"SELECT CAST(? AS {kind})", [value]).fetchall()
            if isinstance(cast, int | Decimal) and not isinstance(cast, bool) and cast != Decimal(value):
                raise ValueError
        except (duckdb.Error, ArithmeticError, ValueError):
            wanted = A_TIME if kind.startswith("TIMESTAMP") else kind
            raise SelectionError(f"{parameter}: {value!r} is no {wanted}") from None
        self._parameters.append(value)
        return f"CAST(? AS {kind})"

    def _after(self) -> list[str]:
        """Return the condition that a row comes after the last one of the page before; nulls are last."""
        if not self._selection.cursor:
            return []
        parts, last = [], self._last()
        for at in range(len(last)):
            if last[at] is None:  # after a null there are none
                continue
            column, falls = self._order[at]
            same = [self._same(i, last[i]) for i in range(at)]
            value = self._value("cursor", str(self._columns[column]), last[at] or "")
            beyond = f"({name(column)} {'<' if falls else '>'} {value} OR {name(column)} IS NULL)"
            parts.append(f"({' AND '.join([*same, beyond])})")
        return [f"({' OR '.join(parts or ['false'])})"]

    def _same(self, at: int, value: str | None) -> str:
        column = self._order[at][0]
        if value is None:
            return f"{name(column)} IS NULL"
        return f"{name(column)} = {self._value('cursor', str(self._columns[column]), value)}"

    def _cursor(self, row: dict[str, str | None]) -> str:
        held = [self._asked(), [row[f"{_KEY}{i}"] for i in range(len(self._order))]]
        return urlsafe_b64encode(msgspec.json.encode(held)).decode().rstrip("=")

    def _last(self) -> Sequence[str | None]:
        """Return what the last row of the page before was ordered by."""
        cursor = self._selection.cursor
        try:
            text = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
            asked, last = msgspec.json.decode(text, type=tuple[str, tuple[str | None, ...]])
        except (ValueError, msgspec.MsgspecError):
            asked, last = "", ()
        if asked != self._asked() or len(last) != len(self._order):
            raise SelectionError("cursor: is not one of this dataset, these conditions and this order")
        return last

    def _asked(self) -> str:
        """Return a digest of what pages of one selection share."""
        asked = self._selection
        shared = (self._flow.name, asked.conditions, asked.since, asked.until, asked.order, asked.moment)
        return blake2b(repr(shared).encode(), digest_size=8).hexdigest()


def _has_no_order(kind: DuckDBPyType) -> bool:
    return kind.id in {"list", "struct", "map", "blob"}
