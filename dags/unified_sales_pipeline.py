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

from airflow.sdk import Asset, Param, PokeReturnValue, dag, task
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from streamflow_commands import RETRIES, answer, home, run
from streamflow_report import as_html, as_markdown, write

REPORT = Asset(name="sales_report", uri="x-streamflow://reports/unified_sales_pipeline")
TOPIC = "ventes_stream"
# Silver has one sale of a vente_id in an hour: another one that was sent is a repeat of it.
PLACED = """
    WITH sent AS (
        SELECT partition, "offset", kafka_ts, TRY((decode(value)::JSON ->> 'vente_id')::BIGINT) AS vente_id
        FROM sales.bronze WHERE {sent}
    ),
    judged AS (
        SELECT partition, "offset", 'silver' AS layer FROM sales.silver WHERE {sent}
        UNION ALL SELECT partition, "offset", 'quarantine' FROM sales.quarantine WHERE {sent}
    ),
    kept AS (
        SELECT vente_id FROM sales.silver WHERE kafka_ts > (SELECT min(kafka_ts) FROM sent) - INTERVAL 2 HOUR
    ),
    placed AS (SELECT * FROM sent LEFT JOIN judged USING (partition, "offset"))
    SELECT count(*) AS bronze,
        count(*) FILTER (layer = 'silver') AS silver,
        count(*) FILTER (layer = 'quarantine') AS quarantine,
        count(*) FILTER (layer IS NULL AND vente_id IN (FROM kept)) AS repeats
    FROM placed
"""
# Both tables follow silver. At versions that have read the same of it they say the same, whatever comes meanwhile.
TOTALS = """
    WITH clean AS (FROM sales.ventes_clean AT (VERSION => {ventes_clean})),
    again AS (
        SELECT produit_nom, pays, sum(montant) AS amount, sum(quantite) AS pieces, count(*) AS sales
        FROM clean GROUP BY ALL
    ),
    held AS (
        SELECT produit_nom, pays, total_montant AS amount, total_quantite AS pieces, nombre_ventes AS sales
        FROM sales.ventes_aggreges AT (VERSION => {ventes_aggreges})
    )
    SELECT (SELECT count(*) FROM clean WHERE {sent}) AS taken,
        (SELECT coalesce(sum(sales), 0) FROM again) AS silver,
        (SELECT coalesce(sum(sales), 0) FROM held) AS totals,
        (SELECT count(*) FROM ((FROM again EXCEPT FROM held) UNION ALL (FROM held EXCEPT FROM again))) AS differing
"""
SOLD = """
    SELECT produit_nom AS product, count(*) AS sales, sum(quantite) AS pieces, sum(montant) AS amount
    FROM sales.silver WHERE {sent} GROUP BY ALL ORDER BY amount DESC
"""


def query(sql: str) -> list[dict[str, Any]]:
    """Return the rows of a SQL over the outputs of the feed."""
    return answer(run("query", "--feed=sales", "--format=json", f"--sql={sql}"))


def sinks() -> dict[str, dict[str, Any]]:
    """Return the status of each sink of the feed."""
    return {one["sink"]: one for one in answer(run("status", "--feed=sales", "--format=json"))}


def same_versions(histories: list[dict[str, Any]]) -> dict[str, int]:
    """Return the newest versions of the two tables that have read the same of silver; nothing where there are none."""
    by_offsets = {
        one["sink"].rpartition(".")[2]: {
            made["offsets"]: made["version"] for made in reversed(one["versions"]) if made["offsets"]
        }
        for one in histories
    }
    clean, totals = by_offsets["ventes_clean"], by_offsets["ventes_aggreges"]
    common = [offsets for offsets in clean if offsets in totals]
    return {"ventes_clean": clean[common[-1]], "ventes_aggreges": totals[common[-1]]} if common else {}


def where(sent: dict[str, Any]) -> str:
    """Return the SQL condition for the records that were sent: by their offsets, whoever else sends meanwhile."""
    ranges = [(partition, *one) for partition, many in sent["offsets"].items() for one in many]
    return " OR ".join(f'(partition = {p} AND "offset" BETWEEN {first} AND {last})' for p, first, last in ranges)


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


