"""One Spark session for all tests of this folder, with the settings that the service runs with; no Kafka."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from pyspark.sql import DataFrame, SparkSession

from stream_app.admission.admit import Admission
from stream_app.feeds.feed import Feed
from stream_app.flows.flow import Layer, flows
from stream_app.kafka.broker import Broker
from stream_app.runtime.pipeline import Pipeline
from stream_app.settings import PROJECT, PYTHON_START
from stream_app.sinks.batch import Written
from tests.helpers import UNUSUAL, app_settings


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """local[2] with conf/spark-defaults.conf, which spark-submit reads when pyspark starts the JVM through it."""
    scratch = tmp_path_factory.mktemp("spark")
    environment = {
        "SPARK_CONF_DIR": str(PROJECT / "conf"),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_LOCAL_DIRS": str(scratch),
        "PYSPARK_PYTHON": sys.executable,
        "PYTHONPATH": f"{PROJECT}{os.pathsep}{PYTHON_START}",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        session = (
            SparkSession.builder.master("local[2]")
            .config("spark.ui.enabled", "false")
            .config("spark.driver.extraClassPath", str(PROJECT / ".jars" / "spark" / "*"))
            .config("spark.sql.shuffle.partitions", "2")
            .config("spark.sql.warehouse.dir", str(scratch / "warehouse"))
            .getOrCreate()
        )
        assert session.conf.get("spark.app.name") == "kafka-medallion", "conf/spark-defaults.conf was not loaded"
        yield session
        gateway = cast(Any, session.sparkContext._gateway)
        session.stop()
        gateway.shutdown()  # or its JVM lives for as long as pytest does
        gateway.proc.stdin.close()
        gateway.proc.wait(30)


class Service:
    """The pipeline over one output folder, and drains of single flows: what is there is read, then the query ends."""

    def __init__(self, spark: SparkSession, feed: Feed, root: Path) -> None:
        self.spark = spark
        self.flows = {flow.layer: flow for flow in flows([feed], root)}
        self.root = root

    def drain(self, layer: Layer, after: Callable[[int], None] = lambda _: None, **settings: Any) -> list[Written]:
        """Run one flow until it has taken everything, as TRIGGER_INTERVAL=available-now does; `after` each batch."""
        flow, batches = self.flows[layer], list[Written]()
        drains = app_settings(self.root, trigger_interval="available-now", **settings)
        pipeline = Pipeline(self.spark, Admission(cast(Broker, None), drains), drains)  # only bronze asks a broker

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
