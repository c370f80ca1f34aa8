"""[FEED=] python -m stream_app.ops.topics - create the topics of FEEDS, and KAFKA_TOPIC, where they are missing.

What Compose runs once before the service. A topic that exists is left as it is.
"""

from __future__ import annotations

import os
import time

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from stream_app.errors import StreamAppError
from stream_app.flows.flow import Flow
from stream_app.kafka.broker import PARTITIONS, create_missing
from stream_app.kafka.client import client_config
from stream_app.ops.command import run
from stream_app.settings import Settings

_PATIENCE_SECONDS = 60.0


def topics(settings: Settings, flows: tuple[Flow, ...]) -> int:
    """Create them, once a broker answers. Raises StreamAppError where none does in time, or refuses."""
    wanted = {topic for flow in flows for topic in flow.feed.all_topics} | {
        os.environ.get("KAFKA_TOPIC", "").strip()
    } - {""}
    admin = AdminClient(client_config(settings.kafka) | {"log_level": 0})  # 0: no line for each try to connect
    created = create_missing(admin, _existing(admin, settings.kafka_bootstrap_servers), sorted(wanted))
    for topic in sorted(wanted):
        print(f"topic {topic}: {f'created, {PARTITIONS} partitions' if topic in created else 'is there'}")
    return 0


def _existing(admin: AdminClient, servers: str) -> set[str]:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return set(admin.list_topics(timeout=2).topics)
        except KafkaException as error:
            if time.monotonic() > deadline:
                problem = f"KAFKA_BOOTSTRAP_SERVERS: no answer from {servers} ({error.args[0].str()})"
                raise StreamAppError(problem) from None


if __name__ == "__main__":
    run("topics", topics)