def quality(
    sent: dict[str, Any], held: dict[str, Any], totals: dict[str, Any], age: float, limits: dict[str, Any]
) -> list[dict[str, Any]]:
    """Return each check: its name, what was found, what is allowed, and whether it passed."""
    count = sent["acknowledged"]
    judged = held["silver"] + held["quarantine"] + held["repeats"]
    share = held["quarantine"] / count
    most, oldest = limits["max_quarantine_share"], limits["max_age_seconds"]
    found = (
        ("bronze holds them", f"{held['bronze']} of {count}", "all", held["bronze"] == count),
        ("silver has judged them", f"{judged} of {count}", "all", judged == count),
        ("quarantine share", f"{share:.1%}", f"at most {most:.1%}", share <= most),
        ("freshness of silver", f"{age:.0f} s", f"at most {oldest} s", age <= oldest),
        (
            "totals agree with silver",
            f"{totals['totals']} of {totals['silver']} sales, {totals['differing']} groups differ",
            "no difference",
            totals["differing"] == 0 and totals["taken"] == held["silver"],
        ),
    )
    return [{"check": name, "found": value, "allowed": allowed, "ok": ok} for name, value, allowed, ok in found]


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
    def check_infrastructure(params: dict[str, Any] | None = None) -> None:
        """Look at brokers, topic and service."""
        named = len(os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "localhost:9094").split(","))
        run("preflight", f"--topics={TOPIC}", f"--brokers={(params or {})['brokers'] or named}")
        check_ready(os.environ.get("SERVICE_URL", "http://127.0.0.1:9108").rstrip("/"))
        state = sinks()["silver"]["state"]
        if state != "running":
            raise AirflowException(f"sales.silver is {state}; start the service with FEEDS=transactions,sales")

    @task(multiple_outputs=False)
    def produce(params: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send the sales; return where in the topic they are."""
        count = f"--count={(params or {})['count']}"
        printed = run("--feed=sales", f"--topic={TOPIC}", count, "--interval=0.01", "--summary", program="producer")
        return {**answer(printed), "at": datetime.now(UTC).isoformat()}

    @task.sensor(poke_interval=5, timeout=7200, mode="reschedule")
    def wait_for_layers(sent: dict[str, Any], params: dict[str, Any] | None = None) -> PokeReturnValue:
        """Wait until bronze holds them and silver has judged them; between two looks no process waits."""
        (held,) = query(PLACED.format(sent=where(sent)))
        complete = held["silver"] + held["quarantine"] + held["repeats"] == sent["acknowledged"]
        return PokeReturnValue(complete or is_over(sent, (params or {})["wait_seconds"]), held)

    @task.sensor(poke_interval=5, timeout=7200, mode="reschedule")
    def wait_for_totals(
        sent: dict[str, Any], held: dict[str, Any], params: dict[str, Any] | None = None
    ) -> PokeReturnValue:
        """Wait until the totals have taken them from silver, which they follow."""
        over = is_over(sent, 2 * (params or {})["wait_seconds"])
        versions = same_versions(answer(run("history", "--feed=sales", "--most=100", "--format=json")))
        if not versions:
            return PokeReturnValue(over, {"taken": 0, "silver": 0, "totals": 0, "differing": 0})
        (found,) = query(TOTALS.format(sent=where(sent), **versions))
        found = {name: int(value) for name, value in found.items()}
        return PokeReturnValue(found["taken"] == held["silver"] or over, found)

    @task
    def check_quality(
        sent: dict[str, Any], held: dict[str, Any], totals: dict[str, Any], params: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Compare what was found with what is allowed; a check that fails is for the report and for `conclude`."""
        newest = max(sinks()["silver"]["newest_taken"].values(), default="1970-01-01T00:00:00+00:00")
        age = (datetime.now(UTC) - datetime.fromisoformat(newest)).total_seconds()
        return quality(sent, held, totals, age, params or {})

    @task(outlets=[REPORT], multiple_outputs=False)
    def report(
        sent: dict[str, Any], checks: list[dict[str, Any]], run_id: str | None = None, **context: Any
    ) -> dict[str, Any]:
        """Write the report as Markdown and as HTML, also where a check has failed."""
        shown = ("sink", "state", "rows", "behind", "newest_file_age")
        findings = {
            "run": str(run_id),
            "at": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC",
            "checks": checks,
            "sold": query(SOLD.format(sent=where(sent))),
            "sinks": [{name: one[name] for name in shown} for one in sinks().values()],
        }
        title = f"{sent['acknowledged']} sales: {'all is well' if all(one['ok'] for one in checks) else 'TROUBLE'}"
        folder = Path(os.environ.get("REPORTS_PATH", home() / "data" / "reports")) / "unified_sales_pipeline"
        stem = re.sub(r"[^0-9A-Za-z._-]+", "_", str(run_id))
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
