"""The batch path over topics that the stream has read, too: both make the same rows of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import duckdb
import pytest

from stream_app.settings import PROJECT
from tests.service.drained import Drained
from tests.service.harness import Service

PER_COUNTRY = """
-- feeds: sales
SELECT event_date, produit_nom, pays,
    sum(montant) AS total_montant, sum(quantite) AS total_quantite, count(*) AS nombre_ventes
FROM sales GROUP BY event_date, produit_nom, pays
"""


class Commands:
    """The commands of the batch path, as a person types them."""

    def __init__(self, service: Service, folder: Path) -> None:
        self.gold, self._environment = folder / "gold", service._environment({})
        self._environment |= {"LANDING_PATH": str(folder / "landing"), "GOLD_PATH": str(self.gold)}

    def run(self, *arguments: str) -> str:
        """Return the last line of a command, which must succeed."""
        done = subprocess.run(
            [sys.executable, "-m", "stream_app", *arguments],
            cwd=PROJECT,
            env=os.environ | self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        return done.stdout.splitlines()[-1]


def taken(services: Sequence[Service], folder: Path) -> Commands:
    """Return the commands after a landing of the topics of those feeds, and an ETL of all."""
    made = Commands(services[0], folder)
    for service in services:
        landed = json.loads(made.run("land", f"--topic={service.feed.topic}"))
        assert (landed["records"], landed["behind"]) == (service.count("bronze"), 0)
    summary = json.loads(made.run("etl", "--name=a test"))
    assert summary["run"] == 1
    assert summary["records"] == sum(service.count("bronze") for service in services)
    assert summary["quarantined"] == sum(service.count("quarantine") for service in services)
    return made


@pytest.fixture(scope="module")
def commands(drained: Drained, tmp_path_factory: pytest.TempPathFactory) -> Commands:
    return taken([drained["transactions"]], tmp_path_factory.mktemp("batch"))


@pytest.fixture(scope="module")
def of_shop(shop: dict[str, Service], tmp_path_factory: pytest.TempPathFactory) -> Commands:
    (sql := shop["sales"].feeds_path.parent / "gold").mkdir()
    (sql / "per_country.sql").write_text(PER_COUNTRY)
    return taken([*shop.values()], tmp_path_factory.mktemp("shop"))


def assert_same(service: Service, commands: Commands) -> None:
    """Gold and its quarantine have the rows of the stream, column by column."""
    gold = duckdb.connect()
    gold.execute("SET TimeZone = 'UTC'")
    for table, layer in ((service.feed.name, "silver"), (f"quarantine/{service.feed.name}", "quarantine")):
        files = f"read_parquet('{commands.gold}/{table}/*/*.parquet', hive_partitioning = false)"
        found = gold.sql(f"SELECT * FROM {files} ORDER BY ALL")
        due = service.contents(layer)
        assert len(due) > 20
        assert found.fetchall() == due, layer


def test_gold_of_the_batch_path_is_silver_of_the_stream(drained: Drained, commands: Commands) -> None:
    assert_same(drained["transactions"], commands)


@pytest.mark.parametrize("feed", ["sales", "user_events", "transaction_events"])
def test_gold_of_each_feed_of_the_shop_is_silver_of_the_stream(
    shop: dict[str, Service], of_shop: Commands, feed: str
) -> None:
    assert_same(shop[feed], of_shop)


def test_a_table_by_sql_of_gold_has_the_totals_of_the_stream(shop: dict[str, Service], of_shop: Commands) -> None:
    columns = "produit_nom, pays, {}(total_montant), {}(total_quantite), {}(nombre_ventes)"
    per_day = f"read_parquet('{of_shop.gold}/per_country/*/*.parquet')"
    found = duckdb.sql(f"SELECT {columns.replace('{}', 'sum')} FROM {per_day} GROUP BY ALL ORDER BY ALL").fetchall()
    assert found == shop["sales"].query(f"SELECT {columns.format('', '', '')} FROM ventes_aggreges ORDER BY ALL")
    assert of_shop.run("audit", f"--gold={of_shop.gold}") == "nothing lost, nothing twice"


def test_a_run_without_anything_new_starts_no_spark_and_the_audit_is_right(commands: Commands) -> None:
    before = commands._environment
    try:
        commands._environment = before | {"JAVA_HOME": "", "PATH": "/nowhere"}
        assert json.loads(commands.run("etl"))["run"] is None
    finally:
        commands._environment = before
    assert commands.run("audit", f"--gold={commands.gold}") == "nothing lost, nothing twice"
