"""`make up PROFILE=airflow` for real: both DAGs, triggered by REST as a program would, and gold read with DuckDB."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from dotenv import dotenv_values

from stream_app.settings import PROJECT
from tests.airflow_api import AirflowApi
from tests.compose.test_compose import Stack, check_hardening, stack  # noqa: F401 - a fixture

COUNT = 500


@pytest.mark.timeout(1800)
def test_the_dags_run_in_containers(stack: Stack) -> None:  # noqa: F811
    stack.environment |= {"PROFILE": "airflow", "FEEDS": "sales", "MSGS_PER_SEC": "2", "BACKFILL": "0"}
    assert "healthy" in stack.run("make", "up")
    for feed in ("user_events", "transaction_events"):
        servers = f"--bootstrap-servers=localhost:{stack.environment['KAFKA_PORT']}"
        options = [f"--feed={feed}", f"--topic={feed}", f"--count={COUNT}", "--interval=0", servers]
        subprocess.run([sys.executable, "-m", "producer", *options], cwd=PROJECT, check=True, capture_output=True)
    secrets = stack.folder / ".env"
    assert secrets.stat().st_mode & 0o077 == 0
    password = dotenv_values(secrets)["AIRFLOW_PASSWORD"]
    assert password
    airflow = AirflowApi(f"http://127.0.0.1:{stack.environment['AIRFLOW_PORT']}", password)
    runs = [airflow.trigger("streamflow_main", seconds=30), airflow.trigger("unified_sales_pipeline")]
    for run in runs:
        assert airflow.wait_for_run(run) == "success", airflow.logs(run)
    gold = stack.folder / "data" / "gold"
    rows = duckdb.sql(f"SELECT count(*), count(DISTINCT user_id) FROM read_parquet('{gold}/user_events/*/*.parquet')")
    assert min(rows.fetchall()[0]) > 0
    owners = {path.stat().st_uid for path in gold.rglob("*.parquet")}
    assert owners == {int(stack.run("docker", "compose", "exec", "-T", "airflow", "id", "-u"))}
    (report,) = (stack.folder / "data" / "reports" / "unified_sales_pipeline").glob("*.md")
    assert "all is well" in Path(report).read_text()
    check_hardening(stack)
    check_celery(stack, airflow)
    check_hardening(stack)
    stack.run("make", "down")
    assert stack.containers() == []


def check_celery(stack: Stack, airflow: AirflowApi) -> None:  # noqa: F811
    """The same stack goes on with Valkey and a worker, which runs the tasks."""
    airflow.pause("streamflow_main", is_paused=True)
    at_work = "dags/streamflow_main/dagRuns/~/taskInstances?state=queued&state=running"
    stack.wait_for(lambda: not airflow.ask(at_work)["task_instances"], "the end of the tasks that run")
    stack.environment["AIRFLOW_EXECUTOR"] = "CeleryExecutor"
    assert "healthy" in stack.run("make", "up")
    run = airflow.trigger("streamflow_main", seconds=10)
    assert airflow.wait_for_run(run) == "success", airflow.logs(run)
    worker = stack.container("airflow-worker")["ID"]
    assert {airflow.task(run, name)["hostname"] for name in ("etl", "audit", "publish")} == {worker}
