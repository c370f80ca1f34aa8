"""One Spark session for all tests of a process, with the settings that the service runs with; no Kafka."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from pyspark.sql import SparkSession

from stream_app.admission.admit import Admission
from stream_app.kafka.broker import Broker
from stream_app.observe.samples import Samples
from stream_app.runtime import jvm
from stream_app.runtime.pipeline import Pipeline
from stream_app.runtime.submit import class_path_option
from stream_app.settings import PROJECT, PYTHON_START, Settings
from tests.service.fixtures import class_archive_path
from tests.service.harness import taken_from


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    with running(tmp_path_factory.mktemp("spark")) as session:
        yield session


@contextmanager
def running(scratch: Path) -> Iterator[SparkSession]:
    """local[2] with conf/spark-defaults.conf, which spark-submit reads when pyspark starts the JVM through it."""
    archive = class_archive_path()
    kept = [taken_from(archive)] if archive.exists() else []
    options = [jvm.log_option(PROJECT / "conf" / "log4j2.properties"), class_path_option(), *kept]
    environment = {
        "SPARK_CONF_DIR": str(PROJECT / "conf"),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_LOCAL_DIRS": str(scratch),
        "SPARK_SUBMIT_OPTS": " ".join(options),
        "PYSPARK_PYTHON": sys.executable,
        "PYTHONPATH": f"{PROJECT}{os.pathsep}{PYTHON_START}",
    }
    # Of this JVM's start alone: what a test starts meanwhile has Spark's own settings, and may have classes of its own.
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        session = (
            SparkSession.builder.master("local[2]")
            .config("spark.ui.enabled", "false")
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
    gateway.proc.wait(300)


def pipeline_of(spark: SparkSession, settings: Settings) -> Pipeline:
    """The pipeline that the service has, without a broker, which only bronze asks."""
    fails = settings.fail_on_data_loss
    admission = Admission(cast(Broker, None), fail_on_data_loss=fails, has_database=bool(settings.database_url))
    samples, begins_at = Samples(settings.show_previews), settings.starting_offsets
    return Pipeline(spark, admission, settings.servers, settings.trigger, samples, starting_offsets=begins_at)
