"""The batch path over a topic that the stream has read, too: both make the same rows of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from stream_app.settings import PROJECT
from tests.service.drained import Drained
from tests.service.harness import Service


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


@pytest.fixture(scope="module")
def service(drained: Drained) -> Service:
    return drained["transactions"]


@pytest.fixture(scope="module")
def commands(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Commands:
    """After a landing and an ETL of the topic."""
    made = Commands(service, tmp_path_factory.mktemp("batch"))
    landed = json.loads(made.run("land", f"--topic={service.feed.topic}"))
    assert (landed["records"], landed["behind"]) == (service.count("bronze"), 0)
    summary = json.loads(made.run("etl", "--name=a test"))
    assert (summary["run"], summary["records"]) == (1, landed["records"])
    assert summary["quarantined"] == service.count("quarantine")
    return made


def test_gold_of_the_batch_path_is_silver_of_the_stream(service: Service, commands: Commands) -> None:
    gold = duckdb.connect()
    gold.execute("SET TimeZone = 'UTC'")
    for table, layer in ((service.feed.name, "silver"), (f"quarantine/{service.feed.name}", "quarantine")):
        files = f"read_parquet('{commands.gold}/{table}/*/*.parquet', hive_partitioning = false)"
        assert gold.sql(f"SELECT * FROM {files} ORDER BY ALL").fetchall() == service.contents(layer), layer


def test_a_run_without_anything_new_starts_no_spark_and_the_audit_is_right(commands: Commands) -> None:
    before = commands._environment
    try:
        commands._environment = before | {"JAVA_HOME": "", "PATH": "/nowhere"}
        assert json.loads(commands.run("etl"))["run"] is None
    finally:
        commands._environment = before
    assert commands.run("audit", f"--gold={commands.gold}") == "nothing lost, nothing twice"
