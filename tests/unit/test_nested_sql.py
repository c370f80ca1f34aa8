"""What is nested is the same in a dataset and in the JSON text that a file or a table has of it."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from stream_app.sinks import json_text, nested_sql

AT = pa.timestamp("us", "UTC")
VALUES: dict[str, tuple[pa.DataType, Any, Any]] = {
    "decimal": (pa.struct([("x", pa.decimal128(18, 2))]), {"x": Decimal("12.50")}, {"x": Decimal("12.51")}),
    "whole decimal": (pa.list_(pa.decimal128(18, 2)), [Decimal("20.00")], [Decimal("20.01")]),
    "decimal beyond doubles": (
        pa.struct([("x", pa.decimal128(18, 2)), ("y", pa.string()), ("z", pa.float32())]),
        {"x": Decimal("90071992547409.93"), "y": 'a "text", [1, -2.50]: \\', "z": 0.1},
        {"x": Decimal("90071992547409.94"), "y": 'a "text", [1, -2.50]: \\', "z": 0.1},
    ),
    "decimals in a list of structs": (
        pa.list_(pa.struct([("x", pa.decimal128(38, 10)), ("n", pa.int64()), ("d", pa.float64())])),
        [{"x": Decimal("-1234567890123456789.0123456789"), "n": 2**62, "d": 1e22}, None],
        [{"x": Decimal("-1234567890123456789.0123456788"), "n": 2**62, "d": 1e22}, None],
    ),
    "integer": (pa.struct([("x", pa.decimal128(5, 2)), ("n", pa.int64())]), {"n": 2**62}, {"n": 2**62 + 1}),
    "double": (pa.list_(pa.float64()), [0.1, -1e-300], [0.1, -1.1e-300]),
    "map": (pa.map_(pa.string(), pa.int64()), [("b", 2**62), ("a", None)], [("b", 2**62 + 1), ("a", None)]),
    "empty map": (pa.map_(pa.string(), pa.int64()), [], [("", 0)]),
    "map of structs": (
        pa.map_(pa.string(), pa.struct([("x 'y\"", pa.decimal128(18, 2)), ("z", pa.list_(AT))])),
        [("1", {"x 'y\"": Decimal("90071992547409.93"), "z": []}), ("a", None)],
        [("1", {"x 'y\"": Decimal("90071992547409.94"), "z": []}), ("a", None)],
    ),
    "maps in maps in a list in a struct": (
        pa.struct([("x", pa.list_(pa.map_(pa.string(), pa.map_(pa.string(), pa.binary()))))]),
        {"x": [[("z", [("b", b"\xff"), ("a", b"")])], None]},
        {"x": [[("z", [("b", b"\xfe"), ("a", b"")])], None]},
    ),
    "time": (
        pa.struct([("x", AT)]),
        {"x": datetime(2026, 1, 1, tzinfo=UTC)},
        {"x": datetime(2026, 1, 1, 0, 0, 1, tzinfo=UTC)},
    ),
}


@pytest.mark.parametrize("name", VALUES)
def test_numbers_and_times_in_nested_values_are_compared_exactly(name: str) -> None:
    kind, value, other = VALUES[name]
    held = pa.array([value, value, None], kind)
    texts = json_text.values(pa.array([value, other, None], kind))
    with duckdb.connect() as database:
        database.execute("SET TimeZone = 'UTC'")
        database.register("rows", pa.table({"held": held, "text": texts}))
        left, right = nested_sql.plain("held", kind), nested_sql.read_back("text", kind)
        found = database.sql(f"SELECT {left} IS NOT DISTINCT FROM {right} FROM rows").fetchall()
    assert found == [(True,), (False,), (True,)]


def test_a_double_may_have_been_written_as_the_float_that_it_was() -> None:
    kind = pa.struct([("x", pa.list_(pa.map_(pa.string(), pa.float64())))])
    for as_float in (0.10000000149011612, 3.4028234663852886e38, 1.401298464324817e-45, -1e-3, 0.0, 16777216.0):
        narrow = json_text.values(pa.array([[as_float]], pa.list_(pa.float32())))[0].as_py().strip("[]")
        for held, text, same in ((as_float, narrow, True), (0.1, "0.1", True), (0.1, "0.10000000000000002", False)):
            values = pa.array([{"x": [[("a", held), ("b", None)]]}], kind)
            with duckdb.connect() as database:
                database.register(
                    "rows", pa.table({"held": values, "text": [f'{{"x": [{{"a": {text}, "b": null}}]}}']})
                )
                left, right = nested_sql.plain("held", kind), nested_sql.read_back("text", kind)
                assert database.sql(f"SELECT {left} = {right} FROM rows").fetchall() == [(same,)], (held, text)


def test_a_jsonb_may_have_the_entries_of_a_map_in_another_order() -> None:
    kind = pa.list_(pa.map_(pa.string(), pa.binary()))
    held = pa.array([[[("long", b"x"), ("b", b"y")]]], kind)
    with duckdb.connect() as database:
        database.register("rows", pa.table({"held": held, "text": ['[{"b": "eQ==", "long": "eA=="}]']}))
        left, right = nested_sql.plain("held", kind), nested_sql.read_back("text", kind)
        assert database.sql(f"SELECT {left} = {right} FROM rows").fetchall() == [(True,)]


def test_a_table_has_another_letter_for_nul_in_what_is_nested_too() -> None:
    kind = pa.struct([('x"y', pa.list_(pa.map_(pa.string(), pa.string()))), ("z", pa.binary())])
    held = pa.array([{'x"y': [[("a\0", "b\0")]], "z": b"\0"}], kind)
    columns, of_table = nested_sql.compared(
        pa.schema([("nested", kind), ("text", pa.string()), ("bytes", pa.binary())])
    )
    with duckdb.connect() as database:
        database.register("rows", pa.table({"nested": held, "text": ["c\0"], "bytes": [b"\0"]}))
        texts = {"nested": ['{"z": "AA==", "x\\"y": [{"a\ufffd": "b\ufffd"}]}'], "text": ["c\ufffd"], "bytes": [b"\0"]}
        database.register("copied", pa.table(texts))
        own, other = database.sql(f"SELECT {columns} FROM rows"), database.sql(f"SELECT {of_table} FROM copied")
        assert own.fetchall() == other.fetchall()
