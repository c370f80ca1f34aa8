"""`make airflow` as an operator knows it: healthy within its memory, and a task that is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from stream_app.settings import PROJECT
from tests.faults.airflow_local import LocalAirflow
from tests.ports import free_port
from tests.service.harness import wait_for
from tests.service.servers import KafkaBroker

FEEDS = ("user_events", "transaction_events")
TABLES = (*FEEDS, "user_daily", "product_daily")
MOST_MEGABYTES = 900
"""What its processes may hold, idle."""


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """A broker that a test may stop."""
    broker = KafkaBroker(tmp_path_factory.mktemp("broker"), free_port())
    broker.start()
    for feed in FEEDS:
        broker.create_topic(feed)
    yield broker
    broker.stop()


@pytest.fixture(scope="module")
def airflow(kafka: KafkaBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAirflow]:
    """An Airflow that is healthy, and ends in order."""
    folder = tmp_path_factory.mktemp("airflow")
    made = LocalAirflow(folder, kafka.address)
    seconds = made.start()
    megabytes = made.megabytes()
    print(f"healthy after {seconds:.0f} s, {megabytes:.0f} MB")
    assert megabytes < MOST_MEGABYTES
    yield made
    assert made.end() == 0


def send(kafka: KafkaBroker, count: int) -> None:
    for feed in FEEDS:
        options = [f"--feed={feed}", f"--topic={feed}", f"--count={count}", "--interval=0"]
        command = [sys.executable, "-m", "producer", *options, f"--bootstrap-servers={kafka.address}"]
        subprocess.run(command, cwd=PROJECT, check=True, capture_output=True)


def gold(folder: Path) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table, in an order of its own."""
    return {
        table: duckdb.sql(f"FROM read_parquet('{folder}/{table}/*/*.parquet') ORDER BY ALL").fetchall()
        for table in TABLES
    }


@pytest.mark.timeout(1800)
def test_a_killed_task_is_retried_and_gold_is_the_same(
    airflow: LocalAirflow, kafka: KafkaBroker, tmp_path: Path
) -> None:
    send(kafka, 200)
    api = airflow.api
    run = api.trigger("streamflow_main", seconds=20)
    wait_for(
        lambda: (api.task(run, "etl")["state"], bool(api.task(run, "etl")["pid"])) == ("running", True), "etl", 600
    )
    pid = api.task(run, "etl")["pid"]
    wait_for(lambda: "spark" in commands_of(pid), "Spark")
    os.kill(pid, signal.SIGKILL)
    assert api.wait_for_run(run) == "success", api.logs(run)
    assert api.task(run, "etl")["try_number"] > 1
    again = tmp_path / "gold"
    etl = [sys.executable, "-m", "stream_app", "etl", f"--landing={airflow.folder / 'landing'}", f"--gold={again}"]
    subprocess.run(etl, cwd=PROJECT, check=True, capture_output=True)
    assert gold(airflow.folder / "gold") == gold(again)


def commands_of(pid: int) -> str:
    """Return the command lines of what a process has started."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return " ".join(Path(f"/proc/{child}/cmdline").read_text().replace("\\0", " ") for child in children)
    except OSError:
        return ""
