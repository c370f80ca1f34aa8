"""The ETL of a feed with reference data: each run judges by what there is as it begins, and the audit by the same."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest
from pyspark.sql import SparkSession

from stream_app.errors import ConfigError
from stream_app.feeds.load import load_feeds
from stream_app.settings import PROJECT
from stream_app.storage import snapshots
from tests.batch import Batch
from tests.landed import Topic

FEED = "sales"
CLIENTS, PRODUCTS = "clients.csv", "produits.csv"
Rows = list[dict[str, str]]


@pytest.fixture
def batch(spark: SparkSession, tmp_path: Path) -> Batch:
    made = Batch(spark, tmp_path / "landing", tmp_path / "gold")
    made.feeds_path = tmp_path / "feeds"
    made.feeds_path.mkdir()
    shutil.copy(PROJECT / "conf" / "feeds" / f"{FEED}.toml", made.feeds_path)
    shutil.copytree(PROJECT / "conf" / "reference", tmp_path / "reference")
    made.feeds, made.tables = {FEED: load_feeds(made.feeds_path, [FEED])[0]}, ()
    return made


def change(batch: Batch, name: str, how: Callable[[Rows], Rows]) -> None:
    path = batch.feeds_path.parent / "reference" / name
    with path.open() as opened:
        rows = how(list(csv.DictReader(opened)))
    with path.open("w") as opened:
        writer = csv.DictWriter(opened, [*rows[0]])
        writer.writeheader()
        writer.writerows(rows)


def test_each_run_judges_by_the_reference_data_of_its_time(batch: Batch) -> None:
    topic = Topic("ventes_stream", batch.landing, feed=FEED)
    topic.land(300, 5)
    first = batch.etl(FEED)
    assert first is not None
    prices = f"SELECT DISTINCT prix FROM {batch.files(FEED)} WHERE produit_id = {{}} ORDER BY 1"
    ((product, price),) = duckdb.sql(f"SELECT produit_id, prix FROM {batch.files(FEED)} LIMIT 1").fetchall()
    dearer = price + Decimal("0.01")
    unknown = f"SELECT count(*) FROM {batch.files(f'quarantine/{FEED}')} WHERE reasons = ['unknown:client_id']"
    (before,) = duckdb.sql(unknown).fetchone() or (0,)

    change(
        batch,
        PRODUCTS,
        lambda rows: [r | ({"prix": str(dearer)} if r["produit_id"] == str(product) else {}) for r in rows],
    )
    change(batch, CLIENTS, lambda rows: rows[: len(rows) // 2])
    topic.land(300, 5)
    assert batch.etl(FEED)
    assert duckdb.sql(prices.format(product)).fetchall() == [(price,), (dearer,)]
    (after,) = duckdb.sql(unknown).fetchone() or (0,)
    assert after > before + 50, "who is no client any more is unknown in later records alone"
    report = batch.audit()[FEED]
    assert (report.wrong, report.not_audited) == ([], []), "the audit judges each by its own"
    assert report.counts["landed"] == 600

    kept = {path: path.read_bytes() for path in (batch.gold / "_lookups" / FEED).iterdir()}
    assert len(kept) == 4
    for path in kept:
        path.unlink()
    snapshots._opened.cache_clear()  # as another process
    assert any("the snapshot of reference data is missing" in line for line in batch.audit()[FEED].wrong)
    for path, content in kept.items():
        path.write_bytes(content)

    assert batch.etl(FEED, full=True)
    assert duckdb.sql(prices.format(product)).fetchall() == [(dearer,)], "a full run judges all by today's"
    assert batch.audit()[FEED].wrong == []
    assert len([*(batch.gold / "_lookups" / FEED).iterdir()]) == 2, "what no row was judged by is deleted"

    topic.land(10, 5)
    rows = batch.rows(FEED)
    (batch.feeds_path.parent / "reference" / CLIENTS).unlink()
    with pytest.raises(ConfigError, match=r"lookups\.clients of sales: there is no file .*clients\.csv"):
        batch.etl(FEED)
    assert batch.rows(FEED) == rows
