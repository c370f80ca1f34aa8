"""A column of any type may hold nothing, or only null: its batch is sent as JSON and written as CSV all the same."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from stream_app.feeds import types
from stream_app.feeds.types import Type
from stream_app.sinks import json_text
from stream_app.sinks.csv import LINE_SEPARATOR, lines
from stream_app.storage.lines import LINE

ONE_VALUE = [*types.SCALARS.values(), types.decimal(18, 2), types.decimal(38, 12)]
EVERY = [
    *ONE_VALUE,
    *(made for one in ONE_VALUE for made in (types.array(one), types.mapping(one), types.struct({"inner": one}))),
]


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.name)
@pytest.mark.parametrize("rows", [0, 3])
def test_a_column_may_have_no_value(kind: Type, rows: int) -> None:
    batch = pa.RecordBatch.from_arrays([pa.nulls(rows, kind.arrow)], ["column"])
    assert json_text.objects(batch).to_pylist() == ["{}"] * rows
    assert lines(batch, {"column": kind})[LINE].to_pylist() == [LINE_SEPARATOR] * rows
    if not kind.is_nested:
        texts = json_text.texts(batch["column"])
        assert texts.cast(pa.binary()).to_pylist() == [None] * rows


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        ("string", 'a"\n', 'a"\n'),
        ("boolean", True, "true"),
        ("int", -5, "-5"),
        ("long", 2**63 - 1, "9223372036854775807"),
        ("float", 0.1, "0.1"),
        ("double", 1e300, "1.0E300"),
        ("decimal(18,2)", Decimal("-0.50"), "-0.50"),
        ("date", date(1, 1, 1), "0001-01-01"),
        ("timestamp", datetime(2026, 11, 21, 1, 0, tzinfo=UTC), "2026-11-21T01:00:00.000000Z"),
        ("binary", b"\x00\xff", b"\x00\xff"),
        ("uuid", "0190f0c4-7d1e-7c3a-9f00-00000000000a", "0190f0c4-7d1e-7c3a-9f00-00000000000a"),
    ],
)
def test_a_key_or_a_header_is_the_text_of_its_value(kind: str, value: object, text: object) -> None:
    """Of any scalar: without the quotes and escapes that it has within JSON, and binary as it is."""
    assert json_text.texts(pa.array([value, None], types.scalar(kind).arrow)).to_pylist() == [text, None]
