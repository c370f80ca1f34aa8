"""What `make etl` costs: `python -m tests.bench.etl_speed [RECORDS] [OPTION ...]`, 5,000,000 landed records by default.

Half are of user_events and half of transaction_events, over three days, with 1% bad and 1% repeats. Then the first run,
and a second one without anything new, each by a real spark-submit as make starts it, with the options that are given.
It prints what each run cost beside the goals, which are for 5,000,000 records on two quiet cores: the first run in
three minutes with 3 GiB, the second in twenty seconds. Exit 1 where one is missed.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import count, islice
from pathlib import Path

from producer.faults import Shares
from stream_app.landing.lines import Writer, encoded
from tests import landed
from tests.bench.machine import machine
from tests.bench.meter import Usage, measured

FEEDS = ("user_events", "transaction_events")
RECORDS = 5_000_000
_TEMPLATES, _PER_FILE = 20_000, 250_000
_ID = re.compile(rb"(evt|txn)_[0-9a-f]{8}")


class Wide(landed.Topic):
    """A topic whose records are copies of a few, each with an id and an offset of its own."""

    def fill(self, records: int) -> None:
        """Write files of so many records, in two partitions."""
        templates = list(self._templates())
        for partition in (0, 1):
            for first in range(0, records // 2, _PER_FILE):
                last = min(first + _PER_FILE, records // 2) - 1
                file = self.zone.file(self.now, partition, first, last)
                file.path.parent.mkdir(parents=True, exist_ok=True)
                writer = Writer(file.path)
                lines = (_line(templates, partition, offset) for offset in range(first, last + 1))
                while some := b"".join(islice(lines, 10_000)):
                    writer.write(some)
                writer.close()

    def _templates(self) -> Iterator[tuple[bytes, int]]:
        """Yield lines to fill in partition, offset and the start of the id, if there is one; and whether there is."""
        for _ in range(_TEMPLATES):
            self.now += timedelta(days=3) / _TEMPLATES
            message = self._traffic.message(int(self.now.timestamp() * 1000))
            sent = self._message(0, message.key.encode(), message.value, message.timestamp_ms)
            line = encoded([sent], int(self.now.timestamp() * 1000)).replace(b"%", b"%%")
            line = re.sub(rb'"partition":\d+,"offset":\d+', b'"partition":%d,"offset":%d', line, count=1)
            yield _ID.subn(rb"\1_%08x", line, count=1)


def _line(templates: Sequence[tuple[bytes, int]], partition: int, offset: int) -> bytes:
    same = offset - (offset % 100 == 99)  # the record before, sent again
    line, ids = templates[same * 2 % len(templates)]
    return line % (partition, offset, *[same * 2 + partition] * ids)


@dataclass(frozen=True)
class Goal:
    """What a run may cost at most."""

    run: str
    seconds: float
    gib: float

    def judge(self, used: Usage) -> tuple[bool, str]:
        """Return whether it is met, and a line that says so."""
        seconds, gib = used.ended - used.began, used.peak_bytes / 2**30
        met = seconds < self.seconds and gib < self.gib
        return met, (
            f"{self.run:<7}{seconds:6.1f} s wall of {self.seconds:.0f} {_verdict(seconds < self.seconds)}, "
            f"{gib:.2f} GiB of {self.gib:.0f} {_verdict(gib < self.gib)}, "
            f"{used.cpu_seconds:.1f} CPU-seconds, so {used.cpu_seconds / seconds:.2f} cores were busy"
        )


GOALS = (Goal("first", 180, 3), Goal("second", 20, 3))


def _verdict(is_met: bool) -> str:
    return "(met)" if is_met else "(MISSED)"


def measure(records: int, options: Sequence[str], folder: Path) -> Iterator[Usage]:
    """Yield what each run costs."""
    landed.SHARES = Shares(bad=0.01, late=0.001, future=0.001, repeated=0.01)
    for feed in FEEDS:
        Wide(feed, folder / "landing").fill(records // len(FEEDS))
    settings = {"LANDING_PATH": str(folder / "landing"), "GOLD_PATH": str(folder / "gold"), "SPARK_MASTER": "local[2]"}
    for number in count(1):
        log = folder / f"run-{number}.log"
        usage = measured([sys.executable, "-m", "stream_app", "etl", *options], settings, log)
        print(log.read_text().splitlines()[-1])
        assert usage.exit_code == 0, log.read_text()[-4000:]
        yield usage


def main(records: str = str(RECORDS), *options: str) -> int:
    """Print what each run cost; return the exit code. The arguments are those of the command line."""
    print(f"{int(records):,} records; {machine()}", flush=True)
    missed = False
    with tempfile.TemporaryDirectory(prefix="etl-speed-") as name:
        for goal, used in zip(GOALS, measure(int(records), options, Path(name)), strict=False):
            is_met, line = goal.judge(used)
            missed |= not is_met
            print(line, flush=True)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
