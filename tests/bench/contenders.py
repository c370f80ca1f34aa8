"""Who takes part: how each is started, on which settings, and which files it leaves.

Each reads the whole topic once, at most `batch` records at a time, on two cores, and writes five outputs to
`<folder>/output/transactions/<layer>/`; names that begin with an underscore or a dot are its own affair.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stream_app.settings import PROJECT, Settings
from stream_app.storage.batch_files import data_paths

FEED = "transactions"
CORES = 2
SHUFFLE_PARTITIONS, HEAP = (
    str(Settings.model_fields[name].default) for name in ("spark_sql_shuffle_partitions", "spark_driver_memory")
)


@dataclass(frozen=True)
class Topic:
    """What all contenders read: a topic named FEED on that broker."""

    servers: str
    records: int
    batch: int
    """At most so many records in a batch (maxOffsetsPerTrigger)."""


@dataclass(frozen=True)
class Start:
    """One contender's command and the environment that it gets beside our own."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]


def service(topic: Topic, output: Path) -> Start:
    """(a) The service as people run it; what is not set here is as the environment and `.env` have it."""
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": topic.servers,
        "KAFKA_SECURITY_PROTOCOL": "PLAINTEXT",
        "FEEDS": FEED,
        "OUTPUT_PATH": str(output),
        "TRIGGER_INTERVAL": "available-now",
        "MAX_OFFSETS_PER_TRIGGER": str(topic.batch),
        "SPARK_MASTER": f"local[{CORES}]",
        "SPARK_SQL_SHUFFLE_PARTITIONS": SHUFFLE_PARTITIONS,
        "SPARK_DRIVER_MEMORY": HEAP,
        "LOG_FORMAT": "text",
    }
    return Start("service", (sys.executable, "-m", "stream_app"), environment)


def baseline(topic: Topic, output: Path) -> Start:
    """(b) What tutorials teach (baseline.py), by spark-submit with the same jars, cores and heap."""
    jars = sorted((PROJECT / ".jars" / "spark").glob("*.jar"))
    options = {"spark.sql.shuffle.partitions": SHUFFLE_PARTITIONS, "spark.sql.session.timeZone": "UTC"}
    command = [str(Path(sys.executable).with_name("spark-submit")), "--master", f"local[{CORES}]"]
    command += ["--driver-memory", HEAP, "--jars", ",".join(map(str, jars))]
    command += [part for key, value in options.items() for part in ("--conf", f"{key}={value}")]
    command += [str(PROJECT / "tests" / "bench" / "baseline.py"), topic.servers, str(output), str(topic.batch)]
    environment = {"PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}
    return Start("baseline", tuple(command), environment)


def limit(topic: Topic, output: Path) -> Start:
    """(c) What the machine can do (limit.py)."""
    command = (sys.executable, "-m", "tests.bench.limit", topic.servers, str(output), str(topic.batch))
    return Start("limit", command, {"POLARS_MAX_THREADS": str(CORES)})


LAYERS = ("bronze", "quarantine", "silver", "gold", "raw_csv")


def files(output: Path) -> dict[str, list[Path]]:
    """The files that a reader of each output sees."""
    return {layer: data_paths(output / FEED / layer) for layer in LAYERS}
