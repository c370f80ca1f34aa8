"""Topics into files, files into tables, an audit of both: the batch path, once in a quarter of an hour or by hand.

Each task is a command of the project, by the path of its own Python (APP_PYTHON): nothing of it is imported here.
A command that exits with 2 was told something wrong, which no retry mends, so its task fails at once.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import Asset, Param, dag, setup, task, teardown
from airflow.sdk.exceptions import AirflowException, AirflowFailException

HOME = Path(__file__).resolve().parents[1]
GOLD = [
    Asset(name=table, uri=f"x-streamflow://gold/{table}")
    for table in ("user_events", "transaction_events", "user_daily", "product_daily")
]
WRONG = 2
"""The exit code of a command for what somebody must set right."""
NOT_AUDITED = 3


@contextmanager
def started(*arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Start a command of the project; it ends with the task, however that ends."""
    home = Path(os.environ.get("APP_HOME", HOME))
    python = os.environ.get("APP_PYTHON", str(home / ".venv" / "bin" / "python"))
    # Airflow's own packages and settings of Python are not for the service's
    inherited = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTHONHOME"}}
    process = subprocess.Popen(
        [python, "-m", "stream_app", *arguments],
        cwd=home,
        env=inherited | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()


def run(*arguments: str, may: tuple[int, ...] = (0,), **environment: str) -> str:
    """Run a command, with its output in the task's log; return what it printed."""
    lines = []
    with started(*arguments, **environment) as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)  # noqa: T201 - it is the task's log
            lines.append(line)
    if process.returncode in may:
        return "".join(lines)
    problem = lines[-1].strip() if lines else f"{arguments[0]}: exit {process.returncode}"
    raise (AirflowFailException if process.returncode == WRONG else AirflowException)(problem)


def last_line(printed: str) -> dict[str, Any]:
    """Return the summary that a command prints last."""
    return json.loads(printed.splitlines()[-1])


@dag(
    dag_id="streamflow_main",
    schedule=timedelta(minutes=15),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={
        "retries": 3,
        "retry_delay": timedelta(seconds=10),
        "retry_exponential_backoff": True,
        "max_retry_delay": timedelta(minutes=5),
        "execution_timeout": timedelta(minutes=30),
    },
    params={
        "seconds": Param(30, type="integer", minimum=1, maximum=1500, description="how long to read a topic at most"),
        "feeds": Param(
            ["user_events", "transaction_events"],
            type="array",
            items={"type": "string"},
            minItems=1,
            description="feeds, whose topics have the same names",
        ),
        "since": Param(None, type=["null", "string"], description="take again what landed from this hour on, UTC"),
        "until": Param(None, type=["null", "string"], description="the same, up to and without this hour"),
        "full": Param(False, type="boolean", description="make every table anew"),
    },
    tags=["batch"],
    doc_md=__doc__,
)
def streamflow_main() -> None:
    """Declare the tasks."""

    @setup
    @task(retries=0)
    def make_scratch() -> str:
        """Make the folder for what Spark spills: a run that is killed leaves nothing behind."""
        return tempfile.mkdtemp(prefix="streamflow-")

    @task
    def check_infrastructure(params: dict[str, Any] | None = None) -> None:
        """Look at brokers, topics, Spark and disks."""
        run("preflight", f"--topics={','.join((params or {})['feeds'])}")

    @task
    def chosen(params: dict[str, Any] | None = None) -> list[str]:
        """Return the topics to land."""
        return list((params or {})["feeds"])

    @task(max_active_tis_per_dagrun=2, multiple_outputs=False)
    def land(topic: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        """Take a topic into files; side by side with the others."""
        return last_line(run("land", f"--topic={topic}", f"--seconds={(params or {})['seconds']}"))

    @task(multiple_outputs=False)
    def etl(scratch: str, params: dict[str, Any] | None = None, run_id: str | None = None) -> dict[str, Any]:
        """Make tables of what has landed."""
        given = params or {}
        limits = [f"--{name}={given[name]}" for name in ("since", "until") if given.get(name)]
        full = ["--full"] if given.get("full") else []
        feeds = f"--feeds={','.join(given['feeds'])}"
        return last_line(run("etl", feeds, f"--name={run_id}", *limits, *full, SPARK_LOCAL_DIRS=scratch))

    @task
    def audit() -> list[dict[str, Any]]:
        """Prove that nothing is lost or twice; return the counts of each feed."""
        printed = run("audit", "--batch", "--format=json", may=(0, NOT_AUDITED))
        reports = json.loads(printed[printed.index("[") :])
        return [{"feed": report["feed"], "verdict": report["verdict"], **report["counts"]} for report in reports]

    @task(outlets=GOLD, multiple_outputs=False)
    def publish(made: dict[str, Any], audited: list[dict[str, Any]]) -> dict[str, Any]:
        """Tell who waits for gold that it is there."""
        return {"run": made["run"], "days": made["days"], "audit": audited}

    @teardown
    @task(retries=0)
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
