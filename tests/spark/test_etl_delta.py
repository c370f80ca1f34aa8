"""The ETL with `--format delta`: the rows of plain Parquet, a version a run, read the same by every reader of Delta."""

from __future__ import annotations

import shutil
from pathlib import Path

import duckdb
import polars
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from stream_app.errors import ConfigError
from stream_app.gold.tables import Table
from stream_app.storage.row_counts import read_parquet
from tests.batch import Batch
from tests.landed import Topic

FEED, DAILY = "transaction_events", "per_day"
SQL = "SELECT event_date, count(*) AS payments, max(event_time) AS last, sum(amount) AS total FROM transaction_events"
TABLES = (Table(DAILY, (FEED,), 0, f"{SQL} GROUP BY event_date"),)


def test_delta_tables_hold_what_plain_files_do_and_each_run_is_one_commit(spark: SparkSession, tmp_path: Path) -> None:
    kept = Batch(spark, tmp_path / "landing", tmp_path / "delta", "delta")
    plain = Batch(spark, tmp_path / "landing", tmp_path / "plain")
    kept.tables = plain.tables = TABLES
    topic = Topic(FEED, kept.landing)
    topic.land(120, 30)
    assert kept.etl(FEED)
    topic.land(150, 300)  # on this day and the next
    second = kept.etl(FEED)
    assert second is not None
    kept.form = ""
    assert kept.etl(FEED) is None, "nothing is new; a run without a format keeps the one that gold has"
    kept.form = "delta"
    assert plain.etl(FEED)
    for name in (FEED, f"quarantine/{FEED}", DAILY):
        assert kept.rows(name) == plain.rows(name), name
        opened = DeltaTable(str(kept.gold / name))
        assert opened.transaction_version(second.gold) == second.run == 2
        scanned = pa.table(opened.scan().read_all())
        framed = polars.read_delta(str(kept.gold / name))
        listed = duckdb.sql(f"FROM {read_parquet(map(Path, opened.file_uris()))}")
        assert scanned.num_rows == framed.height == listed.count("*").fetchall()[0][0] == len(plain.rows(name))
    scanned = pa.table(DeltaTable(str(kept.gold / FEED)).scan().read_all())
    for found in (scanned, polars.read_delta(str(kept.gold / FEED)).to_arrow()):  # noqa: B007 - DuckDB finds it by its name
        amounts = "SELECT sum(amount), min(event_time), max(event_time) FROM"
        due = duckdb.sql(f"{amounts} {plain.files(FEED)}").fetchall()
        assert duckdb.sql(f"{amounts} found").fetchall() == due
    report = kept.audit()[FEED]
    assert (report.wrong, report.not_audited) == ([], [])
    assert report.counts["landed"] == report.counts["gold"] + report.counts["quarantine"] + report.counts["repeats"]

    before = kept.rows(FEED)
    assert kept.etl(FEED, full=True), "the same again"
    assert kept.rows(FEED) == before
    assert kept.audit()[FEED].wrong == []
    DeltaTable(str(kept.gold / FEED)).delete("user_id = 'nobody' OR amount > 0")
    assert any(line.startswith("lost: due in gold") for line in kept.audit()[FEED].wrong), "the audit reads the table"
    plain.form = "delta"
    with pytest.raises(ConfigError, match=r"--format: .*/plain has tables of parquet; give another --gold"):
        plain.etl(FEED)


@pytest.mark.parametrize("form", ["delta", "parquet"])
def test_other_sql_asks_for_all_days(spark: SparkSession, tmp_path: Path, form: str) -> None:
    batch = Batch(spark, tmp_path / "landing", tmp_path / "gold", form)
    batch.tables = TABLES
    topic = Topic(FEED, batch.landing)
    topic.land(60, 900)
    assert batch.etl(FEED)
    batch.tables = (Table(DAILY, (FEED,), 0, f"{SQL.replace('count(*)', 'count(*) * 0.5')} GROUP BY event_date"),)
    shutil.rmtree(batch.landing)
    later = Topic(FEED, batch.landing, ends=topic.ends, now=topic.now)
    later.land(20, 30)
    before = batch.rows(DAILY)
    with pytest.raises(ConfigError, match=f"/{DAILY}: its columns were changed; make the table anew by --full"):
        batch.etl(FEED)
    assert batch.rows(DAILY) == before
