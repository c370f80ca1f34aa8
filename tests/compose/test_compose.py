"""The compose stack for real: up, rows in every output, the page, reset, stop, down; alone, and on a cluster."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from stream_app.feeds.load import load_feeds
from stream_app.ops.views import connect
from stream_app.settings import PROJECT
from stream_app.sinks.registry import flows
from tests.api_process import Follower
from tests.ports import free_port

DEADLINE_SECONDS = 900
# A session is in its folder once it has timed out, or later; what is on a topic has no files.
TABLES = ("page_view_counts", "active_users", "user_sessions")
# What the JVM and pyspark print of themselves, past every logger.
PRINTED = ("Using incubator modules", "TransformWithStateInPandas Python worker")
# Of five products all are in the ten.
BEST = (
    "SELECT (SELECT sum(total_montant) FROM ventes_aggreges) AS sold, sum(total_montant) AS counted FROM top_produits"
)
# The second is what the stand-in engine of a machine without one has.
IMAGES = {
    "POSTGRES_IMAGE": ("postgres:17", "postgres:15"),
    "NGINX_IMAGE": ("nginx:1.30", "nginx:1.22"),
    "VALKEY_IMAGE": ("valkey/valkey:9.1",),
    "PROMETHEUS_IMAGE": ("prom/prometheus:v3.5.0", "prom/prometheus:v2.42.0"),
    "ALERTMANAGER_IMAGE": ("prom/alertmanager:v0.28.1", "prom/alertmanager:v0.25.0"),
    # None has Grafana: a checker is in its place (tests/compose/grafana).
    "GRAFANA_IMAGE": ("kafka-medallion-grafana-checker",),
}
METRICS = "from urllib.request import urlopen; print(urlopen('http://nginx:8089/metrics').read().decode())"
SHARED = "import os, redis; print(redis.Redis.from_url(os.environ['REDIS_URL']).dbsize())"


@dataclass
class Stack:
    """A copy of the project, with a name and ports of its own."""

    folder: Path
    environment: dict[str, str]
    feeds: tuple[str, ...] = ("transactions",)

    def run(self, *command: str) -> str:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command} ended with {done.returncode}\n{done.stdout[-6000:]}"
        return done.stdout

    def rows(self) -> dict[str, int]:
        """How many rows each output holds, as read from this side of the mount, and each table."""
        feeds = load_feeds(self.folder / "conf" / "feeds", self.feeds)
        shown = [
            flow for flow in flows(feeds, self.folder / "data" / "output") if flow.form and flow.sink != "user_sessions"
        ]
        database = connect(shown)
        found = {flow.name: database.sql(f"SELECT count(*) FROM {flow.name}").fetchall()[0][0] for flow in shown}
        for table in TABLES if "user_activity" in self.feeds else ():
            counted = self.run("make", "psql", f"SQL=SELECT count(*) AS rows FROM {table}")
            found[table] = int(re.findall(r"^ *(\d+)$", counted, re.MULTILINE)[0])
        return found

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not condition():
            assert time.monotonic() < deadline, f"waited in vain for {what}; {self.rows()}\n{self.logs()}"
            time.sleep(2)

    def wait_for_rows(self) -> None:
        self.wait_for(lambda: all(self.rows().values()), "rows in each output")

    def wait_for_health(self, health: str) -> None:
        self.wait_for(lambda: self.container("stream-app")["Health"] == health, f"a stream-app that is {health}")

    def logs(self) -> str:
        return self.run("docker", "compose", "logs", "--tail", "40", "stream-app")[-6000:]

    def containers(self) -> list[dict[str, object]]:
        listed = self.run("docker", "compose", "--profile", "*", "ps", "--all", "--format", "json")
        return [json.loads(line) for line in listed.splitlines() if line.startswith("{")]

    def container(self, service: str) -> dict[str, object]:
        return next(one for one in self.containers() if one["Service"] == service)


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """The files that git knows or would know, in a folder of their own; all that was started is removed at the end."""
    folder = tmp_path / "project"
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=PROJECT, check=True, capture_output=True
    ).stdout
    for name in filter(None, listed.decode().split("\0")):
        if (PROJECT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((PROJECT / name).read_bytes())
            (folder / name).chmod((PROJECT / name).stat().st_mode)
    names = (
        "KAFKA_PORT",
        "KAFKA_SECOND_PORT",
        "KAFKA_THIRD_PORT",
        "SPARK_UI_PORT",
        "METRICS_PORT",
        "SPARK_MASTER_UI_PORT",
        "POSTGRES_PORT",
        "DASHBOARD_PORT",
        "PROMETHEUS_PORT",
        "ALERTMANAGER_PORT",
        "GRAFANA_PORT",
        "AIRFLOW_PORT",
    )
    ports = {name: str(free_port()) for name in names}
    made = Stack(
        folder,
        os.environ
        | ports
        | {
            "COMPOSE_PROJECT_NAME": f"medallion-{uuid.uuid4().hex[:8]}",
            "APP_IMAGE": "kafka-medallion-test",
            "AIRFLOW_IMAGE": "kafka-medallion-airflow-test",
            "TRIGGER_INTERVAL": "5 seconds",
            "MSGS_PER_SEC": "20",
            "BAD_SHARE": "0.02",
            "DOCKER_BUILDKIT": "0",
        }
        | {name: next(filter(_is_here, images), images[0]) for name, images in IMAGES.items()},
    )
    yield made
    made.run("docker", "compose", "--profile", "*", "down", "--volumes", "--timeout", "20")


def _is_here(image: str) -> bool:
    return subprocess.run(["docker", "image", "inspect", image], capture_output=True, check=False).returncode == 0


def check_hardening(stack: Stack) -> None:
    """No container has root's rights, may gain any, writes to its image, or listens beyond this machine."""
    running = {str(one["ID"]): str(one["Service"]) for one in stack.containers() if one["State"] == "running"}
    for one in json.loads(stack.run("docker", "inspect", *running)):
        service, host = running[one["Id"][:12]], one["HostConfig"]
        assert host["CapDrop"] == ["ALL"], service
        assert host["SecurityOpt"] == ["no-new-privileges:true"], service
        assert host["ReadonlyRootfs"] == (not service.startswith("kafka")), (
            service
        )  # its image writes its configuration
        published = [binding for bindings in (host["PortBindings"] or {}).values() for binding in bindings]
        assert {binding["HostIp"] for binding in published} <= {"127.0.0.1"}, service
        assert stack.run("docker", "compose", "exec", "-T", service, "id", "-u").strip() != "0", service


