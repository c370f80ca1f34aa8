"""The DAGs in a real Airflow: imported, looked at, and run whole against a real broker, without a scheduler."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from local.airflow import AIRFLOW, environment_of, make_environment
from local.places import Places
from stream_app.settings import PROJECT
from tests.ports import free_port
from tests.service.cluster import BROKERS, Cluster, running
from tests.service.harness import Service, quick, wait_for
from tests.service.servers import KafkaBroker
from tests.unit.airflow_standin import loaded

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


@pytest.mark.parametrize("name", ["streamflow_main", "unified_sales_pipeline"])
def test_airflow_makes_of_the_files_what_the_stand_in_does(airflow: Airflow, name: str) -> None:
    """`make test` has no Airflow: what it looks at there is what is here."""
    found = airflow(name)
    with loaded(PROJECT / "dags" / f"{name}.py") as dag:
        options = {name: task.options for name, task in dag.tasks.items()}
        retries = dag.options["default_args"]["retries"]
        assert {name: task["after"] for name, task in found["tasks"].items()} == {
            name: sorted(task.after) for name, task in dag.tasks.items()
        }
    for task, is_so in options.items():
        of_airflow = found["tasks"][task]
        assert of_airflow["retries"] == is_so.get("retries", retries)
        assert of_airflow["is_setup"] == is_so.get("is_setup", False)
        assert of_airflow["is_teardown"] == is_so.get("is_teardown", False)
        assert of_airflow["outlets"] == [asset.name for asset in is_so.get("outlets", ())]
        assert of_airflow["reschedules"] == (is_so.get("mode") == "reschedule")
        assert of_airflow["timeout"]


def test_lineage_is_off_until_it_is_told_where_to(tmp_path: Path) -> None:
    asked = "from airflow.providers.openlineage.conf import is_disabled; print(is_disabled())"
    own = environment_of(tmp_path, "localhost:1")
    for more, off in ({}, "True"), ({"OPENLINEAGE_URL": "http://localhost:1"}, "False"):
        command = [str(AIRFLOW / "bin" / "python"), "-c", asked]
        done = subprocess.run(command, env=os.environ | own | more, capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == off


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


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Three brokers, as the requirements of the pipeline have them."""
    (folder := tmp_path / "cluster").mkdir()
    with running(folder) as cluster:
        yield cluster


@pytest.fixture
def sales(cluster: Cluster, class_archive: Path, tmp_path: Path) -> Iterator[Service]:
    """The service of the sales, which is ready, with its metrics on a port."""
    shutil.copytree(PROJECT / "conf" / "reference", tmp_path / "conf" / "reference")
    (feeds := tmp_path / "conf" / "feeds").mkdir()
    shutil.copy(PROJECT / "conf" / "feeds" / "sales.toml", feeds)
    cluster.create_topic("ventes_stream", [[1, 2, 3], [2, 3, 1], [3, 1, 2]], **{"min.insync.replicas": "2"})
    environment = quick(tmp_path, class_archive) | {"METRICS_PORT": str(free_port())}
    service = Service(tmp_path / "out", feeds, cluster.address, environment, "sales")
    service.start()
    yield service
    service.kill()


def test_sales_are_seen_through_the_stream_and_reported(
    airflow: Airflow, cluster: Cluster, sales: Service, tmp_path: Path
) -> None:
    service = {
        "KAFKA_BOOTSTRAP_SERVERS": cluster.address,
        "SERVICE_URL": f"http://127.0.0.1:{sales.environment['METRICS_PORT']}",
        "REPORTS_PATH": str(tmp_path / "reports"),
        "OUTPUT_PATH": str(sales.root),
        "FEEDS_PATH": str(sales.feeds_path),
        "SEED": "7",
    }
    wait_for(lambda: _answers(f"{service['SERVICE_URL']}/readyz"), "a service that is ready")
    found = airflow("unified_sales_pipeline", {}, **service)
    assert found["state"] == "success", found["log"][-6000:]
    assert "3 of 3 are up" in found["log"]
    (markdown,) = (tmp_path / "reports" / "unified_sales_pipeline").glob("*.md")
    assert markdown.read_text().startswith("# 50 sales: all is well\n")
    assert "| bronze holds them | 50 of 50 | all | yes |" in markdown.read_text()
    assert markdown.with_suffix(".html").exists()
    assert (sales.count("bronze"), sales.count("silver") + sales.count("quarantine")) == (50, 50)
    # Without one of the three brokers it goes on where that is allowed.
    cluster.kill_node(BROKERS[0])
    preflight = [sys.executable, "-m", "stream_app", "preflight", "--topics=ventes_stream", "--brokers=3"]
    line = f"preflight: brokers: 2 of 3 are up at {cluster.address}\n"
    wait_for(lambda: _refused(preflight, os.environ | service) == line, "brokers that miss the third")
    # A check that fails is said with its number, and the report is there. With the seed of the run before, sales that
    # are valid repeat those of it.
    conf = {"count": 20, "max_quarantine_share": 0, "brokers": 2}
    refused = airflow("unified_sales_pipeline", conf, BAD_SHARE="0.5", **service)
    assert refused["state"] == "failed"
    assert refused["tasks"]["report"] == "success", refused["log"][-6000:]
    assert re.search(r"quarantine share: \d\d\.\d%, allowed is at most 0\.0%; see /", refused["log"])
    assert sales.process is not None
    assert sales.process.poll() is None, "it watches the stream, and leaves it alone"


def _refused(command: Sequence[str], environment: dict[str, str]) -> str:
    """Return what a command tells that may be right at a later try."""
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    return done.stderr if done.returncode == 1 else ""


def _answers(url: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(url, timeout=5):  # noqa: S310 - our own
        return True
    return False
