"""A standalone cluster as compose.yaml starts one: what passes is encrypted, and its pages show and do nothing."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyspark
import pytest

from stream_app.settings import PROJECT, PYTHON_START
from tests.ports import free_port
from tests.service.harness import Service, transaction, ui_at, wait_for
from tests.service.servers import KafkaBroker

SECRET = "b3f1c0de" * 4
SPARK = Path(pyspark.__file__).parent
PASSWORD = "of-the-database"


@dataclass
class Cluster:
    url: str
    ui: int


def options(service: str) -> dict[str, str]:
    """What compose.yaml gives its master or worker, with a folder for recovery of the test's own."""
    (found,) = re.findall(rf"SPARK_{service}_OPTS: >-\n((?: {{8}}.*\n)+)", (PROJECT / "compose.yaml").read_text())
    return {f"SPARK_{service}_OPTS": " ".join(found.split())}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    port, ui = free_port(), free_port()
    made = Cluster(f"spark://127.0.0.1:{port}", ui)
    master = ["master.Master", "--host", "127.0.0.1", "--port", str(port), "--webui-port", str(ui)]
    worker = ["worker.Worker", "--host", "127.0.0.1", "--webui-port", str(free_port()), "--cores", "2"]
    worker += ["--memory", "2g", "--work-dir", str(tmp_path / "work"), made.url]
    recovery = options("MASTER")["SPARK_MASTER_OPTS"].replace("/tmp/recovery", str(tmp_path / "recovery"))  # noqa: S108 - of a container
    own = {
        "SPARK_HOME": str(SPARK),
        "_SPARK_AUTH_SECRET": SECRET,
        "SPARK_DAEMON_MEMORY": "512m",
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYTHONPATH": os.pathsep.join([str(PROJECT), str(PYTHON_START)]),
        **options("WORKER"),
        "SPARK_MASTER_OPTS": recovery,
    }
    with (tmp_path / "cluster.log").open("ab") as log:
        running = [
            subprocess.Popen(
                [SPARK / "bin" / "spark-class", f"org.apache.spark.deploy.{command[0]}", *command[1:]],
                env=os.environ | own,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            for command in (master, worker)
        ]
    try:
        wait_for(lambda: '"aliveworkers" : 1' in get(ui, "json/"), "the worker")
        yield made
    finally:
        for process in running:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def get(port: int, path: str, body: bytes | None = None) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", body, timeout=120) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


def command_lines() -> str:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:  # it has ended
            continue
    return "\n".join(found)


def test_a_cluster_whose_tasks_carry_a_password_is_closed(
    cluster: Cluster, broker: KafkaBroker, new_service: Callable[..., Service]
) -> None:
    own = {"SPARK_MASTER": cluster.url, "SPARK_LOCAL_IP": "127.0.0.1"}
    own |= {"DATABASE_URL": f"postgresql://app:{PASSWORD}@127.0.0.1:1/none"}
    service = new_service(broker, **own)
    ui = free_port()
    options = {"SPARK_SUBMIT_OPTS": ui_at(service, ui)}
    service.start()
    assert "SPARK_AUTH_SECRET: is not set, and tasks carry DATABASE_URL to spark://" in service.end(2)

    broker.send(service.feed.topic, [transaction(i, time.time() - 60 + i * 0.1) for i in range(200)])
    service.environment |= {"SPARK_AUTH_SECRET": SECRET}
    service.start(**options)
    wait_for(lambda: service.count("raw_csv") == 200, "the records")
    (app,) = json.loads(get(cluster.ui, "json/"))["activeapps"]
    for body in (None, urllib.parse.urlencode({"id": app["id"], "terminate": "true"}).encode()):
        get(cluster.ui, f"app/kill/?id={app['id']}&terminate=true", body)
    get(cluster.ui, "workers/kill/", b"host=127.0.0.1")
    environment = get(ui, "environment/")
    assert "spark.network.crypto.enabled" in environment
    assert "spark.io.encryption.enabled" in environment
    for place in (environment, command_lines(), service.log.read_text()):
        assert SECRET not in place
        assert PASSWORD not in place
    found = json.loads(get(cluster.ui, "json/"))
    assert [(one["id"], one["state"]) for one in found["activeapps"]] == [(app["id"], "RUNNING")]
    assert found["aliveworkers"] == 1
    broker.send(service.feed.topic, [transaction(i, time.time()) for i in range(200, 220)])
    wait_for(lambda: service.count("raw_csv") == 220, "the records after that")
    service.stop()
    assert service.audit().wrong == []
