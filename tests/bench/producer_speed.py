"""How fast the producer makes and sends messages: `python -m tests.bench.producer_speed [host:port [topic]]`.

Without a broker's address it measures generation, faults and encoding; with one, also publishing with gzip and lz4
to a topic that must exist. Run it under `taskset -c 0` to see what one core does.
"""

import os
import subprocess
import sys
import time

from producer.events import source
from producer.faults import Shares, Traffic

MESSAGES = 300_000


def generated_per_second() -> float:
    traffic = Traffic(source("transactions", 1), Shares(0.003, 0.002, 0.001, 0.003), 1)
    started, first_ms = time.perf_counter(), time.time_ns() // 1_000_000
    for number in range(MESSAGES):
        traffic.message(first_ms + number // 30)
    return MESSAGES / (time.perf_counter() - started)


def totals_of_publishing(brokers: str, topic: str, compression: str) -> str:
    settings = {
        "KAFKA_BOOTSTRAP_SERVERS": brokers,
        "KAFKA_TOPIC": topic,
        "KAFKA_COMPRESSION": compression,
        "MSGS_PER_SEC": "0",
        "COUNT": str(MESSAGES),
        "BACKFILL": "0",
    }
    command = [sys.executable, "-m", "producer"]
    run = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, check=True)
    return run.stdout.splitlines()[-1]


def main(arguments: list[str]) -> None:
    sys.stdout.write(f"generation: {generated_per_second():,.0f} messages/s\n")
    if arguments:
        brokers, topic = arguments[0], arguments[1] if len(arguments) > 1 else "transactions"
        for compression in ("gzip", "lz4"):
            sys.stdout.write(f"publishing, {compression}: {totals_of_publishing(brokers, topic, compression)}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
