"""What `make audit` takes: `python -m tests.bench.audit_speed [RECORDS] [ROUNDS] [FOLDER]`.

A topic of 10,000,000 records, an hour's history with bad, late and repeated ones, drained by the service; then the
audit, three times, each in a process of its own, as make starts it. Goal: under four minutes on two quiet cores, so
480 CPU-seconds where others use them too. With a folder the outputs stay there, and the next run audits what it finds.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from stream_app.settings import PROJECT
from tests.bench.contenders import FEED
from tests.bench.meter import measured
from tests.bench.topic import filled
from tests.service.harness import Service, jvm_options


def measure(records: int, rounds: int, folder: Path) -> Iterator[str]:
    """Yield what each audit took."""
    output, log = folder / "output", folder / "audit.log"
    if not output.exists():
        _drain(records, folder)
    settings = {"OUTPUT_PATH": str(output), "FEEDS": FEED, "TMPDIR": str(folder)}
    for _ in range(rounds):
        usage = measured([sys.executable, "-m", "stream_app", "audit"], settings, log)
        if usage.exit_code:
            sys.exit(f"exit {usage.exit_code}\n{log.read_text()[-4000:]}")
        seconds, memory = usage.ended - usage.began, usage.peak_bytes / (1 << 20)
        yield f"{seconds:.1f} s, {usage.cpu_seconds:.0f} CPU-seconds, {memory:,.0f} MiB"
    print(log.read_text())


def _drain(records: int, folder: Path) -> None:
    with filled(folder / "broker", records) as topic:
        service = Service(folder / "output", PROJECT / "conf" / "feeds", topic.servers, jvm_options(folder / "run"))
        try:
            say(f"draining {records:,} records")
            service.start(TRIGGER_INTERVAL="available-now")
            assert service.process
            assert service.process.wait() == 0, service.log.read_text()[-2000:]  # however long that takes
        finally:
            service.kill()


def say(progress: str) -> None:
    print(time.strftime("%H:%M:%S"), progress, file=sys.stderr, flush=True)


def main(records: str = "10_000_000", rounds: str = "3", folder: str = "") -> None:
    """Print what each audit took; the arguments are those of the command line."""
    with tempfile.TemporaryDirectory() as name:
        for found in measure(int(records), int(rounds), Path(folder or name)):
            say(f"make audit: {found}")


if __name__ == "__main__":
    main(*sys.argv[1:])
