"""What the tests of this folder share: the pipeline, without Kafka."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from stream_app.feeds.feed import Feed
from stream_app.sinks.registry import flows
from stream_app.sinks.report import Report
from tests.helpers import UNUSUAL, app_settings
from tests.spark.session import pipeline_of


class Service:
    """The pipeline over one output folder, and drains of single flows: what is there is read, then the query ends."""

    def __init__(self, spark: SparkSession, feed: Feed, root: Path) -> None:
        self.spark = spark
        self.flows = {flow.sink: flow for flow in flows([feed], root)}
        self.root = root

    def drain(self, layer: str, after: Callable[[int], None] = lambda _: None, **settings: Any) -> list[Report]:
        """Run one flow until it has taken everything, as TRIGGER_INTERVAL=available-now does; `after` each batch."""
        flow, batches = self.flows[layer], list[Report]()
        drains = app_settings(self.root, trigger_interval="available-now", **settings)
        pipeline = pipeline_of(self.spark, drains)

        def write(frame: DataFrame, batch: int) -> None:
            batches.append(pipeline.write(flow, frame, batch))
            after(batch)

        query = pipeline.start(flow, write)
        try:
            query.processAllAvailable()
        finally:
            query.stop()
        return batches


@pytest.fixture
def service(spark: SparkSession, feed: Feed, tmp_path: Path) -> Service:
    return Service(spark, feed, tmp_path / UNUSUAL)
