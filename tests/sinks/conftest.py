"""What the tests of this folder share: a registry with one kind more, and the sink of a flow over files of silver."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from pyspark.sql import DataFrame, SparkSession

from stream_app.feeds.feed import Feed
from stream_app.feeds.parts import Total
from stream_app.feeds.sinks import SinkTable
from stream_app.flows.flow import Flow
from stream_app.ops import views
from stream_app.runtime.retention import Retention
from stream_app.settings import Settings
from stream_app.sinks import batch, kafka, late, postgres, table_writer
from stream_app.sinks.protocol import Sink, sink_of
from stream_app.sinks.registry import SINKS, flows
from stream_app.sinks.report import Report
from stream_app.storage.filesystem import Hadoop
from tests.helpers import UNUSUAL, Row, app_settings, write_planned
from tests.service.servers import Database, KafkaBroker
from tests.sinks.jsonl import JsonLinesSink
from tests.spark.session import pipeline_of
from tests.stores import Bucket

KINDS = [*SINKS, "jsonl"]
MODULES = (batch, kafka, late, postgres, table_writer)
"""Those that have points to die at."""


@pytest.fixture(scope="package", autouse=True)
def _one_kind_more() -> Iterator[None]:
    """For the tests of this folder alone: the process goes on with others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SINKS, "jsonl", JsonLinesSink)
        yield


TOTALS: dict[str, Any] = {
    "by_card": {
        "keys": ["card_id", "city"],
        "where": {"status": "approved"},
        "measures": {"total": "sum(amount)", "mean": "avg(amount)", "sales": "count", "last": "max(event_time)"},
    },
    "best": {"keys": ["merchant"], "measures": {"total": "sum(amount)"}, "top": {"by": "total", "most": 3}},
}
"""Datasets that only sinks which keep rows by key can hold."""


class Died(Exception):  # noqa: N818 - not an error: it stands for a death
    """Raised at a point instead of a SIGKILL."""


@dataclass
class Target:
    """A service's sink `x` of a dataset, and where its rows go."""

    spark: SparkSession
    broker: KafkaBroker
    settings: Settings
    flows: dict[str, Flow]
    batches: int = 0
    reports: list[Report] = field(default_factory=list)

    @property
    def flow(self) -> Flow:
        return self.flows["x"]

    @property
    def sink(self) -> Sink:
        return sink_of(self.flow)

    def write(self, rows: Sequence[Row], sink: str = "silver") -> None:
        """A batch of a dataset, as its own query would write it."""
        write_planned(self.flows[sink], self.batches, rows)
        self.batches += 1

    def declare(self, feed: Feed) -> None:
        """Have the feed file changed; the next drain is the start that finds it so."""
        changed = feed.model_copy(update={"sinks": self.flow.feed.sinks})
        self.flows = {flow.sink: flow for flow in flows([changed], self.settings.output_path, self.settings.tables)}

    def compact(self) -> None:
        """Have the files of the sink merged."""
        Retention([self.flow], Hadoop(self.spark), "compact", 2).run_once()

    def unlike_its_dataset(self) -> list[Any]:
        """What the audit finds to differ between the sink and its dataset."""
        of, compared = self.flows[self.flow.kind.name], self.sink.compared(self.flow.kind)
        if compared is None:
            return []
        with views.connected([of, self.flow]) as database:
            self.sink.copy_into(database, self.flow, self.settings.servers)
            one, other = f"(SELECT {compared[0]} FROM {of.sink})", f"(SELECT {compared[1]} FROM x)"
            differ = f"({one} EXCEPT ALL {other}) UNION ALL ({other} EXCEPT ALL {one})"
            return list(database.sql(differ).fetchall())

    def drain(self, sink: str = "x", **settings: object) -> list[Report]:
        """Run a flow until it has taken everything that is there, with those settings, too."""
        with self.running(sink, **settings) as take:
            return take()

    @contextmanager
    def running(self, sink: str = "x", **settings: object) -> Iterator[Callable[[], list[Report]]]:
        """Run a flow; what is yielded waits until it has taken everything that is there, and returns all reports."""
        flow, found = self.flows[sink], list[Report]()
        pipeline = pipeline_of(self.spark, self.settings.model_copy(update=settings))

        def write(frame: DataFrame, batch_id: int) -> None:
            found.append(pipeline.write(flow, frame, batch_id))

        def take() -> list[Report]:
            query.processAllAvailable()
            return found

        query = pipeline.start(flow, write)
        try:
            yield take
        finally:
            query.stop()

    def rows(self) -> list[dict[str, Any]]:
        """What the destination holds."""
        if self.sink.is_queryable:
            with views.connected([self.flow]) as database:
                self.sink.copy_into(database, self.flow, self.settings.servers)
                return list(database.sql("FROM x").to_arrow_table().to_pylist())
        (topic,) = self.sink.topics
        return [json.loads(value) for value in self.broker.records(topic).values()]


@pytest.fixture
def target_of(
    spark: SparkSession, broker: KafkaBroker, database: Database, feed: Feed, tmp_path: Path
) -> Callable[..., Target]:
    """Makes the sink of that kind of a dataset; in another root it is another service on the same target."""
    topic = f"out-{tmp_path.name}".replace("[", "-").replace("]", "-")[-200:]
    made: list[str] = []

    def target(
        kind: str, of: str = "silver", root: str = UNUSUAL, bucket: Bucket | None = None, **more: object
    ) -> Target:
        keys = {"kafka": {"topic": topic}, "postgres": {"table": "t"}}.get(kind, {})
        sink = SinkTable.model_validate({"of": of, "to": kind, **keys, **more})
        totals = {of: Total.model_validate(TOTALS[of])} if of in TOTALS else {}
        own = feed.model_copy(update={"sinks": {"x": sink}, "totals": totals})
        store: dict[str, Any] = {name.lower(): v for name, v in bucket.environment.items()} if bucket else {}
        settings = app_settings(
            tmp_path / root,
            trigger_interval="available-now",
            kafka_bootstrap_servers=broker.address,
            database_url=SecretStr(database.url),
            **store,
        )
        if kind == "kafka" and topic not in made:
            broker.create_topic(topic)
            made.append(topic)
        found = {flow.sink: flow for flow in flows([own], settings.output_path, settings.tables)}
        return Target(spark, broker, settings, found)

    return target


def dies_at(point: str, batch_id: int | None = None) -> Callable[..., None]:
    """What takes the place of failpoints.reach, in the driver and in tasks: that batch, or any, dies at that point."""

    def reach(_flow: str, reached: str, batch: int | None = None) -> None:
        if reached == point and batch_id in {None, batch}:
            raise Died(point)

    return reach
