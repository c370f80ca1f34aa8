"""Each of the five tables of the sales feed reads the same by deltalake, DuckDB, polars and Spark, value by value."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from tests.faults.test_delta_readers import in_spark
from tests.service.sales import TABLES, sold
from tests.service.servers import KafkaBroker

pytestmark = pytest.mark.faults


@pytest.mark.proves("A Delta table has each batch exactly once", "delta")
def test_every_reader_finds_each_row_of_each_table(broker: KafkaBroker, class_archive: Path, tmp_path: Path) -> None:
    root = sold(broker, class_archive, tmp_path, 3_000).root / "sales"
    readers = {
        "DuckDB, deltalake's scan": {table: _by_scan(root / table) for table in TABLES},
        "DuckDB, the files": {table: _by_files(root / table) for table in TABLES},
        "DuckDB, delta_scan": _in_process(_DELTA_SCAN, root, tmp_path / "duckdb", str(_duckdb(tmp_path))),
        "polars": {table: polars.read_delta(str(root / table)).to_arrow() for table in TABLES},
        "Spark": _by_spark(root, tmp_path),
    }
    for table in TABLES:
        by_deltalake = pa.table(DeltaTable(root / table).scan().read_all())
        expected = _rows(by_deltalake)
        assert expected
        for reader, found in readers.items():
            assert {*found[table].column_names} == {*by_deltalake.column_names}, (reader, table)
            assert _rows(found[table]) == expected, (reader, table)


def _by_scan(table: Path) -> pa.Table:
    """As docs/outputs.md tells how to, without an extension."""
    rows = DeltaTable(table).scan()  # noqa: F841 - DuckDB finds it by its name
    return duckdb.sql("FROM rows").to_arrow_table()


def _by_files(table: Path) -> pa.Table:
    """Where each file is in the folder of its date, as none here is too old for."""
    return duckdb.read_parquet(DeltaTable(table).file_uris(), hive_partitioning=True).to_arrow_table()


_DELTA_SCAN = """
import sys
from pathlib import Path
import pyarrow.parquet as pq
root, to, tables, packages = sys.argv[1:]
sys.path.insert(0, packages)
import duckdb
(extension,) = Path(packages).rglob("delta.duckdb_extension")
database = duckdb.connect()
database.execute(f"LOAD '{extension}'; SET TimeZone = 'UTC'")
for table in tables.split():
    pq.write_table(database.sql(f"FROM delta_scan('{root}/{table}')").to_arrow_table(), f"{to}/{table}")
"""

_SPARK = """
import sys
import pyarrow.parquet as pq
from pyspark.sql import SparkSession
root, to, tables, classes = sys.argv[1:]
spark = (
    SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
    .config("spark.driver.extraClassPath", classes).config("spark.sql.session.timeZone", "UTC")
    .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
    .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog").getOrCreate()
)
for table in tables.split():
    pq.write_table(spark.read.format("delta").load(f"{root}/{table}").toArrow(), f"{to}/{table}")
"""


def _duckdb(folder: Path) -> Path:
    """A folder with the newest DuckDB that has the extension on PyPI."""
    packages = folder / "packages"
    lock = Path(__file__).with_name("duckdb-delta.lock")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--require-hashes", "-r", str(lock)]
    subprocess.run([*pip, "--target", str(packages)], check=True, capture_output=True)
    return packages


def _in_process(code: str, root: Path, to: Path, *more: str) -> dict[str, pa.Table]:
    """What code writes for each table that it reads."""
    to.mkdir()
    command = [sys.executable, "-c", code, str(root), str(to), " ".join(TABLES), *more]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return _read(to)


def _by_spark(root: Path, folder: Path) -> dict[str, pa.Table]:
    to = folder / "spark"
    to.mkdir()
    in_spark(_SPARK, folder, str(root), str(to), " ".join(TABLES))
    return _read(to)


def _read(folder: Path) -> dict[str, pa.Table]:
    return {table: pq.ParquetFile(folder / table).read() for table in TABLES}


def _rows(table: pa.Table) -> Counter[str]:
    """How often each row is there: the order of rows is none's, and each library has types of its own for one value."""
    return Counter(str(sorted((key, _plain(value)) for key, value in row.items())) for row in table.to_pylist())


def _plain(value: Any) -> Any:
    match value:
        case datetime():
            assert value.tzinfo, value
            return "time", value.timestamp()
        case date() | Decimal() | bytes():
            return type(value).__name__, str(value)
        case Mapping():
            return sorted((key, _plain(inner)) for key, inner in value.items())
        case list() | tuple():
            return [_plain(inner) for inner in value]
    return value
