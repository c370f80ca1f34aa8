"""Whether what a run needs is there: brokers, topics, Spark, room on the disks. It changes nothing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from stream_app.errors import ConfigError, StreamAppError
from stream_app.kafka.broker import Broker
from stream_app.kafka.connection import KafkaConnection
from stream_app.runtime import submit
from stream_app.settings import SparkOptions

_MEGABYTE = 1 << 20


@dataclass(frozen=True)
class Needed:
    """What must be there."""

    topics: Sequence[str]
    brokers: int
    """How many brokers must be up."""
    free_megabytes: int
    """How much room each of the folders must have."""


@dataclass(frozen=True)
class Checked:
    """One thing that was looked at."""

    name: str
    is_there: bool
    is_final: bool
    """Whether it is wrong until somebody sets it right: a later try would find the same."""
    sentence: str


def preflight(
    kafka: KafkaConnection, spark: SparkOptions, folders: dict[str, Path], needed: Needed
) -> tuple[Checked, ...]:
    """Look at everything, whatever is missing. `folders` are by the setting that names them."""
    return (*_of_kafka(kafka, needed), _of_spark(spark), *_of_disks(folders, needed.free_megabytes))


def _of_kafka(kafka: KafkaConnection, needed: Needed) -> Iterator[Checked]:
    try:
        broker = Broker(kafka, named_by="--topics")
        up = broker.nodes()
    except StreamAppError as error:
        yield _missing("brokers", error)
        return
    enough = up >= needed.brokers
    found = f"{up} of {needed.brokers} are up at {kafka.bootstrap_servers}"
    yield Checked("brokers", enough, is_final=False, sentence=found)
    for name in needed.topics:
        try:
            topic = broker.topic(name)
        except StreamAppError as error:
            yield _missing(f"topic {name}", error)
        else:
            yield Checked(f"topic {name}", True, is_final=False, sentence=f"{len(topic.partitions)} partitions")


def _of_spark(spark: SparkOptions) -> Checked:
    try:
        submit.command(spark, "text")
    except StreamAppError as error:
        return _missing("Spark", error)
    return Checked("Spark", True, is_final=False, sentence=f"starts at {spark.master}")


def _of_disks(folders: dict[str, Path], free_megabytes: int) -> Iterator[Checked]:
    for setting, folder in folders.items():
        there = next(one for one in (folder, *folder.parents) if one.exists())
        free = shutil.disk_usage(there).free // _MEGABYTE
        sentence = f"{free:,} MB free at {there}, {free_megabytes:,} are needed"
        yield Checked(setting, free >= free_megabytes, is_final=False, sentence=sentence)


def _missing(name: str, error: StreamAppError) -> Checked:
    return Checked(name, False, is_final=isinstance(error, ConfigError), sentence=str(error))
