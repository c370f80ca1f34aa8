"""The layers as pure functions over DataFrames: columns, types, and every value."""

import csv
import io
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from itertools import groupby
from pathlib import Path

import duckdb
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import DecimalType, LongType, StringType, TimestampType

from stream_app import schema
from stream_app.feed import Feed
from stream_app.flow import Flow, Layer
from stream_app.layers.bronze import bronze
from stream_app.layers.gold import gold
from stream_app.layers.raw_csv import LINE_SEPARATOR, header, raw_csv
from stream_app.ops import views
from stream_app.rows import count_rows
from tests.helpers import START, Row, at, silver_row, write_layer

FORMULA_STARTS = "=+-@\t\r\n"
NASTY = st.text(alphabet=st.sampled_from("=+-@\"',;|\t\r\n \\a1é\u2028漢😀#\ufeff"), min_size=1, max_size=12)
TEXTS = st.one_of(NASTY, st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20))


def test_bronze_keeps_every_byte_and_makes_keys_readable(spark: SparkSession) -> None:
    columns = "key binary, value binary, topic string, partition int, offset bigint, timestamp timestamp, "
    columns += "timestampType int, headers array<struct<key: string, value: binary>>"
    headers = [("trace", b"\x00\xff")]
    records = [
        (b"card-1", b"\x00\xffbytes", "transactions", 0, 7, at(1), 0, headers),
        (b"\xffcard", None, "transactions", 2, 8, at(2), 0, None),
        (None, b"", "transactions", 1, 9, at(3), 0, None),
    ]
    frame = bronze(spark.createDataFrame(records, columns))
    assert [(field.name, field.dataType) for field in frame.schema] == [
        (field.name, field.dataType) for field in schema.BRONZE
    ]
    first, second, third = frame.toArrow().to_pylist()
    place = {"topic": "transactions", "kafka_ts": at(1), "partition": 0, "offset": 7}
    values = {"key": "card-1", "value": b"\x00\xffbytes", "headers": [{"key": "trace", "value": b"\x00\xff"}]}
    assert first == values | place
    assert (second["key"], second["value"]) == ("\N{REPLACEMENT CHARACTER}card", None)
    assert (third["key"], third["value"]) == (None, b"")


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
    flow = Flow(feed, Layer.GOLD, tmp_path)
    before = views.connect([flow]).sql("SELECT * FROM gold")
    promised = list(zip(before.columns, map(str, before.types), strict=True))
    gold(silver_frame(spark, feed, [silver_row(0)]), feed, flow.window).write.parquet(str(tmp_path / "written"))
    after = duckdb.sql(f"SELECT * FROM '{tmp_path / 'written'}/*.parquet'")
    assert list(zip(after.columns, map(str, after.types), strict=True)) == promised


def csv_bytes(spark: SparkSession, feed: Feed, rows: Sequence[Row]) -> bytes:
    lines = [row.line for row in raw_csv(silver_frame(spark, feed, rows), feed).collect()]
    return (header(feed) + "".join(line + LINE_SEPARATOR for line in lines)).encode()


def harmless(text: str) -> str:
    """What a cell of the mirror holds for a text of silver."""
    return f"'{text}" if text[0] in FORMULA_STARTS else text


def expected_cells(rows: Sequence[Row], feed: Feed) -> list[dict[str, str]]:
    def cell(value: object) -> str:
        if isinstance(value, datetime):
            return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return harmless(value) if isinstance(value, str) else str(value)

    return [{name: cell(row[name]) for name in feed.fields} for row in rows]


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(texts=st.lists(st.tuples(TEXTS, TEXTS, TEXTS), min_size=1, max_size=60))
@example(texts=[(start + "1+1", 'say ""', "'") for start in FORMULA_STARTS])
@example(texts=[("'quoted'", '"', 'a"b,c'), ("''", "\\", '\\"'), (";", "|", "\t|;,")])
def test_any_text_round_trips_through_the_csv(
    spark: SparkSession, feed: Feed, tmp_path: Path, texts: list[tuple[str, str, str]]
) -> None:
    """Python's csv module and the DuckDB view read what silver holds, but for the apostrophe before a formula."""
    rows = [
        silver_row(n, n / 7, merchant=a, city=b, user_id=c, lat=n / 3, amount=Decimal(n).scaleb(-2))
        for n, (a, b, c) in enumerate(texts)
    ]
    data = csv_bytes(spark, feed, rows)
    assert list(csv.DictReader(io.StringIO(data.decode(), newline=""), strict=True)) == expected_cells(rows, feed)

    flow = Flow(feed, Layer.RAW_CSV, tmp_path)
    silver = write_layer(Flow(feed, Layer.SILVER, tmp_path), 0, [])
    flow.output.mkdir(parents=True, exist_ok=True)
    path = flow.output / silver.path.name.replace("silver", "raw_csv").replace("parquet", "csv")
    path.write_bytes(data)
    found = views.connect([flow]).sql("SELECT * FROM raw_csv").to_arrow_table().to_pylist()
    texts_made_harmless = [
        {name: harmless(row[name]) if isinstance(row[name], str) else row[name] for name in feed.fields} for row in rows
    ]
    assert sorted(found, key=lambda row: row["event_time"]) == texts_made_harmless
    count_rows.cache_clear()
    assert count_rows(path) == len(rows)


def test_no_cell_can_run_as_a_formula(spark: SparkSession, feed: Feed) -> None:
    rows = [silver_row(n, merchant=f"{start}cmd|' /C calc'!A0") for n, start in enumerate(FORMULA_STARTS)]
    for cells in csv.reader(io.StringIO(csv_bytes(spark, feed, rows).decode(), newline="")):
        assert not [cell for cell in cells if cell and cell[0] in FORMULA_STARTS]