def check_health_without_kafka(stack: Stack) -> None:
    """Unhealthy while there is nothing to read from, healthy again by itself, and what comes then is read."""
    stack.run("docker", "compose", "stop", "kafka")
    stack.wait_for_health("unhealthy")
    read = stack.rows()["transactions.raw_csv"]
    stack.run("docker", "compose", "start", "kafka")
    stack.wait_for_health("healthy")
    stack.wait_for(lambda: stack.rows()["transactions.raw_csv"] > read, "more to be read")


def check_a_broker_that_goes(stack: Stack) -> None:
    """Of three brokers one is killed: what is sent meanwhile is read, and it comes back to all of its replicas."""
    described = ("/opt/kafka/bin/kafka-topics.sh", "--bootstrap-server", "kafka:9092", "--describe")
    topics = stack.run("docker", "compose", "exec", "-T", "kafka", *described, "--topic", "ventes_stream")
    assert "ReplicationFactor: 3" in topics
    assert "min.insync.replicas=2" in topics
    stack.run("docker", "compose", "kill", "kafka-2")
    read = stack.rows()
    stack.wait_for(
        lambda: all(stack.rows()[name] > read[name] for name in read if name.endswith("bronze")), "more rows"
    )
    stack.run("docker", "compose", "start", "kafka-2")
    missing = ("--under-replicated-partitions",)
    stack.wait_for(
        lambda: "Topic:" not in stack.run("docker", "compose", "exec", "-T", "kafka", *described, *missing),
        "replicas in sync",
    )
    stack.wait_for_health("healthy")


def check_bronze_has_all_that_was_sent(stack: Stack) -> None:
    """Each offset up to the end of its topic is in bronze once. The audit does not ask the topic."""
    stack.run("docker", "compose", "stop", "producer", "producer-sales")
    offsets = ("/opt/kafka/bin/kafka-get-offsets.sh", "--bootstrap-server", "kafka:9092", "--topic")
    for feed, topic in (("transactions", "transactions"), ("sales", "ventes_stream")):
        listed = stack.run("docker", "compose", "exec", "-T", "kafka", *offsets, topic)
        ends = {name: int(end) for name, end in re.findall(rf"^({topic}:\d+):(\d+)$", listed, re.MULTILINE)}
        sent = sum(ends.values())
        assert sent
        stack.wait_for(lambda name=f"{feed}.bronze", sent=sent: stack.rows()[name] >= sent, "all that was sent")  # type: ignore[misc]
        counted = 'SELECT count(*) AS rows, count(DISTINCT (partition, "offset")) AS records FROM bronze'
        found = stack.run("make", "-s", "query", f"FEED={feed}", "FORMAT=json", f"SQL={counted}")
        assert json.loads(found) == [{"rows": sent, "records": sent}], (feed, ends)


