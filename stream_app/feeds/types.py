"""The types that a feed file can declare, and what each is called in every dialect. No pyspark here.

One row a type, one column a dialect. Whoever stores, shows or compares values takes their types from here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pyarrow as pa

Json = str | dict[str, Any]
"""A type as Spark's JSON schemas have it: a name, or an object for what is nested."""
Cell = Literal["plain", "text", "double", "decimal", "time", "base64", "json"]

_HEAD = re.compile(r"[a-z]+(\([0-9]{1,2},[0-9]{1,2}\))?")
_DECIMAL = re.compile(r"decimal\(([0-9]{1,2}),([0-9]{1,2})\)")


@dataclass(frozen=True, slots=True)
class Type:
    """One type of values, in each dialect.

    name: as a feed file has it, with what is in it: `array<struct<price:decimal(18,2)>>`.
    json: what a record must hold; `any` is every value but null.
    arrow: in memory and in Parquet. Times are UTC, in microseconds.
    spark: in Spark's JSON schemas.
    duckdb, postgres: in SQL. PostgreSQL keeps nested values as jsonb.
    csv: how a cell is written (sinks/csv.py).
    parts: what is in it: the elements of an array as `[]`, the values of a map as `{}`, the members of a struct.
    """

    name: str
    json: Literal["string", "number", "boolean", "any", "array", "object"]
    arrow: pa.DataType
    spark: Json
    duckdb: str
    postgres: str
    csv: Cell
    parts: Mapping[str, Type] = field(default_factory=dict)

    @property
    def is_nested(self) -> bool:
        """Whether its values hold other values."""
        return self.json in {"array", "object"}


def _rows(*rows: Type) -> dict[str, Type]:
    return {row.name: row for row in rows}


SCALARS: Mapping[str, Type] = _rows(
    Type("string", "string", pa.string(), "string", "VARCHAR", "text", "text"),
    Type("boolean", "boolean", pa.bool_(), "boolean", "BOOLEAN", "boolean", "plain"),
    Type("int", "number", pa.int32(), "integer", "INTEGER", "integer", "plain"),
    Type("long", "number", pa.int64(), "long", "BIGINT", "bigint", "plain"),
    Type("float", "number", pa.float32(), "float", "FLOAT", "real", "double"),
    Type("double", "number", pa.float64(), "double", "DOUBLE", "double precision", "double"),
    Type("date", "string", pa.date32(), "date", "DATE", "date", "plain"),
    Type("timestamp", "string", pa.timestamp("us", "UTC"), "timestamp", "TIMESTAMPTZ", "timestamptz", "time"),
    Type("binary", "string", pa.binary(), "binary", "BLOB", "bytea", "base64"),
    # Spark, pandas and Parquet's readers have no type for these two that all of them share. A jsonb would not keep the
    # text as it came.
    Type("uuid", "string", pa.string(), "string", "VARCHAR", "text", "plain"),
    Type("json", "any", pa.string(), "string", "VARCHAR", "text", "text"),
)
"""All that hold one value, but decimals, whose row depends on their digits."""


def scalar(name: str) -> Type:
    """Return the row of a type that holds one value; KeyError for a name that is none."""
    digits = precision_scale(name)
    return decimal(*digits) if digits else SCALARS[name]


def precision_scale(name: str) -> tuple[int, int] | None:
    """Return the p and s of decimal(p,s); None for every other type."""
    match = _DECIMAL.fullmatch(name)
    return (int(match[1]), int(match[2])) if match else None


def decimal(precision: int, scale: int) -> Type:
    """Return the row of decimals of so many digits, and so many of them after the point."""
    name, digits = f"decimal({precision},{scale})", f"({precision},{scale})"
    arrow = pa.decimal128(precision, scale)
    return Type(name, "number", arrow, name, f"DECIMAL{digits}", f"numeric{digits}", "decimal")


def array(element: Type) -> Type:
    """Return the row of arrays of that type."""
    spark: Json = {"type": "array", "elementType": element.spark, "containsNull": True}
    arrow = pa.list_(pa.field("element", element.arrow))
    name, parts = f"array<{element.name}>", {"[]": element}
    return Type(name, "array", arrow, spark, f"{element.duckdb}[]", "jsonb", "json", parts)


def mapping(value: Type) -> Type:
    """Return the row of maps from texts to that type."""
    spark: Json = {"type": "map", "keyType": "string", "valueType": value.spark, "valueContainsNull": True}
    arrow, duckdb = pa.map_(pa.string(), value.arrow), f"MAP(VARCHAR, {value.duckdb})"
    return Type(f"map<{value.name}>", "object", arrow, spark, duckdb, "jsonb", "json", {"{}": value})


def struct(fields: Mapping[str, Type]) -> Type:
    """Return the row of structs of those fields, in order."""
    spark: Json = {
        "type": "struct",
        "fields": [{"name": name, "type": one.spark, "nullable": True, "metadata": {}} for name, one in fields.items()],
    }
    arrow = pa.struct([(name, one.arrow) for name, one in fields.items()])
    inner = ",".join(f"{name}:{one.name}" for name, one in fields.items())
    columns = ", ".join(f'"{name}" {one.duckdb}' for name, one in fields.items())
    return Type(f"struct<{inner}>", "object", arrow, spark, f"STRUCT({columns})", "jsonb", "json", fields)


def of_name(name: str) -> Type:
    """Return the row of a type by its own name, as files on disk keep it. Raises ValueError for one that is none."""
    try:
        found, rest = _read(name)
    except LookupError:
        raise ValueError(name) from None
    if found.name != name or rest:
        raise ValueError(name)
    return found


def _read(text: str) -> tuple[Type, str]:
    """Return the row of the type that a text begins with, and the rest of the text."""
    head = _HEAD.match(text)
    kind = head[0] if head else ""
    rest = text[len(kind) :]
    if kind in {"array", "map"}:
        inner, rest = _read(rest[1:])
        return (array if kind == "array" else mapping)(inner), rest[1:]
    if kind != "struct":
        return scalar(kind), rest
    members: dict[str, Type] = {}
    while rest[0] in "<,":
        member, _, rest = rest[1:].partition(":")
        members[member], rest = _read(rest)
    return struct(members), rest[1:]


def of_spark(spark: Json) -> Type:
    """Return the row of a column that Spark has made, by its type in Spark's JSON schemas. Texts are strings."""
    if isinstance(spark, str):
        return _OF_SPARK[spark] if spark in _OF_SPARK else scalar(spark)
    if spark["type"] == "array":
        return array(of_spark(spark["elementType"]))
    if spark["type"] == "map":
        return mapping(of_spark(spark["valueType"]))
    return struct({field["name"]: of_spark(field["type"]) for field in spark["fields"]})


def of_arrow(kind: pa.DataType) -> Type | None:
    """Return the row of a column that holds one value, as Parquet has it; texts are strings. None for a nested one."""
    if pa.types.is_decimal(kind):
        return decimal(kind.precision, kind.scale)
    return next((row for row in SCALARS.values() if row.arrow == kind), None)


_OF_SPARK = {row.spark: row for row in reversed([*SCALARS.values()]) if isinstance(row.spark, str)}
