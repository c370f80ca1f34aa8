"""The real service with Delta tables in an object store: killed, cut off, pruned, reset, and refused where it must be.

Tables are read by deltalake alone, straight from the store: nothing of ours tells what is in one.
"""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from tests.ports import free_port
from tests.service.harness import Service, ended_by, refusal, transaction, ui_at, wait_for
from tests.service.servers import KafkaBroker
from tests.service.test_secure_kafka import _command_lines, _spark_ui
from tests.store_servers import AWAY, FLAKY, LOST, READ_ONLY, WELL, Gateway, Proxy
from tests.stores import KEY, SECRET, Bucket

SINKS = """
[sinks.raw]
of = "bronze"
to = "delta"
[sinks.clean]
of = "silver"
to = "delta"
partition_by = "date(event_time)"
[sinks.cards]
of = "gold"
to = "delta"
location = "{elsewhere}/cards"
fresh = true
"""
"""Two tables are under DELTA_PATH, and one is where its sink says, in the same bucket."""
TABLES = {"raw": ("partition", "offset", "value"), "clean": ("txn_id",), "cards": ("window_start", "card_id")}
"""Each table, and the columns that no two of its rows have alike."""
POINTS = (("clean", "renamed"), ("cards", "renamed"))
BATCH = 300
KILLED = -9
NOT_ALL = 3
"""The code of an audit that is right as far as it goes: silver's own files are pruned, too."""
FEW = {"RETENTION": "prune", "MAX_FILES_PER_SINK": "2", "MAX_FAILURES": "3"}


