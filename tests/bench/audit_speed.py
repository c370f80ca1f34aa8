"""How long `make audit` takes: `python -m tests.bench.audit_speed [RECORDS]`, 10,000,000 by default.

A topic of an hour's history with bad, late and repeated records, drained by the service; then the audit, three times,
each in a process of its own, as make starts it. Goal: under four minutes on two quiet cores.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from stream_app.settings import PROJECT
from tests.bench.contenders import FEED
from tests.bench.topic import filled
from tests.service.harness import Service, jvm_options

ROUNDS = 3


def measure(records: int, folder: Path) -> list[float]:
    """Seconds of each audit."""
    with filled(folder / "broker", records) as topic:
        service = Service(folder / "output", PROJECT / "conf" / "feeds", topic.servers, jvm_options(folder / "run"))
        try:
            say(f"draining {records:,} records")
            service.start(TRIGGER_INTERVAL="available-now")
            assert service.process
            assert service.process.wait() == 0, service.log.read_text()[-2000:]  # however long that takes
        finally:
            service.kill()
        seconds = []
        for _ in range(ROUNDS):
            started = time.monotonic()
            print(service.op("audit"))
            seconds.append(round(time.monotonic() - started, 1))
            say(f"{FEED} audited in {seconds[-1]} s")
        return seconds


def say(progress: str) -> None:
    print(time.strftime("%H:%M:%S"), progress, file=sys.stderr, flush=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        found = measure(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000, Path(name))
    print(f"make audit: {', '.join(map(str, found))} s")
