"""All that is watched and all that watches, for real: broker, database, service, API, Prometheus, Alertmanager."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from stream_app.settings import PROJECT
from tests.api_process import ApiProcess
from tests.deploy.watchers import configure, made
from tests.ports import free_port
from tests.service.fixtures import running_database_server
from tests.service.harness import Service, jvm_options, produce, wait_for
from tests.service.servers import Database, KafkaBroker

_FEEDS = ("transactions", "sales")
_TABLES = re.compile(r"^    (\[sinks\.\w+\]\n(?:    .*\n)+)", re.MULTILINE)


@dataclass
class Receiver:
    """What Alertmanager sends to its webhook, as the tests hear it."""

    port: int = field(default_factory=free_port)
    heard: list[dict[str, Any]] = field(default_factory=list)

    @contextmanager
    def listening(self) -> Iterator[None]:
        heard = self.heard

        class Hook(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                heard.extend(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["alerts"])
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nothing."""

        with ThreadingHTTPServer(("127.0.0.1", self.port), Hook) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield
            server.shutdown()

    def of(self, alert: str, status: str) -> list[dict[str, Any]]:
        """What came of that alert with that status, firing or resolved."""
        return [one for one in [*self.heard] if one["labels"]["alertname"] == alert and one["status"] == status]


@dataclass
class Watched:
    """The stack, while it runs."""

    broker: KafkaBroker
    service: Service
    database: Database
    receiver: Receiver
    url: str
    """Where Prometheus answers."""

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series that an expression gives now."""
        return list(self._get("query", query=expression)["result"])

    def has_tables(self) -> bool:
        """Whether the tables of the sales are made."""
        return len(self.database.query("SELECT 1 FROM pg_tables WHERE tablename ~ '^(ventes|meilleurs)_'")) == 3

    def names(self) -> set[str]:
        """The names of all metrics that were scraped or recorded."""
        return set(self._get("label/__name__/values"))

    def _get(self, path: str, **parameters: str) -> Any:
        asked = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(asked, timeout=30) as answer:  # noqa: S310 - our own
            return json.loads(answer.read())["data"]


@contextmanager
def watched(folder: Path) -> Iterator[Watched]:
    """Start all of it with records on their way; nothing is left of it at the end."""
    with ExitStack() as running:
        ports = {name: free_port() for name in ("broker", "service", "prometheus", "alertmanager")}
        broker = KafkaBroker(folder / "broker", free_port(), ports["broker"])
        running.callback(broker.stop)
        broker.start()
        for topic in ("transactions", "ventes_stream"):
            broker.create_topic(topic)
        database = running.enter_context(running_database_server()).create()
        environment = {"FEEDS": ",".join(_FEEDS), "DATABASE_URL": database.url, "METRICS_PORT": str(ports["service"])}
        environment |= jvm_options(folder / "run") | {"SPARK_SQL_SHUFFLE_PARTITIONS": "2"}
        service = Service(folder / "run" / "output", _feeds(folder), broker.address, environment)
        running.callback(service.kill)
        service.start()
        sales = Service(service.root, service.feeds_path, broker.address, environment, "sales")
        produce(sales, COUNT="300", BACKFILL="3 hours", MSGS_PER_SEC="0.03")
        running.enter_context(_producer(broker, folder))
        api = ApiProcess(service.root, {"FEEDS": environment["FEEDS"], "FEEDS_PATH": str(service.feeds_path)})
        api.start()
        running.callback(api.end)
        receiver = Receiver()
        running.enter_context(receiver.listening())
        configure(folder, ports | {"api": api.port, "receiver": receiver.port})
        for target in ("alertmanager", "prometheus"):
            running.enter_context(made(target, folder))
        found = Watched(broker, service, database, receiver, f"http://127.0.0.1:{ports['prometheus']}")
        wait_for(lambda: _answers(found), "Prometheus to answer")
        yield found


def _answers(found: Watched) -> bool:
    try:
        return bool(found.query("vector(1)"))
    except OSError:
        return False


def _feeds(folder: Path) -> Path:
    """The feeds that are shipped, and the tables of the sales as docs/monitoring.md has them."""
    feeds = folder / "conf" / "feeds"
    feeds.mkdir(parents=True)
    for name in _FEEDS:
        shutil.copy(PROJECT / "conf" / "feeds" / f"{name}.toml", feeds)
    shutil.copytree(PROJECT / "conf" / "reference", folder / "conf" / "reference")
    declared = _TABLES.findall((PROJECT / "docs" / "monitoring.md").read_text())
    assert len(declared) == 3
    with (feeds / "sales.toml").open("a") as file:
        file.writelines("\n" + re.sub("^    ", "", one, flags=re.MULTILINE) for one in declared)
    return feeds


@contextmanager
def _process(command: Sequence[str], folder: Path, **environment: str) -> Iterator[None]:
    with (
        (folder / "watchers.log").open("ab") as log,
        subprocess.Popen(
            command, cwd=PROJECT, env=os.environ | environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        ) as process,
    ):
        try:
            yield
        finally:
            process.terminate()


@contextmanager
def _producer(broker: KafkaBroker, folder: Path) -> Iterator[None]:
    shares = {"BAD_SHARE": "0.05", "REPEAT_SHARE": "0.05", "MSGS_PER_SEC": "20", "BACKFILL": "15 minutes"}
    command = [sys.executable, "-m", "producer"]
    with _process(command, folder, KAFKA_BOOTSTRAP_SERVERS=broker.address, **shares):
        yield
