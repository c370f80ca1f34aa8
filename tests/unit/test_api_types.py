"""Every type that a feed can declare, through each format of the API: the values are those of the record."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, NamedTuple

import pyarrow as pa
import pytest
from fastapi.testclient import TestClient

from stream_app.feeds.load import load_feeds
from stream_app.feeds.types import SCALARS
from stream_app.sinks.registry import check
from tests.helpers import at
from tests.outputs import Output, Record
from tests.unit.served import served

_TIME = "2026-11-21T01:00:00.000001Z"
_AN_UUID = "0190f0c4-7d1e-7c3a-9f00-00000000000a"
_MICRO = datetime(2026, 11, 21, 1, 0, 0, 1, UTC)


class Column(NamedTuple):
    """A column: its type as a feed file declares it, what a record has, and what comes of it."""

    type: str
    sent: Any
    arrow: Any
    """The value in Arrow."""
    json: Any
    """The same in JSON; a cell of CSV is the text, or the JSON."""
    floats: Any = None
    """The same with numbers=float, where it is another."""
    parts: str = ""
    """What is in it, as a line of the feed file."""


_STRUCT = """fields = { price = { type = "decimal(18,2)" }, paid = { type = "boolean" }, day = { type = "date" }, \
lines = { type = "array", element = { type = "decimal(38,2)" } } }"""
_PAID = {"price": 1.5, "paid": False, "day": "2026-11-21", "lines": [0.25]}
COLUMNS = {
    "a_string": Column("string", "Köln, =1", "Köln, =1", "Köln, =1"),
    "a_boolean": Column("boolean", True, True, True),
    "an_int": Column("int", -(2**31), -(2**31), -(2**31)),
    "a_long": Column("long", 2**63 - 1, 2**63 - 1, 2**63 - 1),
    "a_float": Column("float", 0.5, 0.5, 0.5),
    "a_double": Column("double", 0.1, 0.1, 0.1),
    "a_decimal": Column("decimal(18,2)", 12.5, Decimal("12.50"), "12.50", 12.5),
    "a_date": Column("date", "2026-11-21", date(2026, 11, 21), "2026-11-21"),
    "a_time": Column("timestamp", _TIME, _MICRO, _TIME),
    "a_binary": Column("binary", "AP8=", b"\0\xff", "AP8="),
    "a_uuid": Column("uuid", _AN_UUID.upper(), _AN_UUID, _AN_UUID),
    "a_json": Column("json", {"b": [1, None]}, '{"b": [1, null]}', '{"b": [1, null]}'),
    "booleans": Column(
        *("array", [True, None], [True, None], [True, None]), parts='element = { type = "boolean", required = false }'
    ),
    "prices": Column(
        *("array", [1, 2.5], [Decimal(1), Decimal("2.5")], ["1.00", "2.50"], [1.0, 2.5]),
        parts='element = { type = "decimal(18,2)" }',
    ),
    "rates": Column(
        *("map", {"EUR": 1.125}, {"EUR": Decimal("1.125")}, {"EUR": "1.125"}, {"EUR": 1.125}),
        parts='value = { type = "decimal(9,3)" }',
    ),
    "flags": Column(*("map", {"new": True}, {"new": True}, {"new": True}), parts='value = { type = "boolean" }'),
    "paid": Column(
        "struct",
        _PAID,
        {"price": Decimal("1.50"), "paid": False, "day": date(2026, 11, 21), "lines": [Decimal("0.25")]},
        {**_PAID, "price": "1.50", "lines": ["0.25"]},
        _PAID,
        _STRUCT,
    ),
}
FEED = """topic = "any"
[event_time]
field = "at"
lateness = "1 hour"
future_tolerance = "1 hour"
[dedupe]
key = "id"
within = "1 hour"
[fields.id]
type = "string"
[fields.at]
type = "timestamp"
"""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """The API over two rows: one of all values, one of none."""
    root, fields = tmp_path_factory.mktemp("any"), list[str]()
    for name, one in COLUMNS.items():
        fields.append(f'[fields.{name}]\ntype = "{one.type}"\nrequired = false\n{one.parts}\n')
    (root / "any.toml").write_text(FEED + "".join(fields))
    (feed,) = load_feeds(root, ["any"], check)
    of_all = {name: one.sent for name, one in COLUMNS.items()}
    records = [{"id": "all", "at": at(1).isoformat(), **of_all}, {"id": "none", "at": at(0).isoformat()}]
    Output(feed, root / "out").take([Record(json.dumps(one).encode(), at(1)) for one in records], at(2))
    with served(root / "out", service={"feeds": ("any",), "feeds_path": root}) as client:
        yield client


def _asked(client: TestClient, accept: str, numbers: str) -> Any:
    given = {"columns": ",".join(COLUMNS), "order": "id", "numbers": numbers}
    answer = client.get("/api/feeds/any/silver", params=given, headers={"Accept": accept})
    assert answer.status_code == 200, answer.text
    return answer


def _expected(numbers: str) -> dict[str, Any]:
    is_text = numbers == "string"
    return {name: one.json if is_text or one.floats is None else one.floats for name, one in COLUMNS.items()}


NONE = dict.fromkeys(COLUMNS)


def test_the_columns_are_of_every_type() -> None:
    assert {*SCALARS} <= {one.type for one in COLUMNS.values()}


@pytest.mark.parametrize("numbers", ["string", "float"])
def test_json_has_the_values(client: TestClient, numbers: str) -> None:
    expected = [_expected(numbers), NONE]
    assert _asked(client, "application/json", numbers).json()["rows"] == expected
    lines = _asked(client, "application/x-ndjson", numbers).text.splitlines()
    assert [json.loads(line) for line in lines] == expected


@pytest.mark.parametrize("numbers", ["string", "float"])
def test_csv_has_texts_as_they_are_and_all_else_as_in_json(client: TestClient, numbers: str) -> None:
    of_all, of_none = csv.DictReader(io.StringIO(_asked(client, "text/csv", numbers).text))
    expected = _expected(numbers)
    read = {name: cell if isinstance(expected[name], str) else json.loads(cell) for name, cell in of_all.items()}
    assert read == expected
    assert {*of_none.values()} == {""}


@pytest.mark.parametrize("numbers", ["string", "float"])
def test_arrow_has_the_values_in_types_of_its_own(client: TestClient, numbers: str) -> None:
    content = _asked(client, "application/vnd.apache.arrow.stream", numbers).content
    table = pa.ipc.open_stream(content).read_all()
    assert "extension" not in str(table.schema), "not every reader knows it"
    assert ("decimal128" in str(table.schema)) == (numbers == "string"), "also within lists, maps and structs"
    for name, one in COLUMNS.items():
        value, none = table[name].to_pylist(maps_as_pydicts="strict")
        is_float = numbers == "float" and one.floats is not None
        wanted = {**one.floats, "day": one.arrow["day"]} if is_float and name == "paid" else one.floats
        assert (value, none) == (wanted if is_float else one.arrow, None), name
        if one.type in SCALARS:
            assert table.schema.field(name).type == _as_duckdb_has(SCALARS[one.type].arrow)


def _as_duckdb_has(kind: pa.DataType) -> pa.DataType:
    return pa.timestamp("us", "Etc/UTC") if pa.types.is_timestamp(kind) else kind
