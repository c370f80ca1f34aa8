"""The input: one topic on a broker of our own, filled once by the project's own producer at full speed.

The producer sends it as history: HISTORY of Kafka timestamps, evenly spread, as fast as it can, and stops at the
count. Live traffic at full speed would span a minute, and no window of gold would become final; this way all but the
last six of sixty do, for each contender. About one record in a hundred is bad: broken in thirteen ways, late or future.
Repeats come on top, for whoever removes them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from stream_app.settings import PROJECT, Settings
from tests.bench.contenders import FEED, Topic
from tests.ports import free_port
from tests.service.servers import KafkaBroker

HISTORY = timedelta(hours=1)
SEED = 1
SHARES = {"BAD_SHARE": "0.006", "LATE_SHARE": "0.002", "FUTURE_SHARE": "0.002", "REPEAT_SHARE": "0.003"}
FEWEST_BATCHES = 4


@contextmanager
def filled(folder: Path, records: int) -> Iterator[Topic]:
    """A broker that holds the topic, as long as the block lasts.

    Batches are of the service's default size, or a fourth of the records where these are too few for four of that.
    """
    kafka = KafkaBroker(folder, free_port())
    kafka.start()
    try:
        kafka.create_topic(FEED)
        _produce(kafka.address, records)
        os.sync()  # or the first contender would wait for the disk, too
        default = int(Settings.model_fields["max_offsets_per_trigger"].default)
        yield Topic(kafka.address, records, min(default, -(-records // FEWEST_BATCHES)))
    finally:
        kafka.stop()


def _produce(servers: str, records: int) -> None:
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": servers,
        "KAFKA_SECURITY_PROTOCOL": "PLAINTEXT",
        "KAFKA_TOPIC": FEED,
        "KAFKA_COMPRESSION": "lz4",
        "SEED": str(SEED),
        "COUNT": str(records),
        "BACKFILL": f"{HISTORY.total_seconds():.0f} seconds",
        # the density of the history; one record more than the count, so that nothing of it is sent live
        "MSGS_PER_SEC": repr((records + 1) / HISTORY.total_seconds()),
        **SHARES,
    }
    subprocess.run([sys.executable, "-m", "producer"], cwd=PROJECT, env=os.environ | environment, check=True)
