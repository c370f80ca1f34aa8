"""Each example of the shipped feeds is run by the service, which makes of it what feed-test says."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from confluent_kafka import Producer

from stream_app.flows.flow import Flow
from stream_app.ops.examples import jsonl
from stream_app.ops.examples.given import Given, read
from stream_app.ops.examples.made import made
from stream_app.ops.feed_test import cases, rows_of_lookups
from stream_app.settings import PROJECT
from stream_app.storage.batch_files import batch_files
from stream_app.storage.snapshots import Snapshot
from tests.service.harness import Service, wait_for
from tests.service.servers import PARTITIONS, PATIENCE_SECONDS, KafkaBroker

SHIPPED = PROJECT / "conf" / "feeds"
# What silver's rows are copied to, where nothing is computed, and totals, which are nowhere else.
COPIES = re.compile(r"^\[(?:lakes|topics|tables|sinks|totals)\b.*?(?=^\[|\Z)", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Example:
    """A case, as a feed of its own."""

    service: Service
    batches: list[list[Given]]
    lookups: Mapping[str, Snapshot]

    def send(self, kafka: KafkaBroker, number: int) -> None:
        """Send the records of a batch."""
        producer = Producer({"bootstrap.servers": kafka.address, "enable.idempotence": True})
        for record in self.batches[number] if number < len(self.batches) else ():
            topic, at = self.service.feed.topic, record.kafka_us // 1000
            producer.produce(topic, record.value, key=record.key, partition=record.partition, timestamp=at)
        assert producer.flush(PATIENCE_SECONDS) == 0

    def is_done(self, kafka: KafkaBroker, number: int) -> bool:
        """Whether all layers have made all of it, to the batch in which Spark makes the last windows final."""
        if not self.service.has_read_all(kafka):
            return False
        done = made(self.service.feed, self.batches[: number + 1], self.lookups).watermarks
        flows = self.service.flows
        return all(planned(flows[name]) == watermark for name, watermark in done.items())

    def differing(self) -> dict[str, tuple[Sequence[str], Sequence[str]]]:
        """What the service has, and what it should have, where that is not the same."""
        expected = made(self.service.feed, self.batches, self.lookups).tables
        found = {name: (self.lines(self.rows(name)), self.lines(rows)) for name, rows in expected.items()}
        return {name: both for name, both in found.items() if both[0] != both[1]}

    def rows(self, name: str) -> pa.Table:
        """The rows of a dataset in the service's files."""
        late, flow = name.startswith("late_"), self.service.flows[name.removeprefix("late_")]
        files = batch_files(flow.layout.late, flow.layout.late_name) if late else flow.files()
        tables = [pq.read_table(file.path) for file in files]
        table = pa.concat_tables(tables) if tables else pa.table({})
        return table.drop_columns([column for column in ("value",) if column in table.column_names])

    @staticmethod
    def lines(table: pa.Table) -> list[str]:
        return sorted(jsonl.respelled(line, in_order=True) for line in jsonl.lines(table))


def planned(flow: Flow) -> int | None:
    """The watermark that the flow's last batch began with."""
    committed = flow.checkpoint.last_committed()
    return committed.watermark_ms if committed else None


@contextmanager
def paused(service: Service) -> Iterator[None]:
    """Stop all of a service for a while, so that what comes meanwhile is one batch."""
    assert service.process
    os.killpg(service.process.pid, signal.SIGSTOP)
    yield
    os.killpg(service.process.pid, signal.SIGCONT)


def examples(kafka: KafkaBroker, runs: Service) -> Iterator[Example]:
    """Each case of each shipped feed; they share a folder of outputs and a process, `runs`."""
    shutil.copytree(SHIPPED.parent / "reference", runs.feeds_path.parent / "reference")
    for file in sorted(SHIPPED.glob("*.toml")):
        for folder in cases(SHIPPED, file.stem):
            name = f"{file.stem}_{folder.name}"
            kafka.create_topic(name, PARTITIONS, **{"retention.ms": "-1"})
            declared = re.sub("^topic = .*$", f'topic = "{name}"', COPIES.sub("", file.read_text()), flags=re.MULTILINE)
            (runs.feeds_path / f"{name}.toml").write_text(declared)
            service = Service(runs.root, runs.feeds_path, runs.servers, runs.environment, name)
            lookups = dict(rows_of_lookups(service.feed, folder))
            yield Example(service, read(folder / "input.jsonl", service.feed), lookups)


def test_the_service_makes_of_each_example_what_feed_test_says(
    broker: KafkaBroker, new_service: Callable[..., Service]
) -> None:
    runs = new_service(broker)
    shown = list(examples(broker, runs))
    assert len(shown) > 6
    for number in range(max(len(one.batches) for one in shown)):
        if number == 0:
            for one in shown:
                one.send(broker, 0)
            runs.start(FEEDS=",".join(one.service.feed_name for one in shown))
        else:
            with paused(runs):
                for one in shown:
                    one.send(broker, number)
        for one in shown:
            done = partial(one.is_done, broker, number)
            wait_for(done, f"batch {number} of {one.service.feed_name}")
    runs.stop()
    assert {one.service.feed_name: one.differing() for one in shown if one.differing()} == {}
    assert all(one.service.audit().wrong == [] for one in shown)


def test_every_shipped_feed_has_examples() -> None:
    assert all(cases(SHIPPED, file.stem) for file in Path(SHIPPED).glob("*.toml"))
