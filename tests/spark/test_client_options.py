"""What is handed to Kafka's Java client is what that client has and takes, by its own word."""

from __future__ import annotations

import re
from typing import Any

from py4j.java_gateway import get_field
from pyspark.sql import SparkSession

from stream_app.kafka import options

_LARGEST = {"INT": 2**31 - 1, "LONG": 2**63 - 1}
# Java has nothing where librdkafka has `none`, and takes any text.
_OURS = {"ssl.endpoint.identification.algorithm": "https|none"}


def _known(spark: SparkSession) -> dict[str, str]:
    """Each option of the clients that Spark's source makes, and what it may be, as options.JAVA says it."""
    jvm: Any = spark._jvm
    clients = jvm.org.apache.kafka.clients
    found: dict[str, str] = {}
    for config in (clients.admin.AdminClientConfig, clients.consumer.ConsumerConfig):
        keys = config.configDef().configKeys()
        for name in keys:
            kind, validator = (get_field(keys[name], field) for field in ("type", "validator"))
            found[name] = _spec(kind.toString(), validator.toString() if validator else "")
    return found


def _spec(kind: str, validator: str) -> str:
    listed = re.fullmatch(r"(\(case insensitive\) )?\[(.*)\]", validator)
    bounds = listed[2].split(",...") if listed and ",..." in listed[2] else []
    if kind == "BOOLEAN":
        return "true|false"
    if bounds or kind in _LARGEST:
        least, most = bounds or [str(-_LARGEST[kind] - 1), ""]
        return f"{least}..{most.lstrip(',') or _LARGEST[kind]}"
    if listed:
        names = listed[2].lower() if listed[1] else listed[2]
        return "|".join(sorted(names.split(", ")))
    return "text"


def test_each_option_of_java_s_client_is_handed_on_as_it_takes_it_or_refused(spark: SparkSession) -> None:
    known = _known(spark)
    assert {name: known[name] for name in options.JAVA} | _OURS == options.JAVA
    assert not {name for name in known.keys() - options.JAVA.keys() if not list(options.problems({name: ""}))}
