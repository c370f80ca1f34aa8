"""Our Delta tables are read the same by deltalake, DuckDB, polars and Spark, whose writer honours our transactions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import polars
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from local import java
from stream_app.settings import PROJECT
from stream_app.sinks.table_optimize import carry_out, planned
from stream_app.storage.row_counts import read_parquet
from stream_app.storage.tables.delta import Delta
from stream_app.storage.tables.delta_statistics import statistics
from tests.tables import mark, new, part

pytestmark = pytest.mark.faults

COLUMNS = pa.schema(
    [
        ("number", pa.int64()),
        ("money", pa.decimal128(18, 2)),
        ("sum", pa.decimal128(38, 7)),
        ("text", pa.string()),
        ("time", pa.timestamp("us", "UTC")),
        ("day", pa.date32()),
        ("flag", pa.bool_()),
        ("double", pa.float64()),
        ("bytes", pa.binary()),
        ("texts", pa.list_(pa.field("element", pa.string()))),
        ("more", pa.struct([("a", pa.int32()), ("b", pa.string())])),
    ]
)
# Beyond 2^53 a double has no hundredths: bounds that are rounded would hide the row.
EXACT = Decimal("90071992547409.93")
QUERY_ID = "11111111-2222-3333-4444-555555555555"


def row(number: int) -> dict[str, Any]:
    return {
        "number": number,
        "money": EXACT + number,
        "sum": Decimal("-0.0000001") * number,
        "text": f"{'x' * 40}漢{number}" if number else None,
        "time": datetime(2026, 11, 21, 1, 0, number, 999_999, UTC),
        "day": date(2026, 11, 21),
        "flag": bool(number % 2),
        "double": float("nan") if number == 1 else number / 3,
        "bytes": b"\xff\0",
        "texts": ["a", None],
        "more": {"a": number, "b": None},
    }


@pytest.fixture
def table(tmp_path: Path) -> Delta:
    """Three batches of two rows, the first two of which are one file by now; version 2 has four rows."""
    table = new(tmp_path / "table", COLUMNS, {"sink": "transactions.x", "query": QUERY_ID})
    for batch in range(2):
        rows = [row(batch * 2), row(batch * 2 + 1)]
        table.commit(mark(batch, QUERY_ID), [part(table, batch, rows, COLUMNS)])
    (work,) = planned(table, ["money", "text"])
    assert carry_out(table, COLUMNS, work, ["money", "text"], statistics) == 1
    table.commit(mark(2, QUERY_ID), [part(table, 2, [row(4), row(5)], COLUMNS)])
    return table


@pytest.mark.proves("A Delta table has each batch exactly once", "delta")
def test_every_reader_finds_the_same_rows(table: Delta, tmp_path: Path) -> None:
    expected = pa.Table.from_pylist([row(number) for number in range(6)], COLUMNS)
    opened = DeltaTable(table.location)
    scanned = pa.table(opened.scan().read_all()).select(COLUMNS.names).cast(COLUMNS).sort_by("number")
    asked = duckdb.sql(f"FROM {read_parquet(map(Path, opened.file_uris()))} ORDER BY number")
    framed = polars.read_delta(table.location).sort("number").to_arrow()
    for found in (scanned, asked.to_arrow_table(), framed):
        assert str(found.select(COLUMNS.names).cast(COLUMNS).to_pylist()) == str(expected.to_pylist())
    money = f"CAST('{EXACT + 3}' AS DECIMAL(18,2))"
    assert pa.table(opened.scan(predicate=f"money = {money}").read_all()).num_rows == 1
    assert polars.scan_delta(table.location).filter(polars.col("money") == EXACT + 3).collect().height == 1
    told = _by_spark(table, tmp_path)
    assert told["all"] == [str(number) for number in range(6)]
    assert told["money"] == ["3"]
    assert told["late"] == ["3", "4", "5"]
    assert told["nan"] == ["1", "2", "3", "4", "5"]
    assert told["version 2"] == [str(number) for number in range(4)]
    assert told["after the same batch again"] == 6
    assert told["after another application"] == 12
    table.refresh()
    assert (table.written(QUERY_ID), table.foreign_features()) == (2, ())
    table.commit(mark(3, QUERY_ID), [part(table, 3, [row(6)], COLUMNS)])
    assert pa.table(DeltaTable(table.location).scan(columns=["number"]).read_all()).num_rows == 13


_SPARK = f"""
import json, sys
from pyspark.sql import SparkSession
location, classes = sys.argv[1:]
spark = (
    SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
    .config("spark.driver.extraClassPath", classes).config("spark.sql.session.timeZone", "UTC")
    .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
    .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog").getOrCreate()
)
def numbers(rows):
    return [str(one.number) for one in rows.select("number").orderBy("number").collect()]
def read(**options):
    return spark.read.format("delta").options(**options).load(location)
def write(application, version):
    rows = read(versionAsOf=found).limit(6)
    writer = rows.write.format("delta").mode("append").option("txnAppId", application)
    writer.option("txnVersion", version).save(location)
    return read().count()
found = spark.sql(f"DESCRIBE HISTORY delta.`{{location}}`").agg({{"version": "max"}}).collect()[0][0]
told = {{
    "all": numbers(read()),
    "money": numbers(read().where("money = CAST('{EXACT + 3}' AS DECIMAL(18,2))")),
    "late": numbers(read().where("time > TIMESTAMP '2026-11-21 01:00:03.9999'")),
    "nan": numbers(read().where("double > 0")),
    "version 2": numbers(read(versionAsOf=2)),
    "after the same batch again": write("{QUERY_ID}", 2),
    "after another application": write("another", 0),
}}
print("told " + json.dumps(told))
"""


def _by_spark(table: Delta, tmp_path: Path) -> dict[str, Any]:
    """What Spark's own Delta finds and does."""
    lines = [line for line in in_spark(_SPARK, tmp_path, table.location) if line.startswith("told ")]
    return dict(json.loads(lines[0].removeprefix("told ")))


def in_spark(code: str, folder: Path, *arguments: str) -> list[str]:
    """What code prints that gets the arguments and the class path of Spark's Delta, in a process of its own."""
    (ivy,) = (Path(sys.prefix) / "lib").glob("python3*/site-packages/pyspark/jars/ivy-*.jar")
    jars = folder / "jars"
    options = {"ivy": PROJECT / "conf/ivy.xml", "confs": "delta", "retrieve": f"{jars}/[artifact]-[revision].[ext]"}
    given = [text for option, value in options.items() for text in (f"-{option}", str(value))]
    subprocess.run([java.find(), "-jar", str(ivy), *given], check=True, capture_output=True)
    environment = {
        **os.environ,
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_LOCAL_DIRS": str(folder),
        "PYSPARK_PYTHON": sys.executable,
    }
    command = [sys.executable, "-c", code, *arguments, f"{jars}/*"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, cwd=folder)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout.splitlines()
