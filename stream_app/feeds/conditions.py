"""Conditions in DuckDB's SQL: what a rule may say, and the closed database in which it is evaluated.

A condition is about one record, and says the same of it whenever it is asked. So what it may be made of is listed, not
what it may not: constants, columns, operators, and the functions that DuckDB itself calls consistent.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, cast

import duckdb

ROWS = "_rows"
"""The relation whose columns a condition reads; no column can have that name (parts.IDENTIFIER)."""

_PARTS = {"BETWEEN", "CASE", "CAST", "COLLATE", "CONJUNCTION", "COMPARISON", "CONSTANT", "OPERATOR", "TYPE"}
_REFUSED = {"SUBQUERY": "a subquery", "WINDOW": "a window function", "STAR": "a star", "PARAMETER": "a parameter"}
# DuckDB calls these consistent, too. They depend on the clock, on settings, or on how a column is kept in memory.
_CLOCKS = {"current_localtime", "current_localtimestamp"}
_UNSTEADY = _CLOCKS | {"current_setting", "getvariable", "vector_type", "version"}
# What these make is as large as a number says. A number from a record could fill the memory of the task. DuckDB's
# memory_limit does not count what functions allocate (on 1.5 repeat of a billion takes 3 GB beside any limit).
_UNBOUNDED = {"array_resize", "bitstring", "format", "generate_series", "list_resize", "lpad", "printf", "range"}
_UNBOUNDED |= {"repeat", "rpad"}
# They take the name of an aggregate; one is by chance, and of a size that a number says.
_OF_ANY_AGGREGATE = {"aggregate", "array_aggr", "array_aggregate", "list_aggr", "list_aggregate"}

Function = tuple[str, str | None, list[str], str | None]
"""What DuckDB knows of a function: kind, stability, and a macro's parameters and definition."""


def connect() -> duckdb.DuckDBPyConnection:
    """Return an empty database of one thread in UTC, without files, network, extensions, or a setting that changes.

    Its optimizer is off. It saves nothing on one pass over a batch, and how a condition is evaluated shall depend on
    its text alone.
    """
    no_extensions = {"autoload_known_extensions": False, "autoinstall_known_extensions": False}
    database = duckdb.connect(":memory:", config={"threads": 1, "temp_directory": "", **no_extensions})
    database.execute(
        "SET TimeZone = 'UTC'; SET python_enable_replacements = false; PRAGMA disable_optimizer; "
        "SET enable_external_access = false; SET lock_configuration = true"
    )
    return database


