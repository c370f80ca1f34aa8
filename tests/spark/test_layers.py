"""The layers as pure functions over DataFrames: columns, types, and every value."""

from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal
from itertools import groupby
from pathlib import Path

import duckdb
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import DecimalType, LongType, StringType, TimestampType

from stream_app.feeds import schema
from stream_app.feeds.feed import Feed
from stream_app.layers.windows import windows as gold
from stream_app.ops import views
from tests.helpers import START, Row, at, flow_of, silver_row


def silver_frame(spark: SparkSession, feed: Feed, rows: Sequence[Row]) -> DataFrame:
    return spark.createDataFrame([tuple(row[name] for name in feed.fields) for row in rows], schema.fields(feed))


def test_gold_is_to_the_cent_and_its_columns_are_the_design_s(spark: SparkSession, feed: Feed) -> None:
    cents = [1, 2, 10_000_000_000_000_000, 10, 20, 33, 99_999_999, 5]
    rows = [silver_row(n, n * 17, amount=Decimal(cents[n % 8]).scaleb(-2), card_id=f"c{n % 2}") for n in range(40)]
    frame = gold(silver_frame(spark, feed, rows), feed, feed.windows["gold"])
    assert [(field.name, field.dataType) for field in frame.schema] == [
        ("window_start", TimestampType()),
        ("window_end", TimestampType()),
        ("card_id", StringType()),
        ("txn_count", LongType()),
        ("sum_amount", DecimalType(28, 2)),
        ("avg_amount", DecimalType(22, 6)),
        ("max_amount", DecimalType(18, 2)),
    ]

    def window(row: Row) -> tuple[int, str]:
        return int((row["event_time"] - START).total_seconds()) // 60, row["card_id"]

    expected = []
    for (minute, card), group in groupby(sorted(rows, key=window), window):
        amounts = [row["amount"] for row in group]
        average = (sum(amounts) / len(amounts)).quantize(Decimal("0.000001"), ROUND_HALF_UP)
        times = at(minute * 60), at(minute * 60 + 60)
        expected.append((*times, card, len(amounts), sum(amounts), average, max(amounts)))
    found = [tuple(row.values()) for row in frame.toArrow().to_pylist()]
    assert sorted(found) == expected


def test_gold_s_files_have_the_types_that_the_views_promise(feed: Feed, spark: SparkSession, tmp_path: Path) -> None:
    flow = flow_of(feed, "gold", tmp_path)
    before = views.connect([flow]).sql("SELECT * FROM gold")
    promised = list(zip(before.columns, map(str, before.types), strict=True))
    gold(silver_frame(spark, feed, [silver_row(0)]), feed, flow.feed.windows[flow.kind.name]).write.parquet(
        str(tmp_path / "written")
    )
    after = duckdb.sql(f"SELECT * FROM '{tmp_path / 'written'}/*.parquet'")
    assert list(zip(after.columns, map(str, after.types), strict=True)) == promised


TOP = 2**63 - 1
LONGS = {
    "name": "longs",
    "topic": "longs",
    "fields": {
        "at": {"type": "timestamp"},
        "k": {"type": "string"},
        "n": {"type": "long"},
        "small": {"type": "long", "range": [0, 2**31 - 1]},
    },
    "event_time": {"field": "at", "lateness": "1 hour", "future_tolerance": "1 hour"},
    "dedupe": {"key": "k", "within": "1 hour"},
    "windows": {
        "gold": {
            "key": "k",
            "window": "1 minute",
            "watermark": "1 minute",
            "measures": {
                "n_sum": "sum(n)",
                "n_min": "min(n)",
                "n_max": "max(n)",
                "n_avg": "avg(n)",
                "small_sum": "sum(small)",
            },
        }
    },
}


def test_sums_of_longs_have_room_for_any(spark: SparkSession, tmp_path: Path) -> None:
    """A sum of the largest longs, and the functions beside it; where the range proves that they fit, it is a long."""
    made = Feed.model_validate(LONGS)
    rows = [(at(n), f"k{n % 2}", TOP if n % 2 else -TOP - 1, n) for n in range(10)]
    frame = gold(spark.createDataFrame(rows, schema.fields(made)), made, made.windows["gold"])
    flow = flow_of(made, "gold", tmp_path)
    promised = views.connect([flow]).sql("SELECT * FROM gold")
    frame.write.parquet(str(tmp_path / "written"))
    written = duckdb.sql(f"SELECT * FROM '{tmp_path / 'written'}/*.parquet' ORDER BY k")
    assert list(map(str, written.types)) == list(map(str, promised.types))
    assert dict(zip(written.columns, map(str, written.types), strict=True))["small_sum"] == "BIGINT"
    assert [row[3:] for row in written.fetchall()] == [
        (Decimal(5 * (-TOP - 1)), -TOP - 1, -TOP - 1, float(-TOP - 1), 20),
        (Decimal(5 * TOP), TOP, TOP, float(TOP), 25),
    ]