class Run:
    """A service whose tables are in a bucket, behind a proxy, and what it was sent."""

    def __init__(self, service: Service, broker: KafkaBroker, bucket: Bucket, port: int) -> None:
        """The service finds the bucket at the port of the proxy. That is in this process, so reads go past it."""
        self.service, self.broker, self.bucket = service, broker, bucket
        self.sent = 0
        self._first = (time.time() // 86_400 - 1) * 86_400 + 3600  # all on one day, by which a table is divided
        with (service.feeds_path / "transactions.toml").open("a") as file:
            file.write(SINKS.format(elsewhere=self._elsewhere))
        self.ui = f"http://127.0.0.1:{(ui := free_port())}"
        options = ui_at(service, ui)
        behind = replace(bucket, endpoint=f"http://127.0.0.1:{port}")
        service.environment |= {**behind.environment, **FEW, "SPARK_SUBMIT_OPTS": options}

    def send(self) -> None:
        """Send some records; a few of them are refused, and some come twice."""
        numbers = range(self.sent, self.sent + BATCH)
        records = [transaction(number, self._first + number / 2) for number in numbers]
        refused = [(key, value[:-5], at) for key, value, at in records[:3]]
        self.broker.send(self.service.feed.topic, [*records, *refused, *records[3:6]])
        self.sent += BATCH

    def wait(self, what: str) -> None:
        """Wait until every record is in every output."""
        wait_for(lambda: self.service.has_read_all(self.broker), f"all records {what}")

    def rows(self, name: str, *columns: str) -> list[tuple[object, ...]]:
        """The rows of a table in those columns, in order."""
        found = pa.table(self._table(name).scan(columns=list(columns)).read_all())
        return sorted(zip(*(found[column].to_pylist() for column in columns), strict=True))

    def contents(self) -> dict[str, list[tuple[object, ...]]]:
        return {name: self.rows(name, *columns) for name, columns in TABLES.items()}

    def check(self, audited: int) -> str:
        """Hold the tables against the topic, their versions against their batches; the audit ends with that code."""
        topic, found = self.broker.records(self.service.feed.topic), self.contents()
        assert found["raw"] == sorted((*place, value) for place, value in topic.items())
        assert found["clean"] == [(f"t{number:08d}",) for number in range(self.sent)]
        assert len(found["cards"]) == len({*found["cards"]}) > 0, "a window is twice"
        counted = sum(int(str(count)) for (count,) in self.rows("cards", "txn_count"))
        assert counted == self.sent, "the windows do not count each row once"
        for name in TABLES:
            batches = Counter(
                (one["stream_app.query"], one["stream_app.batch"])
                for one in self._table(name).history()
                if "stream_app.batch" in one
            )
            assert set(batches.values()) == {1}, f"{name}: a batch is in several versions"
        said = self.service.op("audit", audited)
        assert "nothing lost, nothing twice" in said, said
        assert re.search(rf"^ *bronze +{len(topic):,} *$", said, re.MULTILINE), said
        assert not re.search(r"NOT AUDITED (bronze|raw):", said), said
        return said

    def _table(self, name: str) -> DeltaTable:
        root = self.bucket.root(self.service.root)
        folder = self._elsewhere if name == "cards" else f"{root.location}/transactions"
        return DeltaTable(f"{folder}/{name}", storage_options=dict(root.access.options))

    @property
    def _elsewhere(self) -> str:
        return f"s3://{self.bucket.name}/of/one"


@pytest.mark.proves("Nothing is lost and nothing is twice", "delta")
@pytest.mark.proves("A Delta table has each batch exactly once")
def test_tables_in_a_store_have_each_row_once_whatever_dies(
    broker: KafkaBroker, new_service: Callable[..., Service], gateway: Gateway, proxy: Proxy
) -> None:
    """The service dies at named points and at any, the server while it writes. Bronze's files are pruned meanwhile."""
    run = Run(service := new_service(broker), broker, gateway.bucket("kills"), proxy.port)
    for sink, point in POINTS:
        run.send()
        service.start(TRIGGER_INTERVAL="available-now", FAIL_POINT=f"transactions.{sink}:{point}")
        service.end(KILLED)
    service.start()
    run.wait("after the kills")
    gateway.kill()
    run.send()
    wait_for(lambda: proxy.faults[AWAY] > 3, "the service to miss its store")
    gateway.start()
    run.wait("once the store is there again")
    for mood in (FLAKY, LOST):
        proxy.mood = mood
        run.send()
        run.wait(f"while the store is {mood}")
    _check_that_no_secret_is_shown(run)
    proxy.mood = READ_ONLY
    run.send()
    last = ended_by(service.end(1))
    by = r"(DELTA_PATH: s3://kills/lake/tables/transactions|sinks\.cards\.location of transactions: s3://kills/of/one)"
    assert re.search(rf"{by}/\w+: PUT http://\S+/kills/(lake|of/one)/\S+: 403 ", last)
    proxy.mood = WELL
    before = len(service.log.read_bytes())
    service.start()
    wait_for(lambda: b" started " in service.log.read_bytes()[before:], "the service to start")
    run.send()
    time.sleep(1)  # the moment of the kill is the point of the test
    service.kill()
    service.drain()
    assert service.flows["bronze"].files()[0].first > 0, "no file of bronze was pruned"
    run.check(NOT_ALL)
    found = run.contents()
    said = " ".join(service.op("reset", SINK="silver", YES="1").split())
    assert "files made again from" in said, said
    service.environment["RETENTION"] = "keep"
    service.drain()
    assert run.contents() == found
    assert "NOT AUDITED silver" not in run.check(NOT_ALL), "of quarantine files are pruned still, of nothing else"
    assert not [name for name in run.bucket.names() if "_probe" in name]
    log = service.log.read_text()
    assert SECRET not in log
    assert KEY not in log
    _check_that_another_checkpoint_is_refused(run, new_service(broker, service.feed.topic), proxy.port)


def test_a_store_that_cannot_be_written_is_one_line(
    broker: KafkaBroker, new_service: Callable[..., Service], gateway: Gateway, proxy: Proxy
) -> None:
    run = Run(service := new_service(broker), broker, gateway.bucket("refusals"), proxy.port)
    right = dict(service.environment)
    asked = r"DELTA_PATH: s3://{}/\S+: [A-Z]+ http://\S+/{}/lake/\S+: {}"
    for changed, bucket, said in (
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "refusals", "403 SignatureDoesNotMatch.* look at the credentials"),
        ({"AWS_ACCESS_KEY_ID": "another"}, "refusals", "404 XAdminUserNotFound.* look at the credentials"),
        ({"DELTA_PATH": "s3://not-there/lake"}, "not-there", "404 NoSuchBucket.* make it, or name another"),
    ):
        service.environment |= right | changed
        _check_refusal(service, asked.format(bucket, bucket, said))
    service.environment |= right
    proxy.mood = READ_ONLY
    _check_refusal(service, asked.format("refusals", "refusals", "403 AccessDenied"))
    assert run.bucket.names() == []


def _check_refusal(service: Service, said: str) -> None:
    line = refusal(service)
    assert re.search(said, line)
    log = service.log.read_text()
    assert SECRET not in log
    assert KEY not in log


def _check_that_another_checkpoint_is_refused(run: Run, other: Service, port: int) -> None:
    found = run.contents()
    Run(other, run.broker, run.bucket, port)
    last = refusal(other)
    assert re.search(r"the table s3://kills/\S+ is written by another query of transactions\.\w+, of another", last)
    assert run.contents() == found


def _check_that_no_secret_is_shown(run: Run) -> None:
    """Look where others may look: the log, arguments of processes, the Spark UI, commands, what is on the disk."""
    shown = [*_command_lines(run.service), *_spark_ui(run.ui), run.service.log.read_text(), run.service.op("status")]
    assert any("SparkSubmit" in text for text in shown)
    assert sum("transactions.clean" in text for text in shown) > 2
    shown += _on_the_disk(run.service.root)
    for text in shown:
        assert SECRET not in text
        assert KEY not in text


def _on_the_disk(root: Path) -> Iterator[str]:
    """The files of a service that runs, but for those that are gone when they are read."""
    for folder, _, names in os.walk(root):
        for name in names:
            with suppress(FileNotFoundError):
                yield Path(folder, name).read_bytes().decode(errors="replace")
