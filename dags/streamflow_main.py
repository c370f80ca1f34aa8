"""Topics into files, files into tables, an audit of both: the batch path, once in a quarter of an hour or by hand.

Each task is a command of the project, by the path of its own Python (APP_PYTHON).
"""

from __future__ import annotations

import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import Asset, Param, dag, setup, task, teardown
from airflow.sdk.exceptions import AirflowFailException
from streamflow_commands import RETRIES, answer, given, run

GOLD = [
    Asset(name=table, uri=f"x-streamflow://gold/{table}")
    for table in ("user_events", "transaction_events", "user_daily", "product_daily")
]
_SINCE = "for a backfill: take again what landed from this hour on, as 2026-11-27 or 2026-11-27T14, in UTC"
# Exit codes of the audit beside 0.
WRONG_RECORDS, NOT_AUDITED = 1, 3


@dag(
    dag_id="streamflow_main",
    schedule=timedelta(minutes=15),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={**RETRIES, "execution_timeout": timedelta(minutes=30)},
    params={
        "seconds": Param(30, type="integer", minimum=1, maximum=1500, description="how long to read a topic at most"),
        "feeds": Param(
            ["user_events", "transaction_events"],
            type="array",
            items={"type": "string"},
            minItems=1,
            description="feeds, whose topics have the same names",
        ),
        "since": Param(None, type=["null", "string"], description=_SINCE),
        "until": Param(None, type=["null", "string"], description="the same, up to and without this hour"),
        "full": Param(False, type="boolean", description="make every table again, of all that has landed"),
    },
    tags=["batch"],
    doc_md=__doc__,
)
def streamflow_main() -> None:
    """Declare the tasks."""

    @setup
    @task
    def make_scratch() -> str:
        """Make the folder for what Spark spills: a run that is killed leaves nothing behind."""
        return tempfile.mkdtemp(prefix="streamflow-")

    @task
    def check_infrastructure() -> None:
        """Look at brokers, topics, Spark and disks."""
        run("preflight", f"--topics={','.join(given('feeds'))}")

    @task
    def chosen() -> list[str]:
        """Return the topics to land."""
        return list(given("feeds"))

    @task(max_active_tis_per_dagrun=2, multiple_outputs=False, map_index_template="{{ task.op_kwargs['topic'] }}")
    def land(topic: str) -> dict[str, Any]:
        """Take a topic into files; side by side with the others."""
        return answer(run("land", f"--topic={topic}", f"--seconds={given('seconds')}"))

    @task(multiple_outputs=False)
    def etl(scratch: str, run_id: str | None = None) -> dict[str, Any]:
        """Make tables of what has landed."""
        limits = [f"--{name}={given(name)}" for name in ("since", "until") if given(name)]
        full = ["--full"] if given("full") else []
        feeds = f"--feeds={','.join(given('feeds'))}"
        return answer(run("etl", feeds, f"--name={run_id}", *limits, *full, SPARK_LOCAL_DIRS=scratch))

    @task
    def audit() -> list[dict[str, Any]]:
        """Prove that nothing is lost or twice; return the counts of each feed."""
        reports = answer(run("audit", "--batch", "--format=json", may=(WRONG_RECORDS, NOT_AUDITED)))
        checks = [(report["feed"], check) for report in reports for check in report["checks"]]
        wrong = [f"{feed}: {check['sentence']}" for feed, check in checks if check["verdict"] == "wrong"]
        if wrong:
            raise AirflowFailException(f"{len(wrong)} things are wrong; the first: {wrong[0]}")
        return [{"feed": report["feed"], "verdict": report["verdict"], **report["counts"]} for report in reports]

    @task(outlets=GOLD, multiple_outputs=False)
    def publish(made: dict[str, Any], audited: list[dict[str, Any]]) -> dict[str, Any]:
        """Tell who waits for gold that it is there."""
        return {"run": made["run"], "days": made["days"], "audit": audited}

    @teardown
    @task
    def remove_scratch(scratch: str) -> None:
        """Remove that folder, whatever became of the run."""
        shutil.rmtree(scratch, ignore_errors=True)

    scratch, topics, checked = make_scratch(), chosen(), check_infrastructure()
    landed = land.expand(topic=topics)
    made = etl(scratch)
    audited = audit()
    done = publish(made, audited)
    scratch >> checked >> topics
    landed >> made >> audited
    done >> remove_scratch(scratch)


streamflow_main()
