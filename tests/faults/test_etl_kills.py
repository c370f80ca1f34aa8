"""An ETL that is killed at any point, by real spark-submit: readers see a whole run, and the next run makes it good."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from stream_app.feeds.load import load_feeds
from stream_app.gold.store import Gold
from stream_app.ops.audit.gold import audit_gold
from stream_app.settings import PROJECT
from tests.landed import Topic

NAMES = ("user_events", "transaction_events")
FEEDS = load_feeds(PROJECT / "conf" / "feeds", NAMES)
TABLES = (*NAMES, *(f"quarantine/{name}" for name in NAMES), "user_daily", "product_daily")
NEVER_WAS = {"judged", "written", "prepared"}
"""The points at which a run that dies is as if it had not begun."""
DEATHS = {
    "parquet": [("judged", "written"), ("prepared", "committed"), ("shown",)],
    # the first run dies again and again
    "delta": [("prepared", "prepared", "prepared", "committed"), ("prepared", "table"), ("shown",)],
}
"""By format, a portion of records each: the points at which runs over it die, one after another."""
RECORDS = 200
"""Of each topic in a portion."""
Rows = dict[str, list[tuple[object, ...]]]


def etl(root: Path, gold: Path, form: str, point: str = "") -> subprocess.CompletedProcess[str]:
    folders = {"LANDING_PATH": str(root / "landing"), "GOLD_PATH": str(gold)}
    return subprocess.run(
        [sys.executable, "-m", "stream_app", "etl", f"--format={form}"],
        cwd=PROJECT,
        env=os.environ | folders | {"SPARK_MASTER": "local[2]"} | ({"FAIL_POINT": f"etl:{point}"} if point else {}),
        capture_output=True,
        text=True,
        check=False,
    )


def seen(gold: Path, form: str) -> Rows:
    """All rows that a reader finds of each table: of the plain folders, or by the tables' logs."""
    found = {}
    for table in TABLES:
        if form == "delta" and DeltaTable.is_deltatable(str(gold / table)):
            rows = pa.table(DeltaTable(str(gold / table)).scan().read_all())
        elif form == "parquet" and (gold / table).exists():
            rows = duckdb.sql(f"FROM read_parquet('{gold}/{table}/*/*.parquet')").to_arrow_table()
        else:
            continue
        names = ", ".join(f'"{name}"' for name in sorted(rows.column_names))
        found[table] = duckdb.sql(f"SELECT {names} FROM rows ORDER BY ALL").fetchall()
    return {table: rows for table, rows in found.items() if rows}


@pytest.mark.parametrize("form", DEATHS)
def test_death_at_each_point(tmp_path: Path, form: str) -> None:
    topics = [Topic(name, tmp_path / "landing") for name in NAMES]
    gold = Gold(tmp_path / "gold")
    for number, points in enumerate(DEATHS[form]):
        for topic in topics:
            topic.land(RECORDS, 60)
        before, newest = seen(gold.root, form), gold.newest()
        for point in points:
            died = etl(tmp_path, gold.root, form, point)
            assert died.returncode not in {0, 1, 2}, died.stdout + died.stderr
            after = seen(gold.root, form)
            match point:
                case "table":
                    changed = [table for table in after if after[table] != before[table]]
                    assert len(changed) == 1, "a Delta table changes at once, and one after another"
                case "shown":
                    assert after != before
                case _:
                    assert after == before, f"readers see the run before, after death at {point}"
            assert (gold.newest() == newest) == (point in NEVER_WAS)
        done = etl(tmp_path, gold.root, form)
        assert done.returncode == 0, done.stdout + done.stderr
        is_new = json.loads(done.stdout.splitlines()[-1])["run"] is not None
        assert is_new == (points[-1] in NEVER_WAS), "nothing is taken twice"
        reports = audit_gold(tmp_path / "landing", gold.root, FEEDS, lambda *_: None)
        assert [report.wrong for report in reports] == [[], []], points
        assert sum(report.counts["landed"] for report in reports) == 2 * RECORDS * (number + 1)
        assert not gold.staging.exists()
    rows = seen(gold.root, form)
    assert rows.keys() == {*TABLES}
    shutil.move(gold.root, tmp_path / "killed")
    undisturbed = etl(tmp_path, gold.root, "parquet")
    assert undisturbed.returncode == 0, undisturbed.stdout + undisturbed.stderr
    for table, due in seen(gold.root, "parquet").items():
        assert rows[table] == due, f"{table} has the rows of one run that nobody killed"
