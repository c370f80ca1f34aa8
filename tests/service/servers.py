"""The servers beside the service: a Kafka broker and a PostgreSQL of the tests' own, real ones."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import LiteralString

import psycopg
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from local.broker import Broker
from local.places import Places
from local.postgres import Postgres

PARTITIONS = 3
PATIENCE_SECONDS = 300.0
"""For a broker that hangs: so long a client tries by itself."""


class KafkaBroker:
    """A real broker, in a JVM of its own."""

    def __init__(self, folder: Path, port: int, metrics_port: int = 0) -> None:
        self._folder, self._port, self._metrics_port = folder, port, metrics_port
        self.address = f"localhost:{port}"
        self._broker: Broker | None = None

    def start(self) -> None:
        places = Places(self._folder)
        places.make()
        self._broker = Broker(places, self._port, [], self._metrics_port)
        self._broker.claim()
        self._broker.start(Event())

    def stop(self) -> None:
        if self._broker:
            self._broker.stop(lambda: None)

    def damage(self, topic: str, base: int) -> None:
        """Flip a bit in the batch of records that begins at offset `base` of partition 0, while the broker is stopped.

        As a disk may do it: no broker checks what it sends.
        """
        segment = self._folder / "kafka" / f"{topic}-0" / f"{0:020d}.log"
        content = bytearray(segment.read_bytes())
        at = 0
        while (found := int.from_bytes(content[at : at + 8])) != base:
            assert found < base, f"no batch begins at {base}"
            at += 12 + int.from_bytes(content[at + 8 : at + 12])
        content[at + 11 + int.from_bytes(content[at + 8 : at + 12])] ^= 1
        segment.write_bytes(content)

    @property
    def admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.address, "log_level": 0})

    def create_topic(self, topic: str, partitions: int = PARTITIONS, **config: str) -> None:
        """Make a topic that keeps records of any time: those of START are older than a week by now."""
        admin = self.admin  # its futures fail once it is gone
        made = NewTopic(topic, partitions, 1, config={"retention.ms": "-1", **config})
        admin.create_topics([made])[topic].result()

    def send(self, topic: str, records: Sequence[tuple[str, bytes | None, int]], **settings: object) -> None:
        """Send (key, value, Kafka timestamp in milliseconds) and wait until all are acknowledged."""
        failed: list[object] = []
        config = {"bootstrap.servers": self.address, "enable.idempotence": True, "linger.ms": 20, **settings}
        producer = Producer({**config, "queue.buffering.max.messages": max(100_000, len(records))})
        for key, value, at in records:
            producer.produce(
                topic, value, key=key, timestamp=at, on_delivery=lambda e, _: failed.append(e) if e else None
            )
            producer.poll(0)
        assert producer.flush(PATIENCE_SECONDS) == 0
        assert not failed

    def records(self, topic: str) -> dict[tuple[int, int], bytes]:
        """The value of every record that the topic holds, by partition and offset."""
        config = {"bootstrap.servers": self.address, "group.id": "test", "receive.message.max.bytes": 1_000_000_000}
        consumer = Consumer({**config, "enable.auto.commit": False, "enable.partition.eof": True})
        consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in range(PARTITIONS)])
        found: dict[tuple[int, int], bytes] = {}
        ended: set[int | None] = set()
        try:
            while len(ended) < PARTITIONS:
                message = consumer.poll(PATIENCE_SECONDS)
                assert message is not None, f"{len(found)} records have come, and then no more"
                error, partition, offset = message.error(), message.partition(), message.offset()
                if error is not None:
                    assert error.code() == KafkaError._PARTITION_EOF, error
                    ended.add(partition)
                elif partition is not None and offset is not None:
                    found[partition, offset] = message.value() or b""
        finally:
            consumer.close()
        return found


@dataclass(frozen=True)
class Database:
    """A database of a real PostgreSQL."""

    url: str

    def change(self, sql: LiteralString) -> None:
        with psycopg.connect(self.url) as connection:
            connection.execute(sql)

    def query(self, sql: LiteralString) -> list[tuple[object, ...]]:
        with psycopg.connect(self.url) as connection:
            return connection.execute(sql).fetchall()


class DatabaseServer:
    """A real PostgreSQL, as the local stack starts it."""

    def __init__(self, folder: Path) -> None:
        self._places = Places(folder)
        self._server: Postgres | None = None
        self._made = itertools.count()

    @property
    def url(self) -> str:
        assert self._server, "it was not started"
        return self._server.url

    def start(self) -> None:
        self._places.make()
        self._server = Postgres(self._places)
        self._server.claim()
        self._server.start(Event())

    def stop(self) -> None:
        if self._server:
            self._server.stop(lambda: None)

    def kill(self) -> None:
        """SIGKILL; the next start mends what that left."""
        pid = int((self._places.postgres / "cluster" / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)
        self.stop()

    def create(self) -> Database:
        """Make an empty database."""
        name = f"test_{next(self._made)}"
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(name)))
        return Database(f"{self.url.rpartition('/')[0]}/{name}")

    def copy(self, database: Database) -> Database:
        """Make a database with the same tables and rows, to which nobody may be connected."""
        name, template = f"test_{next(self._made)}", database.url.rpartition("/")[2]
        make = psycopg.sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(make.format(psycopg.sql.Identifier(name), psycopg.sql.Identifier(template)))
        return Database(f"{self.url.rpartition('/')[0]}/{name}")
