"""How fresh the files are: `python -m tests.bench.latency [records/s ...]`, by default 100 and 2,000.

A real broker, a real service with a 1-second trigger. A record's latency is the time from its Kafka timestamp to the
rename that made its file visible; a window's in gold, from the moment at which it may be final (its end and the
feed's watermark) to that. The first records, sent while the JVM warms up, are not counted.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

import duckdb
from confluent_kafka import Producer

from stream_app.flows.flow import Flow
from stream_app.storage.row_counts import csv_dialect
from tests.service.harness import broker_and_service, transaction, wait_for
from tests.service.servers import KafkaBroker

WARM_UP_SECONDS, MEASURED_SECONDS = 60, 60
HISTORY_SECONDS = 420


class Sender(threading.Thread):
    """Sends records at a steady rate, each with the present as its Kafka timestamp and as its event time."""

    def __init__(self, kafka: KafkaBroker, topic: str, rate: int) -> None:
        super().__init__(daemon=True)
        self.ended = threading.Event()
        self._topic, self._rate = topic, rate
        self._producer = Producer({"bootstrap.servers": kafka.address, "enable.idempotence": True, "linger.ms": 5})

    def run(self) -> None:
        """Send until `ended` is set."""
        started, sent = time.time(), 0
        while not self.ended.wait(0.01):
            due = int((time.time() - started) * self._rate)
            for number in range(sent, due):
                key, value, at = transaction(1_000_000 + number, time.time())
                self._producer.produce(self._topic, value, key=key, timestamp=at)
            sent = due
            self._producer.poll(0)
        self._producer.flush(30)


def measure(rate: int) -> dict[str, dict[str, float]]:
    """Run the service at that rate; the percentiles in seconds by sink."""
    with broker_and_service() as (kafka, service):
        service.environment |= {"RETENTION": "keep"}
        now = time.time()
        history = [transaction(i, now - HISTORY_SECONDS + i) for i in range(HISTORY_SECONDS)]
        kafka.send("transactions", history)
        service.start()
        wait_for(lambda: service.root.exists() and service.count("raw_csv") == HISTORY_SECONDS, "the history")
        sender = Sender(kafka, "transactions", rate)
        sender.start()
        time.sleep(WARM_UP_SECONDS)
        begin = time.time()
        time.sleep(MEASURED_SECONDS)
        end = time.time()
        sender.ended.set()
        sender.join()
        wait_for(lambda: service.has_read_all(kafka), "the rest")
        service.stop()
        return {layer: _percentiles(flow, begin, end) for layer, flow in service.flows.items()}


def _percentiles(flow: Flow, begin: float, end: float) -> dict[str, float]:
    """p50, p95, p99 and the number of rows that fell due between `begin` and `end`."""
    seconds: list[float] = []
    for file in flow.files():
        visible = file.path.stat().st_ctime
        seconds += [visible - due for due in _due(flow, file.path) if begin <= due < end]
    ordered = sorted(seconds) or [float("nan")]
    found = {f"p{p}": round(ordered[len(ordered) * p // 100], 2) for p in (50, 95, 99)}
    return found | {"rows": len(seconds)}


def _due(flow: Flow, path: Path) -> list[float]:
    match flow.sink:
        case "raw_csv":
            read = f"read_csv('{path}', all_varchar = true, {csv_dialect([path])})"
            times = f"epoch(event_time::TIMESTAMPTZ) FROM {read}"
        case "gold":
            watermark = flow.feed.windows[flow.kind.name].watermark.total_seconds()
            times = f"epoch(window_end) + {watermark} FROM read_parquet('{path}')"
        case _:
            times = f"epoch(kafka_ts) FROM read_parquet('{path}')"
    with duckdb.connect() as database:
        return [float(row[0]) for row in database.execute(f"SELECT {times}").fetchall()]


def main(arguments: list[str]) -> None:
    """Print a JSON object for each rate."""
    for rate in map(int, arguments or ("100", "2000")):
        print(json.dumps({"records_per_second": rate, "seconds": measure(rate)}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
