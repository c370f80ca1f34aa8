"""Sales through the stream, watched from end to end: sent, found again in bronze and silver, checked, and reported.

The service is the stream's own: this DAG asks whether it is ready, sends it sales and looks at what became of them.
It never starts the service, and writes into none of its folders.
"""

from __future__ import annotations

import json
import os
import re
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import Asset, Param, PokeReturnValue, dag, get_current_context, task
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from streamflow_commands import RETRIES, answer, given, home, run
from streamflow_report import as_html, as_markdown, write
from streamflow_sales import PLACED, SOLD, TOTALS, quality, same_versions, where

REPORT = Asset(name="sales_report", uri="x-streamflow://reports/unified_sales_pipeline")
TOPIC = "ventes_stream"


def query(sql: str) -> list[dict[str, Any]]:
    """Return the rows of a SQL over the outputs of the feed."""
    return answer(run("query", "--feed=sales", "--format=json", f"--sql={sql}"))


def sinks() -> dict[str, dict[str, Any]]:
    """Return the status of each sink of the feed."""
    return {one["sink"]: one for one in answer(run("status", "--feed=sales", "--format=json"))}


def check_ready(url: str) -> None:
    """Ask the service's readiness endpoint. Raises AirflowException, one line that says what to do."""
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=10) as reply:  # noqa: S310 - an operator's setting
            print(f"{url}/readyz: {reply.read().decode().strip()}")  # noqa: T201 - it is the task's log
    except urllib.error.HTTPError as error:
        problem = f"{url}/readyz: the service is not ready: {error.read().decode().strip()}"
        raise AirflowException(problem) from None
    except OSError as error:
        problem = f"{url}/readyz does not answer ({error}); start the service with METRICS_PORT, or set SERVICE_URL"
        raise AirflowException(problem) from None


def is_over(sent: dict[str, Any], seconds: float) -> bool:
    """Whether so much time has passed since the sales were sent."""
    return datetime.now(UTC) - datetime.fromisoformat(sent["at"]) > timedelta(seconds=seconds)


@dag(
    dag_id="unified_sales_pipeline",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={**RETRIES, "execution_timeout": timedelta(minutes=10)},
    params={
        "count": Param(50, type="integer", minimum=1, maximum=100_000, description="how many sales to send"),
        "brokers": Param(
            None, type=["null", "integer"], description="how many brokers must be up; as many as are named"
        ),
        "wait_seconds": Param(600, type="integer", minimum=1, maximum=3600, description="how long to wait for a layer"),
        "max_quarantine_share": Param(
            0.1, type="number", minimum=0, maximum=1, description="of the sales that were sent"
        ),
        "max_age_seconds": Param(600, type="integer", minimum=1, description="how old silver's newest record may be"),
    },
    tags=["stream"],
    doc_md=__doc__,
)
def unified_sales_pipeline() -> None:
    """Declare the tasks."""

    @task
    def check_infrastructure() -> None:
        """Look at brokers, topic and service."""
        named = len(os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "localhost:9094").split(","))
        run("preflight", f"--topics={TOPIC}", f"--brokers={given('brokers') or named}")
        check_ready(os.environ.get("SERVICE_URL", "http://127.0.0.1:9108").rstrip("/"))
        state = sinks()["silver"]["state"]
        if state != "running":
            raise AirflowException(f"sales.silver is {state}; start the service with FEEDS=transactions,sales")

    @task(multiple_outputs=False)
    def produce() -> dict[str, Any]:
        """Send the sales; return where in the topic they are."""
        count = f"--count={given('count')}"
        printed = run("--feed=sales", f"--topic={TOPIC}", count, "--interval=0.01", "--summary", program="producer")
        return {**answer(printed), "at": datetime.now(UTC).isoformat()}

    @task.sensor(poke_interval=5, timeout=7200, mode="reschedule")
    def wait_for_layers(sent: dict[str, Any]) -> PokeReturnValue:
        """Wait until bronze holds them and silver has judged them; between two looks no process waits."""
        (held,) = query(PLACED.format(sent=where(sent)))
        complete = held["silver"] + held["quarantine"] + held["repeats"] == sent["acknowledged"]
        return PokeReturnValue(complete or is_over(sent, given("wait_seconds")), held)

    @task.sensor(poke_interval=5, timeout=7200, mode="reschedule")
    def wait_for_totals(sent: dict[str, Any], held: dict[str, Any]) -> PokeReturnValue:
        """Wait until the totals have taken them from silver, which they follow."""
        over = is_over(sent, 2 * given("wait_seconds"))
        versions = same_versions(answer(run("history", "--feed=sales", "--most=100", "--format=json")))
        if not versions:
            return PokeReturnValue(over, {"taken": 0, "silver": 0, "totals": 0, "differing": 0})
        (found,) = query(TOTALS.format(sent=where(sent), **versions))
        found = {name: int(value) for name, value in found.items()}
        return PokeReturnValue(found["taken"] == held["silver"] or over, found)

    @task
    def check_quality(sent: dict[str, Any], held: dict[str, Any], totals: dict[str, Any]) -> list[dict[str, Any]]:
        """Compare what was found with what is allowed; a check that fails is for the report and for `conclude`."""
        newest = max(sinks()["silver"]["newest_taken"].values(), default="1970-01-01T00:00:00+00:00")
        age = (datetime.now(UTC) - datetime.fromisoformat(newest)).total_seconds()
        return quality(sent, held, totals, age, given("max_quarantine_share"), given("max_age_seconds"))

    @task(outlets=[REPORT], multiple_outputs=False)
    def report(sent: dict[str, Any], checks: list[dict[str, Any]]) -> dict[str, Any]:
        """Write the report as Markdown and as HTML, also where a check has failed."""
        context = get_current_context()
        findings = {
            "run": context["run_id"],
            "at": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC",
            "checks": checks,
            "sold": query(SOLD.format(sent=where(sent))),
            "sinks": [*sinks().values()],
        }
        title = f"{sent['acknowledged']} sales: {'all is well' if all(one['ok'] for one in checks) else 'TROUBLE'}"
        folder = Path(os.environ.get("REPORTS_PATH", home() / "data" / "reports")) / "unified_sales_pipeline"
        stem = re.sub(r"[^0-9A-Za-z._-]+", "_", context["run_id"])
        markdown = as_markdown(title, findings)
        files = [
            write(folder / f"{stem}.md", markdown),
            write(folder / f"{stem}.html", as_html(title, findings)),
            write(folder / f"{stem}.json", json.dumps(findings, indent=1) + "\n"),
        ]
        made = {"title": title, "files": files}
        context["outlet_events"][REPORT].extra = made
        return {**made, "markdown": markdown}

    @task(retries=0)
    def conclude(checks: list[dict[str, Any]], made: dict[str, Any]) -> None:
        """Fail where a check has failed."""
        failed = [f"{one['check']}: {one['found']}, allowed is {one['allowed']}" for one in checks if not one["ok"]]
        if failed:
            raise AirflowFailException(f"{'; '.join(failed)}; see {made['files'][0]}")

    sent = produce()
    check_infrastructure() >> sent
    held = wait_for_layers(sent)
    totals = wait_for_totals(sent, held)
    checks = check_quality(sent, held, totals)
    conclude(checks, report(sent, checks))


unified_sales_pipeline()
