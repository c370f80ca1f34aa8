"""How fast the API is: the three sales answers over 10,000,000 rows of silver, cached and not, then held for a minute.

    python -m tests.bench.api_speed [rows] [seconds] [sales/s]

Beside it a real broker, a real service and a real producer run, with a batch a second, so no answer is cached for
longer. With 0 sales a second there is none of them, and the tables get a batch a second from here. While the rate is
held, 200 streams of events are open and read. It takes some four minutes, and says of each goal whether it was met. The
goals are about a machine that has nothing else to do: each figure has the load beside it.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from tests.api_process import ApiProcess
from tests.bench.api_outputs import START, of_a_service, written
from tests.bench.http_load import Answered, listening, load

PATHS = ("/api/aggregated_sales", "/api/top_products", "/api/hourly_sales")
RATE, STREAMS, CONNECTIONS = 500, 200, 32
CACHED_MS, MADE_MS, MOST_MIB = 20, 150, 400
_TICKS = os.sysconf("SC_CLK_TCK")


class Meter:
    """What the process of the API has used."""

    def __init__(self, pid: int) -> None:
        self._stat, self._status = Path(f"/proc/{pid}/stat"), Path(f"/proc/{pid}/status")

    def cpu(self) -> float:
        fields = self._stat.read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def memory(self) -> tuple[int, int]:
        """MiB now, and at most so far."""
        lines = dict(line.split(":", 1) for line in self._status.read_text().splitlines())
        return int(lines["VmRSS"].split()[0]) >> 10, int(lines["VmHWM"].split()[0]) >> 10


@dataclass
class Bench:
    """Asks the API, prints what it took, and keeps what was a goal."""

    port: int
    meter: Meter
    has_service: bool
    missed: list[str] = field(default_factory=list)

    def goal(self, what: str, is_met: bool) -> None:
        print(f"{'met   ' if is_met else 'MISSED'} {what}", flush=True)
        self.missed += [] if is_met else [what]

    def timed(self, what: str, asking: Callable[[], Awaitable[Answered]]) -> tuple[Answered, float]:
        """Have it asked; what came of it, and its p99 in milliseconds."""
        cpu, began = self.meter.cpu(), time.perf_counter()
        found = asyncio.run(_awaited(asking))
        spent, took = sorted(found.seconds), time.perf_counter() - began
        cpu = self.meter.cpu() - cpu
        p99 = spent[int(len(spent) * 0.99)] * 1e3
        used = f"CPU {cpu / len(spent) * 1e3:6.2f} ms a request, {cpu / took:.0%} of a core"
        print(
            f"{what:32} {len(spent):6} requests  p50 {statistics.median(spent) * 1e3:6.1f} ms  p99 {p99:6.1f} ms"
            f"  max {spent[-1] * 1e3:6.1f} ms  {len(spent) / found.took:6.0f}/s  {used}"
            f"  load {os.getloadavg()[0]:.1f}",
            flush=True,
        )
        assert set(found.statuses) == {200}, found.statuses
        return found, p99

    def sales(self) -> None:
        """Each answer alone, one after the other."""
        for path in PATHS:
            made = [f"{path}?limit={limit}" for limit in range(200, 400)]
            _, p99 = self.timed(f"{path} not cached", lambda made=made: load(self.port, made, 0, 1))  # type: ignore[misc]
            self.goal(f"{path} not cached: p99 of {p99:.1f} ms is under {MADE_MS}", p99 < MADE_MS)
        for path in PATHS:
            same = [path] * 2000
            _, p99 = self.timed(f"{path} cached", lambda same=same: load(self.port, same, 0, 1))  # type: ignore[misc]
            self.goal(f"{path} cached: p99 of {p99:.1f} ms is under {CACHED_MS}", p99 < CACHED_MS)
        until = START.date() + timedelta(days=29)
        spans = [f"{PATHS[0]}?from={START.date()}T{hour:02}:00:00&to={until}" for hour in range(20)]
        self.timed("aggregated_sales of four weeks", lambda: load(self.port, spans, 0, 1))

    def held(self, seconds: int) -> None:
        """The rate, with streams of events beside it."""
        told: list[int] = []

        async def asked() -> Answered:
            streams = await listening(self.port, STREAMS)
            before = [stream.events for stream in streams]
            paths = [PATHS[number % len(PATHS)] for number in range(RATE * seconds)]
            found = await load(self.port, paths, RATE, CONNECTIONS)
            told[:] = [stream.events - had for stream, had in zip(streams, before, strict=True) if stream.is_open]
            return found

        found, _ = self.timed(f"{RATE} a second, {STREAMS} streams", asked)
        rate = len(found.seconds) / found.took
        self.goal(f"{RATE} requests/s for {seconds} s: {rate:.1f} were answered", rate >= RATE * 0.99)
        self.goal(
            f"{STREAMS} streams of events: {len(told)} are open, each was told {min(told, default=0)} events or more",
            len(told) == STREAMS and (min(told) >= seconds / 2 or not self.has_service),
        )


async def _awaited(asking: Callable[[], Awaitable[Answered]]) -> Answered:
    return await asking()


@contextmanager
def _served(root: Path, *, has_service: bool) -> Iterator[Bench]:
    api = ApiProcess(root, {"FEEDS": "sales"})
    api.start()
    try:
        assert api.process
        yield Bench(api.port, Meter(api.process.pid), has_service)
    finally:
        assert api.end() == 0


def main() -> int:
    """Print each figure, then whether all goals were met: 1 where one was not."""
    rows, seconds, rate = (
        int(sys.argv[1 + n]) if len(sys.argv) > 1 + n else default for n, default in enumerate((10_000_000, 60, 20))
    )
    began = time.perf_counter()
    with of_a_service(rows, rate) if rate else written(rows) as root:
        what = f"a service that takes {rate} sales/s" if rate else "no service"
        took = time.perf_counter() - began
        print(f"{rows:,} rows of silver, {what} beside the API, after {took:.0f} s", flush=True)
        with _served(root, has_service=rate > 0) as bench:
            bench.sales()
            bench.held(seconds)
            now, most = bench.meter.memory()
            bench.goal(f"memory: at most {most} MiB (now {now}) is under {MOST_MIB}", most < MOST_MIB)
    print(f"all goals met: {'no' if bench.missed else 'yes'}, after {time.perf_counter() - began:.0f} s")
    return 1 if bench.missed else 0


if __name__ == "__main__":
    sys.exit(main())