class Conditions:
    """Conditions over columns, given by name and DuckDB's type."""

    def __init__(self, columns: Mapping[str, str]) -> None:
        self.database = connect()
        self._names = frozenset(columns)
        nulls = ", ".join(f'NULL::{kind} AS "{name}"' for name, kind in columns.items())
        self._rows = f"(SELECT {nulls}) AS {ROWS}"

    def examine(self, check: str) -> None:
        """Raise ValueError, of one line, unless this is a condition of one record."""
        self._parsed(check)
        try:
            sql = f"DESCRIBE SELECT {alone(check)} FROM {self._rows}"  # noqa: S608 - it is parsed, and nothing else
            described = self.database.execute(sql).fetchall()
        except duckdb.Error as error:
            raise ValueError(" ".join(str(error).partition("\nLINE ")[0].split())) from None
        if not self.columns_of(check):
            raise ValueError("reads no field")
        if (kind := described[0][1]) != "BOOLEAN":
            raise ValueError(f"is of type {kind}, and a condition is a BOOLEAN")

    def columns_of(self, check: str) -> frozenset[str]:
        """Return the columns that a condition reads; ValueError where it has a part that no condition may have."""
        return frozenset(self._columns_in(self._parsed(check), frozenset()))

    def _parsed(self, expression: str) -> Any:
        """Return DuckDB's tree of an expression that is one, and all of the text."""
        sql = "SELECT json_serialize_sql(?, skip_default := true, skip_empty := true, skip_null := true)"
        ((found,),) = self.database.execute(sql, [f"SELECT {expression}"]).fetchall()
        parsed = json.loads(found)
        if parsed["error"]:
            raise ValueError(f"Parser Error: {parsed['error_message']}")
        node = parsed["statements"][0]["node"]
        trees = node.pop("select_list", [])
        rest = {"type": "SELECT_NODE", "from_table": {"type": "EMPTY"}, "aggregate_handling": "STANDARD_HANDLING"}
        if node != rest or len(trees) != 1 or len(parsed["statements"]) != 1 or trees[0].get("alias"):
            raise ValueError("is not one condition, but more of a statement")
        return trees[0]

    def _columns_in(self, tree: Any, known: frozenset[str]) -> Iterator[str]:
        """Yield the columns below a part of a condition. The parameters of lambdas and macros around it are known."""
        if isinstance(tree, list):
            for one in tree:
                yield from self._columns_in(one, known)
        if not isinstance(tree, dict):
            return
        match tree.get("class"):
            case "COLUMN_REF":
                if (name := tree["column_names"][0].lower()) in self._names - known:
                    yield name
                elif name not in known:
                    raise ValueError(f'"{name}" is not a field')
                return
            case "LAMBDA":
                yield from self._columns_in(tree["expr"], known | frozenset(_parameters(tree["lhs"])))
                return
            case "FUNCTION":
                self._examine_function(tree)
            case kind if kind and kind not in _PARTS:
                raise ValueError(f"has {_REFUSED.get(kind, kind)}, and a condition is about one record")
        for one in tree.values():
            yield from self._columns_in(one, known)

    def _examine_function(self, tree: Any) -> None:
        name, schema = tree["function_name"].lower(), tree.get("schema", "main")
        if schema != "main" or "catalog" in tree:
            raise ValueError(f"write {name}({schema}, ...), not {schema}.{name}(...)")
        found = self._functions.get(name, [])
        kinds = {kind for kind, *_ in found}
        if "aggregate" in kinds:
            raise ValueError(f"{name} is an aggregate, and a condition is about one record")
        if not kinds:
            raise ValueError(f"{name} is no function of one record")
        if name in _UNBOUNDED:
            raise ValueError(f"{name} makes as much as a number says, which no memory may hold")
        if name in _OF_ANY_AGGREGATE and "reservoir" in json.dumps(tree["children"][1:2]).lower():
            raise ValueError(f"{name} by a reservoir does not say the same of a record each time")
        is_of_today = name == "age" and len(tree.get("children", [])) == 1
        if (
            name in _UNSTEADY
            or is_of_today
            or any(steadiness not in {"CONSISTENT", None} for _, steadiness, *_ in found)
        ):
            raise ValueError(f"{name} does not say the same of a record each time")
        for kind, _, parameters, definition in found:
            if kind == "macro" and definition:
                try:
                    list(self._columns_in(self._parsed(definition), frozenset(parameters)))
                except ValueError as error:
                    raise ValueError(f"{name} is a macro that no condition may use: {error}") from None

    @cached_property
    def _functions(self) -> dict[str, list[Function]]:
        found = self.database.execute(
            "SELECT lower(function_name), function_type, stability, list_transform(parameters, lambda x: lower(x)), "
            "macro_definition FROM duckdb_functions() WHERE function_type IN ('scalar', 'macro', 'aggregate')"
        ).fetchall()
        functions: dict[str, list[Function]] = {}
        for name, *known in found:
            functions.setdefault(name, []).append(cast("Function", tuple(known)))
        return functions


def alone(check: str) -> str:
    """Return a condition as an expression of its own; on lines of its own, since a comment may end it."""
    return f"(\n{check}\n)"


def _parameters(tree: Any) -> Iterator[str]:
    """Yield the names before the arrow of a lambda."""
    if tree["class"] == "COLUMN_REF":
        yield tree["column_names"][0].lower()
    for child in tree.get("children", []):
        yield from _parameters(child)
