"""What the service costs with nothing to do, and how soon it is at work: `python -m tests.bench.idle`.

Start: seconds from the start of the process to the first batch that bronze has committed, records standing ready, on a
machine that has run it before. Idle: CPU-seconds a minute of all its processes, after the last record, with the default
trigger; those of short-lived children are those of their parents once they have ended.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from tests.service.harness import broker_and_service, transaction, wait_for

SETTLE_SECONDS, MEASURED_SECONDS = 45, 120
RECORDS = 1000
_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(session: int) -> float:
    """User and system time so far of all processes of a session, and of their children that have ended."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[3]) == session:
            ticks += sum(map(int, fields[11:15]))
    return ticks / _TICKS


def measure() -> dict[str, float]:
    """Start it, let it read what is there, and leave it alone."""
    with broker_and_service() as (kafka, service):
        now = time.time()
        kafka.send("transactions", [transaction(i, now - 600 + i / 10) for i in range(RECORDS)])
        say(f"{RECORDS:,} records stand ready; starting the service")
        started = time.monotonic()
        service.start(TRIGGER_INTERVAL="30 seconds")
        wait_for(service.flows["bronze"].checkpoint.last_committed, "the first batch")
        first = time.monotonic() - started
        say(f"the first batch after {first:.1f} s; waiting until all is read")
        wait_for(lambda: service.has_read_all(kafka), "all records")
        assert service.process
        say(f"all is read; {SETTLE_SECONDS} s to settle")
        time.sleep(SETTLE_SECONDS)
        say(f"measuring for {MEASURED_SECONDS} s")
        before, since = cpu_seconds(service.process.pid), time.monotonic()
        time.sleep(MEASURED_SECONDS)
        spent = cpu_seconds(service.process.pid) - before
        idle = spent / (time.monotonic() - since)
        service.stop()
        return {"start_seconds": round(first, 1), "idle_cpu_percent_of_a_core": round(idle * 100, 1)}


def say(progress: str) -> None:
    """A line on stderr, for who waits; stdout has the figures alone."""
    print(f"idle: {progress}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    print(json.dumps(measure()))