def check_the_page(stack: Stack) -> None:
    """The page and the API answer through nginx, live, from a cache that they share, and without it."""
    url = f"http://127.0.0.1:{stack.environment['DASHBOARD_PORT']}"
    assert b"<html" in asked(url).body
    assert asked(f"{url}/api/status", {"Host": "example.org"}).status == 421
    assert asked(f"{url}/metrics").status == 404
    in_api = ("docker", "compose", "exec", "-T", "api", "python3", "-c")
    assert "stream_app_api_requests_total" in stack.run(*in_api, METRICS), "for a Prometheus in the stack"

    follower = Follower(f"{url}/api/events")
    threading.Thread(target=follower.run, daemon=True).start()
    for batches in (1, 2):  # each is heard before the next one comes
        stack.wait_for(lambda n=batches: len(follower.of("batch", "bronze")) >= n, "a batch")  # type: ignore[misc]
    follower.ended.set()
    assert follower.streams == 1

    tag = {name.lower(): value for name, value in asked(f"{url}/api/feeds").headers.items()}["etag"]
    assert asked(f"{url}/api/feeds", {"If-None-Match": tag}).status == 304
    assert json.loads(asked(f"{url}/api/top_products").body)
    assert int(stack.run(*in_api, SHARED)) > 0
    preview = json.dumps({"feed": "transactions"}).encode()
    headers = {"Content-Type": "application/json", "Origin": url}
    assert json.loads(asked(f"{url}/api/replay/preview", headers, preview).body)["token"]
    assert asked(f"{url}/api/reset/preview", headers, preview).status == 409, "the service runs"

    stack.run("docker", "compose", "kill", "valkey")
    for path in ("top_products", "hourly_sales", "aggregated_sales", "status", "quarantine"):
        assert asked(f"{url}/api/{path}").status == 200
    stack.run("docker", "compose", "start", "valkey")
    stack.wait_for(
        lambda: asked(f"{url}/api/top_products").status == 200 and int(stack.run(*in_api, SHARED)) > 0, "the cache"
    )
    stack.run("docker", "compose", "restart", "api", "nginx")
    stack.wait_for(lambda: asked(f"{url}/api/status").status == 200, "the API")


def sums_agree(stack: Stack) -> bool:
    """Whether the best products have sold what the countries have bought: both tables are at one batch."""
    (best,) = json.loads(stack.run("make", "-s", "query", "FEED=sales", "FORMAT=json", f"SQL={BEST}"))
    return bool(best["sold"] == best["counted"])


@dataclass
class Asked:
    status: int
    headers: Mapping[str, str]
    body: bytes


def asked(url: str, headers: Mapping[str, str] | None = None, body: bytes | None = None) -> Asked:
    """What is answered; status 0 where nobody does."""
    try:
        request = urllib.request.Request(url, body, dict(headers or {}))  # noqa: S310 - our own
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - as above
            return Asked(answer.status, dict(answer.headers), answer.read())
    except urllib.error.HTTPError as error:
        return Asked(error.code, dict(error.headers), error.read())
    except OSError:
        return Asked(0, {}, b"")


def monitored(stack: Stack, port: str, path: str) -> Any:
    """What a server beside the service answers."""
    return json.loads(asked(f"http://127.0.0.1:{stack.environment[port]}{path}").body)


