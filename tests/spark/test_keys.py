"""Windows and sessions are counted by any columns that hold one value, as Spark runs them and as the audit computes."""

import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from pyspark.sql import SparkSession

from stream_app.feeds.feed import Feed
from stream_app.ops import views
from tests.helpers import Row, at, write_planned
from tests.spark.conftest import Service

MOMENT = at(0.123456)
FIRST, LAST = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999_999, UTC)
KEYS: dict[str, tuple[str, list[Any]]] = {
    "word": ("string", ["a", "", "é", "\0", None]),
    "flag": ("boolean", [True, False, None]),
    "small": ("int", [-1, 2**31 - 1]),
    "large": ("long", [0, -(2**63)]),
    "ratio": ("double", [0.5, 1e300, 5e-324, 0.0, -0.0, None]),
    "share": ("float", [0.5, -3.4028234663852886e38, 1.401298464324817e-45, 0.0, -0.0, None]),
    "price": ("decimal(9,2)", [Decimal("0.10"), Decimal("9999999.99")]),
    "day": ("date", [date(1969, 12, 31), date(2026, 11, 27), date(1582, 10, 10), date.min, date.max, None]),
    "moment": ("timestamp", [MOMENT, MOMENT - timedelta(days=40_000), FIRST, LAST, None]),
    "code": ("uuid", ["00000000-0000-0000-0000-00000000000a", "ffffffff-ffff-ffff-ffff-ffffffffffff"]),
    "raw": ("binary", [b"", b"\xff\x00", None]),
}
ORDERED = ("word", "day", "moment", "code", "price")
FEED = {
    "name": "keyed",
    "topic": "keyed",
    "fields": {"at": {"type": "timestamp"}, "id": {"type": "string"}}
    | {name: {"type": kind, "required": None not in values} for name, (kind, values) in KEYS.items()},
    "event_time": {"field": "at", "lateness": "1 hour", "future_tolerance": "1 hour"},
    "dedupe": {"key": "id", "within": "1 hour"},
    "windows": {
        "by_all": {
            "key": list(KEYS),
            "window": "1 minute",
            "watermark": "1 minute",
            "measures": {"began": "start", "n": "count", "total": "sum(small)"},
        },
        "by_flag": {
            "key": "flag",
            "window": "1 minute",
            "watermark": "1 minute",
            "measures": {
                f"{function}_{name}": f"{function}({name})" for name in ORDERED for function in ("min", "max")
            },
        },
    },
    "sessions": {"visits": {"keys": list(KEYS), "gap": "1 minute", "watermark": "1 minute"}},
}


@pytest.fixture
def feed() -> Feed:
    return Feed.model_validate(FEED)


def _rows(seed: int) -> Iterator[list[Row]]:
    """Files of silver whose rows differ in one column of the key at most."""
    rng = random.Random(seed)
    for batch in range(4):
        rows: list[Row] = []
        for number in range(60):
            other = rng.choice(list(KEYS))
            keys = {name: rng.choice(found) if name == other else found[0] for name, (_, found) in KEYS.items()}
            seconds = batch * 300 + rng.randrange(280)
            place = {"kafka_ts": at(seconds), "topic": "keyed", "partition": 0, "offset": batch * 60 + number}
            rows.append({"at": at(seconds), "id": f"r{batch}-{number}", **keys, **place})
        yield rows


@pytest.mark.parametrize("sink", ["by_all", "by_flag", "visits"])
def test_spark_and_the_audit_count_by_columns_of_every_type(
    sink: str, spark: SparkSession, feed: Feed, tmp_path: Path
) -> None:
    service = Service(spark, feed, tmp_path)
    flow, silver = service.flows[sink], service.flows["silver"]
    for batch, rows in enumerate(_rows(7)):
        write_planned(silver, batch, rows)
    service.drain(sink)
    committed, stateful = flow.checkpoint.last_committed(), flow.stateful
    assert committed and stateful
    promised = views.connect([flow]).sql(f"SELECT * FROM {sink} LIMIT 0")
    actual, rows_of, late = f"({views.select(flow)})", f"({views.select(silver)})", f"({views.select_late(flow)})"
    expected = stateful.expected(rows_of, late, committed.watermark_ms)
    assert not duckdb.sql(stateful.differing(actual, f"({expected})", alike=False)).fetchall()
    found = duckdb.sql(f"SELECT * FROM {actual}")
    assert list(map(str, found.types)) == list(map(str, promised.types))
    assert len(found.fetchall()) > {"by_all": 100, "by_flag": 10, "visits": 40}[sink]
    if sink != "by_flag":
        assert duckdb.sql(f"SELECT 1 FROM {actual} WHERE word IS NULL").fetchall()
    if sink == "visits":
        assert duckdb.sql(f"SELECT DISTINCT outcome FROM {actual}").fetchall() == [("timed_out",)]
