"""A footer counts leaves, of which a nested column has several; what asks it for a column gets that column."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stream_app.feeds.footers import statistics_of
from stream_app.layers.late import old_rows
from stream_app.observe.promptness import _counted
from stream_app.storage.planned import newest_kafka_ts

TIME = pa.timestamp("us", "UTC")
NESTED: dict[str, tuple[pa.DataType, Any]] = {
    "nothing": (pa.int64(), 1),
    "a struct with the names of the times": (pa.struct([("event_time", pa.int64()), ("kafka_ts", pa.int64())]), None),
    "a map": (pa.map_(pa.string(), pa.string()), [("kafka_ts", "x")]),
    "a map in a map": (pa.map_(pa.string(), pa.map_(pa.string(), pa.string())), [("a", [("b", "x")])]),
    "an array of structs": (pa.list_(pa.struct([("event_time", TIME), ("b", pa.binary())])), []),
}


@pytest.fixture(params=NESTED)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A file of four rows, one and two minutes after 1970, in two row groups, with something before the times."""
    kind, value = NESTED[request.param]
    if pa.types.is_struct(kind):
        value = dict.fromkeys(_TIMES, 10**15)
    times = {name: pa.array([60_000_000, 60_000_000, 120_000_000, 120_000_000]).cast(TIME) for name in _TIMES}
    file = tmp_path / "silver.parquet"
    pq.write_table(pa.table({"before": pa.array([value] * 4, kind), **times}), file, row_group_size=2)
    return file


_TIMES = ("event_time", "kafka_ts")


def test_the_statistics_are_those_of_the_column(path: Path) -> None:
    for column in _TIMES:
        found = statistics_of(pq.read_metadata(path), column)
        assert [one.max_raw for one in found if one] == [60_000_000, 120_000_000]


def test_the_newest_kafka_timestamp_is_that_of_the_records(path: Path) -> None:
    assert newest_kafka_ts(pq.read_metadata(path)) == 120_000_000


def test_late_rows_are_found_whatever_comes_before_the_event_time(path: Path) -> None:
    file = pq.ParquetFile(path)
    assert old_rows(file, file.schema_arrow, "event_time", 90_000_000).num_rows == 2


def test_records_are_counted_by_their_age(path: Path) -> None:
    assert _counted(path, 90) == (4, 2)