def check_monitoring(stack: Stack) -> None:
    """Prometheus scrapes service and brokers, and reaches Alertmanager with our rules; Grafana has what it reads."""

    def up() -> set[tuple[str, str]]:
        found = monitored(stack, "PROMETHEUS_PORT", "/api/v1/query?query=up==1")["data"]["result"]
        return {(one["metric"]["job"], one["metric"]["instance"]) for one in found}

    expected = {("stream-app", "stream-app:9108"), ("stream-app-api", "nginx:8089"), ("nginx", "nginx:8089")}
    expected |= {("kafka", f"{broker}:5556") for broker in ("kafka", "kafka-2", "kafka-3")}
    expected |= {("prometheus", "127.0.0.1:9090")}
    stack.wait_for(lambda: up() == expected, "targets that are up")
    groups = monitored(stack, "PROMETHEUS_PORT", "/api/v1/rules?type=alert")["data"]["groups"]
    rules = {rule["name"]: rule for group in groups for rule in group["rules"]}
    assert {"BrokerAway", "SilverLateFast", "SinkDown"} <= {*rules}
    stack.wait_for(
        lambda: monitored(stack, "PROMETHEUS_PORT", "/api/v1/alertmanagers")["data"]["activeAlertmanagers"], "it"
    )
    assert "webhook" in monitored(stack, "ALERTMANAGER_PORT", "/api/v2/status")["config"]["original"]
    boards = {
        "boards": ["medallion-kafka", "medallion-pipeline", "medallion-sales"],
        "sources": ["prometheus", "sales"],
    }
    assert monitored(stack, "GRAFANA_PORT", "/api/health") == boards
    watchers = ("prometheus", "alertmanager")
    stack.wait_for(lambda: {stack.container(one)["Health"] for one in watchers} == {"healthy"}, "healthy watchers")
    assert "GRAFANA_PASSWORD=" in (stack.folder / ".env").read_text()


@pytest.mark.timeout(3000)
def test_three_brokers_lose_nothing_when_one_goes_and_comes_back(stack: Stack) -> None:
    stack.run("docker", "build", "-q", "-t", stack.environment["GRAFANA_IMAGE"], "tests/compose/grafana")
    stack.environment |= {"PROFILE": "replicated,sales,dashboard,monitoring", "FEEDS": "transactions,sales"}
    stack.environment |= {"BACKFILL": "2 hours", "MSGS_PER_SEC": "3"}  # or no hour would be final
    stack.feeds = ("transactions", "sales")
    assert f"http://127.0.0.1:{stack.environment['DASHBOARD_PORT']}/" in stack.run("make", "up")
    stack.wait_for_rows()
    check_hardening(stack)
    check_monitoring(stack)
    check_the_page(stack)
    check_a_broker_that_goes(stack)
    check_bronze_has_all_that_was_sent(stack)
    assert "nothing lost, nothing twice" in stack.run("make", "audit")
    stack.wait_for(lambda: sums_agree(stack), "two tables at the same batch")
    stack.run("make", "down")
    assert stack.containers() == []


@pytest.mark.timeout(3000)
@pytest.mark.parametrize("profile", ["", "cluster,activity,sales"])
def test_up_reset_stop_and_down(stack: Stack, profile: str) -> None:
    assert "warn" not in stack.run("docker", "compose", "config").lower()
    stack.environment["PROFILE"] = profile
    if profile:
        stack.feeds = ("transactions", "user_activity", "sales")
        stack.environment |= {"FEEDS": ",".join(stack.feeds), "BACKFILL": "2 hours", "MSGS_PER_SEC": "3"}
    assert "healthy" in stack.run("make", "up")
    stack.wait_for_rows()
    app = stack.run("docker", "compose", "exec", "-T", "stream-app", "id", "-u").strip()
    owners = {path.stat().st_uid for path in (stack.folder / "data" / "output").rglob("*.parquet")}
    assert owners == {int(app)}
    assert {"kafka", "stream-app", "producer"} <= {str(one["Service"]) for one in stack.containers()}
    assert "stream-app" in stack.run("make", "ps")
    if profile:
        assert "spark-worker" in stack.run("make", "ps")
    check_hardening(stack)
    assert "running" in stack.run("make", "status")
    assert "nothing lost, nothing twice" in stack.run("make", "audit")
    stack.run("make", "reset", "YES=1")
    stack.wait_for_rows()
    said = stack.run("docker", "compose", "logs", "stream-app")
    assert [feed for feed in stack.feeds if f"{feed}.silver" not in said] == []
    for line in stack.run("docker", "compose", "logs", "--no-log-prefix", "stream-app", "producer").splitlines():
        assert not line or any(words in line for words in PRINTED) or json.loads(line)
    if not profile:  # the other is taken down as it runs
        check_health_without_kafka(stack)
        stack.run("docker", "compose", "stop", "stream-app")
        assert stack.container("stream-app")["ExitCode"] == 0, f"it was killed after its grace period: {stack.logs()}"
    stack.run("make", "down")
    assert stack.containers() == []
    last = json.loads((stack.folder / "data" / "output" / "_status.json").read_text())
    assert {flow["state"] for flow in last["flows"].values()} == {"stopped"}, "it was not drained"
