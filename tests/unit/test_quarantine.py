"""Quarantine keeps a value whole, and shows as much of it as text as an array can hold."""

import pyarrow as pa
import pytest
from pyspark.sql.pandas.types import to_arrow_schema

from stream_app.contract.contract import Contract
from stream_app.feeds import schema
from stream_app.feeds.feed import Feed
from stream_app.layers import quarantine
from tests.helpers import bronze_row


def test_a_text_is_cut_before_it_is_too_long_for_an_array(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quarantine, "_LONGEST_TEXT", 10)
    bronze = to_arrow_schema(schema.BRONZE, timezone="UTC")
    batch = pa.RecordBatch.from_pylist([bronze_row(0, b"\xff" * 20), bronze_row(1, b"no json")], bronze)
    batch = batch.append_column(schema.PLANNED, batch["kafka_ts"].cast(pa.int64()))
    found = quarantine.invalid_records(Contract(feed), to_arrow_schema(schema.QUARANTINE, timezone="UTC"))(batch)
    assert found["value"].to_pylist() == [b"\xff" * 20, b"no json"]
    assert found["value_text"].to_pylist() == ["\N{REPLACEMENT CHARACTER}" * 10, "no json"]
