"""An ETL that is killed at any point, by real spark-submit: readers see a whole run, and the next run makes it good."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from stream_app.feeds.load import load_feeds
from stream_app.gold.store import Gold
from stream_app.ops.audit.gold import audit_gold
from stream_app.settings import PROJECT
from tests.landed import Topic

NAMES = ("user_events", "transaction_events")
FEEDS = load_feeds(PROJECT / "conf" / "feeds", NAMES)
TABLES = (*NAMES, "user_daily", "product_daily")


def etl(root: Path, point: str = "") -> subprocess.CompletedProcess[str]:
    folders = {"LANDING_PATH": str(root / "landing"), "GOLD_PATH": str(root / "gold")}
    return subprocess.run(
        [sys.executable, "-m", "stream_app", "etl"],
        cwd=PROJECT,
        env=os.environ | folders | {"SPARK_MASTER": "local[2]"} | ({"FAIL_POINT": f"etl:{point}"} if point else {}),
        capture_output=True,
        text=True,
        check=False,
    )


def seen(root: Path) -> dict[str, list[tuple[object, ...]]]:
    """All rows that a reader of the plain folders finds."""
    return {
        table: duckdb.sql(f"FROM read_parquet('{root}/gold/{table}/*/*.parquet') ORDER BY ALL").fetchall()
        for table in TABLES
        if (root / "gold" / table).exists()
    }


@pytest.mark.timeout(3600)
def test_death_at_each_point(tmp_path: Path) -> None:
    topics = [Topic(name, tmp_path / "landing") for name in NAMES]
    for number, point in enumerate(("judged", "written", "prepared", "committed", "shown")):
        for topic in topics:
            topic.land(200, 60)
        before, newest = seen(tmp_path), Gold(tmp_path / "gold").newest()
        died = etl(tmp_path, point)
        assert died.returncode not in {0, 1, 2}, died.stdout
        after = seen(tmp_path)
        if point == "shown":
            assert after != before
        else:
            assert after == before, f"readers see the run before, after death at {point}"
        was = point in {"committed", "shown"}
        assert (Gold(tmp_path / "gold").newest() == newest) == (not was)
        done = etl(tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        assert (json.loads(done.stdout.splitlines()[-1])["run"] is None) == was, "nothing is taken twice"
        reports = audit_gold(tmp_path / "landing", tmp_path / "gold", FEEDS, lambda *_: None)
        assert [report.wrong for report in reports] == [[], []], point
        assert sum(report.counts["landed"] for report in reports) == 400 * (number + 1)
        assert not (tmp_path / "gold" / "_staging").exists()
