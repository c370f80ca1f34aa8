"""The local Kafka broker: KRaft, one JVM, its records under data/kafka."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from string import Template
from threading import Event

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from local import agent, java, lock, ports
from local.console import say
from local.places import JARS, ROOT, Places, shown
from local.process import Child, lock_path
from stream_app.errors import ConfigError, StreamAppError
from stream_app.kafka.broker import PARTITIONS, create_missing
from stream_app.runtime import jvm

NAME = "broker"
_PARTITIONED = f" ({PARTITIONS} partitions)"
_TEMPLATE = ROOT / "conf" / "kafka.properties"
_LOG4J = ROOT / "conf" / "kafka-log4j2.properties"
# Relative to where Kafka runs: the path of a home may have a colon.
_CLASS_PATH = f"{JARS.relative_to(ROOT) / 'kafka'}/*"
# For one machine's records the first compiler and the simplest collector are enough: up in 3.7 s of a quiet machine
# instead of 4.5, with 2.6 s of CPU instead of 4.2.
_JVM = ("-Xms256m", "-Xmx512m", "-XX:+ExitOnOutOfMemoryError", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
_STOP_SECONDS = 30.0
_START_SECONDS = 120.0  # after a kill -9 it checks the last segments of every partition first
_LOOK_SECONDS = 1.0
_ANSWER_SECONDS = 5.0


class Broker(Child):
    """A broker at localhost:<port>. It is up when it answers and holds the topics."""

    def __init__(self, places: Places, port: int, topics: Sequence[str], metrics_port: int = 0) -> None:
        """`metrics_port` is where it serves metrics for Prometheus; 0: nowhere."""
        self.address = f"localhost:{port}"
        self._port = port
        self._topics = topics
        self._properties = places.run / "kafka.properties"
        command = _command(*agent.options(metrics_port), "kafka.Kafka", str(self._properties))
        super().__init__(NAME, command, places, _STOP_SECONDS, jvm.environment())

    def claim(self) -> None:
        """Take the folder, and tell others the address."""
        super().claim()
        _address_file(self.places).write_text(json.dumps({"bootstrap_servers": self.address}) + "\n")

    def start(self, stopping: Event) -> None:
        """Format the storage where it is new, start Kafka, wait until it answers, and make the topics."""
        self._properties.write_text(properties(_TEMPLATE.read_text(), self._port, ports.any_free(), self.places.kafka))
        self._format()
        super().start(stopping)
        admin = _admin(self.address)
        deadline = time.monotonic() + _START_SECONDS
        while not stopping.wait(0.2) and self.returncode is None:
            if (existing := _existing(admin, _LOOK_SECONDS)) is not None:
                made = _PARTITIONED if _make_missing(admin, existing, self._topics, self.log_name) else ""
                say(NAME, f"ready at {self.address}, topics {', '.join(self._topics)}{made}, log {self.log_name}")
                return
            if time.monotonic() > deadline:
                problem = f"no answer from {self.address} within {_START_SECONDS:.0f} s; see {self.log_name}"
                raise StreamAppError(problem)

    def _format(self) -> None:
        """Give new storage its cluster id. Kafka writes meta.properties last, so half a format is done again."""
        if (self.places.kafka / "meta.properties").is_file():
            return
        say(NAME, f"formatting {shown(self.places.kafka)}")
        # as Kafka's own tool would make it, in a second's start of Java; one with a dash first would be an option
        cluster_id = f"A{secrets.token_urlsafe(16)[1:]}"
        _storage_tool("format", "--cluster-id", cluster_id, "--config", str(self._properties), "--ignore-formatted")


def running(places: Places) -> str | None:
    """Return the address of the broker that runs on this folder, if one does."""
    if not lock.is_held(lock_path(places, NAME)):
        return None
    try:
        return str(json.loads(_address_file(places).read_text())["bootstrap_servers"])
    except FileNotFoundError:
        return None  # it is about to start


def answers(address: str) -> bool:
    """Return whether a broker answers at the address."""
    return _existing(_admin(address), _LOOK_SECONDS) is not None


def make_topics(places: Places, address: str, topics: Sequence[str]) -> None:
    """Make those topics that the broker at the address lacks; none while it does not answer."""
    admin = _admin(address)
    existing = _existing(admin, _ANSWER_SECONDS)
    if existing is not None and (made := _make_missing(admin, existing, topics, shown(places.log(NAME)))):
        say(NAME, f"topics made at {address}: {', '.join(made)}{_PARTITIONED}")


def refuse_another(places: Places) -> None:
    """Raise ConfigError where a broker runs on this folder already."""
    address = running(places)
    if address is not None:
        pid = places.pid_of(NAME)
        problem = f"{shown(places.kafka)} is in use by the broker at {address}, process {pid}"
        raise ConfigError(f"{problem}; stop it: kill {pid}, or use it: KAFKA_BOOTSTRAP_SERVERS={address} make run")


def properties(template: str, port: int, controller_port: int, log_dirs: Path) -> str:
    """Fill in conf/kafka.properties."""
    # Relative to where Kafka runs: it reads the file as Latin-1, and homes may have other letters in their names.
    folder = os.path.relpath(log_dirs, ROOT)
    try:
        return Template(template).substitute(port=port, controller_port=controller_port, log_dirs=folder)
    except (KeyError, ValueError) as error:
        problem = f"{shown(_TEMPLATE)}: only ${{port}}, ${{controller_port}} and ${{log_dirs}} are filled in: {error}"
        raise ConfigError(problem) from None


def _admin(address: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": address, "log_level": 0})  # 0: no line for each try


def _existing(admin: AdminClient, timeout: float) -> set[str] | None:
    """Return the topics that there are; None while the broker does not answer."""
    try:
        return set(admin.list_topics(timeout=timeout).topics)
    except KafkaException:
        return None


def _make_missing(admin: AdminClient, existing: set[str], topics: Sequence[str], log_name: str) -> list[str]:
    """Make the topics that do not exist; return them."""
    try:
        return create_missing(admin, existing, topics)
    except StreamAppError as error:
        raise StreamAppError(f"{error}; see {log_name}") from None


def _address_file(places: Places) -> Path:
    return places.run / f"{NAME}.json"


def _command(*arguments: str) -> list[str]:
    """Return the command for that main class of Kafka and what it is told, behind more options of Java."""
    if not any((JARS / "kafka").glob("kafka_*.jar")):
        problem = f"there are no jars in {shown(JARS / 'kafka')}; fetch them with: make setup"
        raise ConfigError(problem)
    return [java.find(), *_JVM, jvm.log_option(_LOG4J), "-cp", _CLASS_PATH, *arguments]


def _storage_tool(*arguments: str) -> None:
    done = subprocess.run(
        _command("kafka.tools.StorageTool", *arguments), cwd=ROOT, capture_output=True, text=True, check=False,
        start_new_session=True, env=os.environ | jvm.environment(),
    )  # fmt: skip
    if done.returncode:
        problem = f"Kafka cannot format its storage: {(done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]}"
        raise ConfigError(problem)
