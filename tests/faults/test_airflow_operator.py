"""`make airflow` as an operator uses it: triggered from the page, a task that is killed, a broker that is gone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from playwright.sync_api import Page, expect, sync_playwright

from stream_app.settings import PROJECT
from tests.airflow_api import AirflowApi
from tests.browser.conftest import CHROMIUM
from tests.faults.airflow_local import LocalAirflow
from tests.ports import free_port
from tests.service.harness import wait_for
from tests.service.servers import KafkaBroker

FEEDS = ("user_events", "transaction_events")
TABLES = (*FEEDS, "user_daily", "product_daily")
MOST_MEGABYTES = 900
"""What its processes may hold, idle."""
PICTURE = os.environ.get("AIRFLOW_PICTURE", "")
"""Where the picture of docs/batch.md is written, if it is to be made again."""


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
    transport = {"type": "file", "log_file_path": str(folder / "lineage.jsonl"), "append": True}
    own = {
        "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport),
        # or a run of each quarter of an hour may take what a test has sent for its own
        "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False",
    }
    made = LocalAirflow(folder, kafka.address, environment=own)
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


@pytest.fixture
def page() -> Iterator[Page]:
    if CHROMIUM is None:
        pytest.fail("Chromium is needed; install it, on Debian with: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": 1400, "height": 900})
        opened.set_default_timeout(240_000)
        expect.set_options(timeout=600_000)
        yield opened
        browser.close()


def by_hand(api: AirflowApi) -> list[str]:
    """Return the runs that somebody triggered."""
    found = api.ask("dags/streamflow_main/dagRuns")["dag_runs"]
    return [run["dag_run_id"] for run in found if run["run_type"] == "manual"]


def test_a_run_that_is_triggered_from_the_page_turns_green(
    airflow: LocalAirflow, kafka: KafkaBroker, page: Page
) -> None:
    send(kafka, 300)
    api = airflow.api
    wait_for(lambda: "streamflow_main" in {one["dag_id"] for one in api.ask("dags")["dags"]}, "the DAG")
    page.goto(f"{airflow.url}/dags/streamflow_main")
    page.fill("input[name=username]", "admin")
    page.fill("input[name=password]", airflow.password)
    page.click("button[type=submit]")
    page.get_by_role("button", name="Trigger").first.click()
    page.get_by_role("dialog").get_by_text("Unpause streamflow_main on trigger").wait_for()
    page.get_by_role("dialog").get_by_role("button", name="Trigger", exact=True).click()
    page.get_by_role("dialog").wait_for(state="detached")
    wait_for(lambda: by_hand(api), "a run")
    (run,) = by_hand(api)
    path = f"dags/streamflow_main/dagRuns/{run}"
    assert api.wait_for_run(path) == "success", api.logs(path)
    page.goto(f"{airflow.url}/dags/streamflow_main/runs/{run}")
    expect(page.get_by_text("Success").first).to_be_visible()
    if PICTURE:
        page.wait_for_load_state("networkidle")
        page.screenshot(path=PICTURE)
    assert all(gold(airflow.folder / "gold").values())


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


def test_a_backfill_takes_again_what_landed_in_its_hours(airflow: LocalAirflow) -> None:
    api = airflow.api
    before = gold(airflow.folder / "gold")
    run = api.trigger("streamflow_main", seconds=5, since="2026-01-01", until="2999-01-01")
    assert api.wait_for_run(run) == "success", api.logs(run)
    made = api.ask(f"{run}/taskInstances/etl/xcomEntries/return_value")["value"]
    assert made["records"] == 1_000, "all that ever landed"
    assert gold(airflow.folder / "gold") == before
    nothing = api.trigger("streamflow_main", seconds=5, since="2026-01-01", until="2026-01-02")
    assert api.wait_for_run(nothing) == "success", api.logs(nothing)
    assert api.ask(f"{nothing}/taskInstances/etl/xcomEntries/return_value")["value"]["records"] == 0


def test_each_task_told_its_start_and_end_where_lineage_is_switched_on(airflow: LocalAirflow) -> None:
    events = [json.loads(line) for line in (airflow.folder / "lineage.jsonl").read_text().splitlines()]
    told = {(event["job"]["name"], event["eventType"]) for event in events}
    for task in ("land", "etl", "audit", "publish"):
        assert {(f"streamflow_main.{task}", "START"), (f"streamflow_main.{task}", "COMPLETE")} <= told
    assert ("streamflow_main.etl", "FAIL") in told, "of the one that was killed"


def test_a_broker_that_is_gone_fails_the_first_task_with_a_line_that_says_so(
    airflow: LocalAirflow, kafka: KafkaBroker
) -> None:
    kafka.stop()
    api = airflow.api
    run = api.trigger("streamflow_main", seconds=5)
    wait_for(lambda: api.task(run, "check_infrastructure")["state"] in {"up_for_retry", "failed"}, "a failed task", 300)
    said = api.log(run, "check_infrastructure")
    assert "preflight: brokers: " in said
    assert kafka.address in said
    api.ask(run, {"state": "failed"}, "PATCH")
    wait_for(lambda: api.task(run, "etl")["state"] != "running", "the end of it")
