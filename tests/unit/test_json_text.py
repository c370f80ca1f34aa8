"""A column of any type may hold nothing, or only null: its batch is sent as JSON and written as CSV all the same."""

from __future__ import annotations

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
