"""What the service tests drive: the service as a user would start it, and the producer."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
from confluent_kafka import TopicPartition
from confluent_kafka.admin._listoffsets import OffsetSpec
from pydantic import SecretStr

from stream_app.feeds.feed import Feed
from stream_app.feeds.load import load_feeds
from stream_app.flows.flow import Flow
from stream_app.object_stores import StoreSettings
from stream_app.ops.audit import Report, reconcile
from stream_app.ops.views import connect
from stream_app.settings import PROJECT, Settings
from stream_app.sinks.registry import flows
from stream_app.storage.offsets import by_partition
from tests.helpers import wait_until
from tests.ports import free_port
from tests.service import commands
from tests.service.servers import PARTITIONS, KafkaBroker

DEADLINE_SECONDS = 600.0
_STORE = [name.upper() for name in StoreSettings.model_fields]
NO_UI = "-Dspark.ui.enabled=false"
"""The option of Java by which Spark serves no UI; who asks that takes `ui_at`."""


def wait_for(condition: Callable[[], object], what: str, seconds: float = DEADLINE_SECONDS) -> None:
    """Return when the condition is true; fail, naming what was waited for, after the deadline."""
    wait_until(condition, seconds, what, 0.2)


@dataclass
class Service:
    """One OUTPUT_PATH, and the service that runs on it: started, stopped and killed as from a shell."""

    root: Path
    feeds_path: Path
    servers: str
    environment: dict[str, str] = field(default_factory=dict)
    feed_name: str = "transactions"
    process: subprocess.Popen[bytes] | None = None
    project: Path = PROJECT
    """The checkout that it runs from."""

    @property
    def settings(self) -> Settings:
        store: dict[str, Any] = {name.lower(): self.environment[name] for name in _STORE if name in self.environment}
        return Settings(
            output_path=self.root,
            feeds_path=self.feeds_path,
            kafka_bootstrap_servers=self.servers,
            database_url=SecretStr(self.environment.get("DATABASE_URL", "")),
            **store,
        )

    @property
    def feed(self) -> Feed:
        return load_feeds(self.feeds_path, (self.feed_name,))[0]

    @property
    def flows(self) -> dict[str, Flow]:
        return {flow.sink: flow for flow in flows([self.feed], self.root, self.settings.tables)}

    @property
    def log(self) -> Path:
        return self.root.parent / "service.log"

    def start(self, **environment: str) -> None:
        # where the tests run in the background, Ctrl-C's signal is ignored, and a JVM leaves that so
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                ["env", "--default-signal=INT", self._python, "-m", "stream_app"],
                cwd=self.project,
                env=self._environment(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def end(self, expected: int | None = 0) -> str:
        """Wait until the service ends by itself; its log since the start of the test."""
        assert self.process
        try:
            wait_for(lambda: self._code is not None, "the service to end")
        except AssertionError:
            self.kill()
            print(self.log.read_text()[-4000:])
            raise
        code, log = self._code, self.log.read_text()
        assert expected is None or code == expected, f"exit {code}\n{log[-4000:]}"
        return log

    def stop(self, by: signal.Signals = signal.SIGTERM) -> str:
        """SIGTERM, as docker stop sends it, or another signal; it must drain and exit with 0."""
        assert self.process
        self.process.send_signal(by)
        return self.end()

    def kill(self) -> None:
        """SIGKILL to everything of it."""
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def drain(self, expected: int = 0, **environment: str) -> str:
        """Run it with TRIGGER_INTERVAL=available-now."""
        self.start(TRIGGER_INTERVAL="available-now", **environment)
        return self.end(expected)

    def op(self, name: str, expected: int = 0, **given: str) -> str:
        """Run a command with options and settings as make is given them; return its output."""
        typed, environment = [name, *commands.options(given)], self._environment(commands.settings(given))
        # delta-rs keeps other threads waiting, and one of them may be the store's proxy
        asks_a_store = "://" in environment.get("DELTA_PATH", "")
        if name in commands.PROCESSES or asks_a_store or self.project != PROJECT:
            code, printed = commands.started(self._python, self.project, typed, environment)
        else:
            code, printed = commands.called(self.project, typed, environment)
        assert code == expected, f"exit {code}\n{printed}"
        return printed

    def has_read_all(self, kafka: KafkaBroker) -> bool:
        """Whether every record of the topic has come through, to the end of gold and the CSV."""
        topic = self.feed.topic
        asked = {TopicPartition(topic, p): OffsetSpec.latest() for p in range(PARTITIONS)}
        admin = kafka.admin
        ends = {tp.partition: future.result().offset for tp, future in admin.list_offsets(asked).items()}
        for flow in self.flows.values():
            committed = flow.checkpoint.last_committed()
            if committed is None:
                return False
            files = flow.upstream.files() if flow.upstream else []
            newest = max((file.last for file in files), default=-1)
            if flow.upstream is None and by_partition(committed.end) != ends:
                return False
            if flow.taken_up_to() < newest:
                return False
        return True

    def audit(self) -> Report:
        return reconcile(self.flows["bronze"], self.settings.servers, self.settings.max_files_per_sink)

    def query(self, sql: str) -> list[tuple[object, ...]]:
        """DuckDB over the outputs, each layer a view; begun again if retention took a file away meanwhile."""
        for _ in range(5):
            try:
                return connect(list(self.flows.values())).sql(sql).fetchall()
            except (duckdb.IOException, FileNotFoundError):  # whoever looks for it
                time.sleep(0.2)
        return connect(list(self.flows.values())).sql(sql).fetchall()

    def count(self, layer: str) -> int:
        return int(str(self.query(f"SELECT count(*) FROM {layer}")[0][0]))

    def contents(self, layer: str) -> list[tuple[object, ...]]:
        """All rows of a layer in an order of their own."""
        return self.query(f"SELECT * FROM {layer} ORDER BY ALL")

    @property
    def _code(self) -> int | None:
        """The exit code; None while the service runs."""
        return self.process.poll() if self.process else None

    @property
    def _python(self) -> str:
        return sys.executable if self.project == PROJECT else str(self.project / ".venv" / "bin" / "python")

    def _environment(self, more: dict[str, str]) -> dict[str, str]:
        own = {
            "FEEDS": self.feed_name,
            "OUTPUT_PATH": str(self.root),
            "FEEDS_PATH": str(self.feeds_path),
            "KAFKA_BOOTSTRAP_SERVERS": self.servers,
            "SPARK_MASTER": "local[2]",
            "TRIGGER_INTERVAL": "1 second",
        }
        return os.environ | own | self.environment | more


def refusal(service: Service) -> str:
    """Start the service, which must refuse; the one line that it ends with."""
    service.log.unlink(missing_ok=True)
    lines = service.drain(expected=2).strip().splitlines()
    assert "Traceback" not in "\n".join(lines)
    return lines[-1]


def failures(log: str) -> list[str]:
    """The lines by which a service tells that a query failed, but for sources that did not start in time.

    Spark gives the Python process of one ten seconds, which a busy machine may not make.
    """
    lines = [line for line in log.splitlines() if " failed failures=" in line]
    return [line for line in lines if not re.search("Python worker|SocketTimeout", line)]


def ended_by(log: str) -> str:
    """The line by which a service that had begun tells why it ended; Spark may tell of its own end behind it."""
    return [line for line in log.splitlines() if line.startswith("stream_app: ")][-1]


def jvm_options(folder: Path, *options: str) -> dict[str, str]:
    """An environment whose JVM has those options, and leaves what a kill leaves behind in the folder."""
    temporary = folder / "tmp"
    temporary.mkdir(parents=True)
    return {"SPARK_SUBMIT_OPTS": " ".join([f"-Djava.io.tmpdir={temporary}", *options])}


def quick(folder: Path, class_archive: Path) -> dict[str, str]:
    """An environment in which a service starts soon: with the classes that were kept, little state, and no UI."""
    return jvm_options(folder, taken_from(class_archive), NO_UI) | {"SPARK_SQL_SHUFFLE_PARTITIONS": "2"}


def ui_at(service: Service, port: int) -> str:
    """The options of its JVM by which Spark serves its UI there."""
    return f"{service.environment['SPARK_SUBMIT_OPTS']} -Dspark.ui.enabled=true -Dspark.ui.port={port}"


def taken_from(class_archive: Path) -> str:
    """The option of Java that takes its classes from there."""
    return f"-XX:SharedArchiveFile={class_archive}"


@contextmanager
def broker_and_service() -> Iterator[tuple[KafkaBroker, Service]]:
    """A broker with the topic `transactions`, and a service that is not started; nothing is left of them at the end."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as running:
        folder = Path(name)
        kafka = KafkaBroker(folder / "broker", free_port())
        running.callback(kafka.stop)
        kafka.start()
        kafka.create_topic("transactions")
        environment = jvm_options(folder / "run")
        service = Service(folder / "run" / "output", PROJECT / "conf" / "feeds", kafka.address, environment)
        running.callback(service.kill)
        yield kafka, service


def produce(service: Service, **settings: str) -> None:
    """Run `python -m producer` to its end."""
    environment = {"KAFKA_BOOTSTRAP_SERVERS": service.servers, "KAFKA_TOPIC": service.feed.topic, **settings}
    command = [sys.executable, "-m", "producer", "--feed", service.feed_name]
    subprocess.run(command, cwd=PROJECT, env=os.environ | environment, check=True)


def transaction(number: int, at: float, **changed: object) -> tuple[str, bytes, int]:
    """A valid record that happened at `at` (seconds since the epoch), as KafkaBroker.send takes it."""
    event_ts = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + f".{int(at % 1 * 1000):03d}Z"
    record = {
        "txn_id": f"t{number:08d}",
        "event_ts": event_ts,
        "user_id": f"u{number % 97}",
        "card_id": f"c{number % 41}",
        "merchant": 'Smith, "Sons" & Co' if number % 5 else "=1+1",
        "category": "food",
        "amount": number % 10_000 / 100,
        "currency": "EUR",
        "status": "approved",
        "city": "Paris",
        "country": "FR",
        "lat": 48.85,
        "lon": 2.35,
    } | changed
    return str(record["card_id"]), json.dumps(record).encode(), int(at * 1000)
