"""The ETL in a process of the tests, over a landing zone that is made without Kafka."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
from pyspark.sql import SparkSession

from stream_app.feeds.load import load_feeds
from stream_app.gold import etl
from stream_app.gold.manifest import Manifest
from stream_app.gold.plan import Selection
from stream_app.gold.store import Gold
from stream_app.gold.tables import load_tables
from stream_app.ops.audit.gold import audit_gold
from stream_app.ops.audit.report import Report
from stream_app.settings import PROJECT, load_settings
from stream_app.storage.row_counts import literal, read_parquet

NAMES = ("user_events", "transaction_events")
FEEDS = {feed.name: feed for feed in load_feeds(PROJECT / "conf" / "feeds", NAMES)}
TABLES = load_tables(PROJECT / "conf" / "gold")


class Batch:
    """A landing zone, and gold."""

    def __init__(self, spark: SparkSession, landing: Path, gold: Path, form: str = "") -> None:
        self._spark, self.landing, self.gold, self.form = spark, landing, gold, form
        self.feeds, self.tables = dict(FEEDS), TABLES
        self.feeds_path = PROJECT / "conf" / "feeds"

    def etl(self, *names: str, **selection: Any) -> Manifest | None:
        folders = {"landing_path": self.landing, "gold_path": self.gold, "feeds_path": self.feeds_path}
        settings = load_settings(_env_file=None, **folders)
        feeds = [self.feeds[name] for name in names or NAMES]
        job = etl.Job(feeds, self.feeds, self.tables, Selection(**selection), "test", self.form)
        return etl.run(settings, job, lambda: self._spark)

    def audit(self) -> dict[str, Report]:
        found = audit_gold(self.landing, self.gold, [*self.feeds.values()], lambda *_: None)
        return {report.feed.removesuffix(" in gold"): report for report in found}

    def rows(self, table: str, order: str = "ALL") -> list[tuple[Any, ...]]:
        return duckdb.sql(f"SELECT * FROM {self.files(table)} ORDER BY {order}").fetchall()

    def files(self, table: str) -> str:
        """The files of a table in SQL, as a reader of the plain folder, or of the table's log, names them."""
        gold = Gold(self.gold)
        if self.form == "delta" and (newest := gold.newest()):
            files = gold.form(self.form).files(newest, table)
            return f"{read_parquet(files)[:-1]}, hive_partitioning = true)"
        folder = literal(self.gold / table).replace("'", "''")
        return f"read_parquet('{folder}/*/*.parquet', hive_partitioning = true)"
