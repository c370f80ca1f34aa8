"""The DAGs in a real Airflow: imported, looked at, and run whole against a real broker, without a scheduler."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from local.airflow import AIRFLOW, environment_of, make_environment
from local.places import Places
from stream_app.settings import PROJECT
from tests.service.servers import KafkaBroker

SCRIPT = Path(__file__).with_name("airflow_run.py")
Airflow = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def airflow(broker: KafkaBroker, tmp_path_factory: pytest.TempPathFactory) -> Airflow:
    """Airflow's Python over a database and folders of the tests' own; the environment is made where it is missing."""
    folder = tmp_path_factory.mktemp("airflow")
    make_environment(Places(folder))
    environment = os.environ | environment_of(folder / "home", broker.address)
    environment |= {"LANDING_PATH": str(folder / "landing"), "GOLD_PATH": str(folder / "gold")}
    (folder / "home").mkdir()
    for words in (["db", "migrate"], ["dags", "reserialize"]):
        subprocess.run([str(AIRFLOW / "bin" / "airflow"), *words], env=environment, check=True, capture_output=True)

    def run(name: str, conf: dict[str, Any] | None = None, **more: str) -> dict[str, Any]:
        words = [name] if conf is None else [name, json.dumps(conf)]
        command = [str(AIRFLOW / "bin" / "python"), str(SCRIPT), str(PROJECT / "dags"), *words]
        done = subprocess.run(command, env=environment | more, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found | {"log": done.stdout + done.stderr}

    return run


def test_the_tasks_are_in_order_and_bounded(airflow: Airflow) -> None:
    found = airflow("streamflow_main")
    tasks = found["tasks"]
    after = {name: task["after"] for name, task in tasks.items()}
    assert after["check_infrastructure"] == ["chosen"]
    assert after["chosen"] == ["land"]
    assert after["land"] == ["etl"]
    assert after["etl"] == ["audit", "publish"]
    assert after["audit"] == ["publish"]
    assert after["publish"] == ["remove_scratch"]
    assert [name for name, task in tasks.items() if task["is_setup"]] == ["make_scratch"]
    assert [name for name, task in tasks.items() if task["is_teardown"]] == ["remove_scratch"]
    assert sorted(tasks["publish"]["outlets"]) == ["product_daily", "transaction_events", "user_daily", "user_events"]
    assert all(task["timeout"] for task in tasks.values())
    assert all(tasks[name]["retries"] == 3 for name in ("check_infrastructure", "land", "etl", "audit"))
    assert (found["catchup"], found["max_active_runs"]) == (False, 1)
    assert found["params"] == ["feeds", "full", "seconds", "since", "until"]


@pytest.mark.timeout(1800)
def test_a_whole_run(airflow: Airflow, broker: KafkaBroker, tmp_path: Path) -> None:
    for topic in ("user_events", "transaction_events"):
        broker.create_topic(topic)
        command = [str(PROJECT / ".venv" / "bin" / "python"), "-m", "producer", f"--feed={topic}", "--interval=0"]
        options = [f"--bootstrap-servers={broker.address}", f"--topic={topic}", "--count=500"]
        subprocess.run([*command, *options], cwd=PROJECT, check=True, capture_output=True)
    found = airflow("streamflow_main", {"seconds": 20}, TMPDIR=str(tmp_path))
    assert found["state"] == "success", found["log"][-6000:]
    assert {*found["tasks"].values()} == {"success"}
    assert not list(tmp_path.glob("streamflow-*")), "the teardown leaves nothing"
    again = airflow("streamflow_main", {"seconds": 20})
    assert again["state"] == "success", "with nothing new it is green, too"


def test_what_no_retry_mends_fails_at_once_with_a_line_that_says_so(airflow: Airflow) -> None:
    found = airflow("streamflow_main", {"feeds": ["no_such_topic"]})
    assert found["state"] == "failed"
    assert found["tasks"]["check_infrastructure"] == "failed"
    assert found["tasks"]["etl"] == "upstream_failed"
    assert "there is no topic no_such_topic" in found["log"]
