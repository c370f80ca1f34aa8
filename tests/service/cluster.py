"""Three real brokers and a controller, for what happens when leaders move."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._metadata import PartitionMetadata
from confluent_kafka.cimpl import NewTopic

from stream_app.settings import PROJECT
from tests.ports import free_port
from tests.service.harness import wait_for
from tests.service.servers import KafkaBroker

BROKERS = (1, 2, 3)
_CONTROLLER = 9
_CLUSTER_ID = "4L6g3nShT-eMCtK--X86sw"
_JAVA = (
    "java",
    "-Xms64m",
    "-Xmx256m",
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-cp",
    f"{PROJECT}/.jars/kafka/*",
)
_PATIENCE_SECONDS = 600
"""For what hangs: four JVMs at once take a minute of a busy machine."""
_ANSWER_SECONDS = 10


class Cluster:
    """Each node is a JVM with a folder of its own; ports stay the same over a restart."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._controller_port = free_port()
        self._ports = {node: free_port() for node in BROKERS}
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self.address = ",".join(f"localhost:{port}" for port in self._ports.values())

    @property
    def admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.address, "log_level": 0})

    def start(self) -> None:
        nodes = (_CONTROLLER, *BROKERS)
        formats = [
            self._java("kafka.tools.StorageTool", "format", "-t", _CLUSTER_ID, "-c", self._written(n)) for n in nodes
        ]
        assert [process.wait(_PATIENCE_SECONDS) for process in formats] == [0] * len(nodes)
        for node in nodes:
            self.start_node(node)
        wait_for(lambda: self._alive() == {*BROKERS}, "all brokers")

    def start_node(self, node: int) -> None:
        self._processes[node] = self._java("kafka.Kafka", str(self._folder / f"{node}.properties"))

    def stop_node(self, node: int) -> None:
        """In order: a broker hands over what it leads first."""
        process = self._processes.pop(node)
        process.terminate()
        process.wait(_PATIENCE_SECONDS)

    def kill_node(self, node: int) -> None:
        process = self._processes.pop(node)
        process.kill()
        process.wait()

    def stop(self) -> None:
        for node in list(self._processes):
            self.kill_node(node)

    def create_topic(self, topic: str, placed: list[list[int]], **config: str) -> None:
        """Create it with those brokers for each partition, the one that leads it first."""
        admin = self.admin
        made = admin.create_topics([NewTopic(topic, len(placed), replica_assignment=placed, config=config)])
        made[topic].result(60)

    def leader(self, topic: str, partition: int = 0) -> int:
        """The broker that leads the partition; -1 while there is none."""
        found = self._partition(topic, partition)
        return found.leader if found else -1

    def in_sync(self, topic: str, partition: int = 0) -> set[int]:
        """Its replicas that are in sync; none while nobody knows."""
        found = self._partition(topic, partition)
        return set(found.isrs) if found else set()

    def by_address(self) -> KafkaBroker:
        """The cluster for what asks a broker for no more than its address."""
        one = KafkaBroker(self._folder, 0)
        one.address = self.address
        return one

    def _partition(self, topic: str, partition: int) -> PartitionMetadata | None:
        """What a broker says of the partition; None while none answers, or it has not heard of the topic."""
        with suppress(KafkaException):
            topics = self.admin.list_topics(topic, timeout=_ANSWER_SECONDS).topics
            return topics[topic].partitions.get(partition) if topic in topics else None
        return None

    def _alive(self) -> set[int]:
        with suppress(KafkaException):
            return set(self.admin.list_topics(timeout=_ANSWER_SECONDS).brokers)
        return set()

    def _java(self, *arguments: str) -> subprocess.Popen[bytes]:
        with (self._folder / "kafka.log").open("ab") as log:
            return subprocess.Popen(
                [*_JAVA, *arguments],
                cwd=PROJECT,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def _written(self, node: int) -> str:
        path = self._folder / f"{node}.properties"
        role, port = ("controller", self._controller_port) if node == _CONTROLLER else ("broker", self._ports[node])
        name = "CONTROLLER" if node == _CONTROLLER else "PLAINTEXT"
        advertised = "" if node == _CONTROLLER else f"advertised.listeners=PLAINTEXT://localhost:{port}"
        path.write_text(f"""
process.roles={role}
node.id={node}
controller.quorum.voters={_CONTROLLER}@127.0.0.1:{self._controller_port}
controller.listener.names=CONTROLLER
listeners={name}://127.0.0.1:{port}
{advertised}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={self._folder / str(node)}
offsets.topic.num.partitions=1
transaction.state.log.num.partitions=1
group.initial.rebalance.delay.ms=0
log.message.timestamp.before.max.ms=9223372036854775807
broker.session.timeout.ms=6000
log.cleaner.dedupe.buffer.size=16777216
auto.create.topics.enable=false
""")
        return str(path)


@contextmanager
def running(folder: Path) -> Iterator[Cluster]:
    """A cluster that answers; none of its processes is left at the end."""
    cluster = Cluster(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
