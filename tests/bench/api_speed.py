"""How fast the API is: the three sales answers over 10,000,000 rows of silver, cached and not, and for a minute.

    python -m tests.bench.api_speed [rows] [seconds]

Silver and the tables are written as the service writes them. While the rate is held, a batch comes each second, so no
answer is cached for longer, and 200 streams of events are open. The client has a core of its own only on an idle
machine, so each figure has the load beside it, and the CPU-seconds of the API.
"""

from __future__ import annotations

import asyncio
import os
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql.pandas.types import to_arrow_schema

from stream_app.feeds.load import load_feeds
from stream_app.flows.flow import Flow
from stream_app.settings import PROJECT
from stream_app.sinks.registry import check, flows
from stream_app.storage import parquet
from stream_app.storage.batch_files import batch_file
from tests.api_process import ApiProcess
from tests.helpers import START_MS
from tests.tables import append

PATHS = ("/api/aggregated_sales", "/api/top_products", "/api/hourly_sales")
PRODUCTS, COUNTRIES = ("Clavier", "Souris", "Ecran", "Casque", "Webcam"), ("France", "Spain", "Italy", "Germany")
RATE, STREAMS, CONNECTIONS = 500, 200, 32
_FILE_ROWS = 500_000
_START = datetime(2025, 12, 1, tzinfo=UTC)
_HOURS = 24 * 30
_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")


def silver_rows(first: int, count: int, columns: pa.Schema) -> pa.Table:
    """Sales of a month, one after the other."""
    ids = np.arange(first, first + count)
    seconds = (ids * (_HOURS * 3600) // 10_000_000).astype("timedelta64[s]")
    times = pa.array(np.datetime64(_START.replace(tzinfo=None), "us") + seconds, pa.timestamp("us", "UTC"))
    cents = pa.array([Decimal(one).scaleb(-2) for one in range(100, 100_000, 100)], pa.decimal128(18, 2))
    texts = {"produit_nom": PRODUCTS, "pays": COUNTRIES}
    made: dict[str, Any] = {
        "timestamp": times,
        "kafka_ts": times,
        "montant": cents.take(pa.array(ids % len(cents))),
        "partition": pa.array(ids % 3, pa.int32()),
        "offset": pa.array(ids // 3),
    }

    def column(field: pa.Field) -> pa.Array:
        if field.name in made:
            return made[field.name].cast(field.type)
        if pa.types.is_integer(field.type):
            return pa.array(ids % 500_000 + 1).cast(field.type)
        if pa.types.is_string(field.type):
            words = texts.get(field.name, ("one", "two", "three"))
            return pa.array(words).take(pa.array(ids // 7 % len(words)))
        return pa.nulls(count, field.type)

    return pa.table([column(field) for field in columns], columns)


def fill(made: dict[str, Flow], rows: int) -> None:
    """Write silver as compacted files, and the three tables."""
    silver = made["silver"]
    columns = to_arrow_schema(silver.kind.columns, timezone="UTC")
    silver.layout.output.mkdir(parents=True)
    for number, first in enumerate(range(0, rows, _FILE_ROWS)):
        table = silver_rows(first, min(_FILE_ROWS, rows - first), columns)
        file = batch_file(silver.layout.output, "silver", "parquet", START_MS + number * 1000, number, None)
        parquet.write(iter(table.to_batches(50_000)), columns, file.path)
    for number in range(50):
        totals(made, number)


def totals(made: dict[str, Flow], batch: int) -> None:
    """A batch of each table: what it replaces, as sums grow."""
    sums = {"total_montant": Decimal(1000 + batch), "total_quantite": 10 + batch, "nombre_ventes": batch}
    append(made["ventes_aggreges"], batch, [{"produit_nom": p, "pays": c, **sums} for p in PRODUCTS for c in COUNTRIES])
    append(made["top_produits"], batch, [{"produit_nom": product, **sums} for product in PRODUCTS])
    hour = _START + timedelta(hours=batch % _HOURS)
    hours = {"window_start": hour, "window_end": hour, "heure": hour, "final": True}
    append(made["hourly_sales"], batch, [{**hours, "total_montant": sums["total_montant"], "total_quantite": 1}])


async def ask(port: int, paths: Iterator[str], at: Callable[[], float] | None = None) -> list[float]:
    """Ask for the paths by one connection, each when it is time; the seconds that each took since then."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    took = []
    for path in paths:
        due = time.perf_counter()
        if at:
            due = at()
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]))
        took.append(time.perf_counter() - due)
    writer.close()
    return took


async def held(port: int, seconds: float) -> list[float]:
    """Ask at the rate, for so long, whatever the answers take."""
    began, asked = time.perf_counter() + 0.5, iter(range(int(RATE * seconds)))
    number = 0

    def due() -> float:
        return began + number / RATE

    def paths() -> Iterator[str]:
        nonlocal number
        for number in asked:
            yield PATHS[number % 3]

    found = await asyncio.gather(*(ask(port, paths(), due) for _ in range(CONNECTIONS)))
    return [one for took in found for one in took]


def tell(what: str, took: list[float], cpu: float) -> None:
    took = sorted(took)
    p50, p99 = statistics.median(took), took[int(len(took) * 0.99)]
    load = os.getloadavg()[0]
    print(
        f"{what:34} {len(took):6} requests  p50 {p50 * 1e3:6.1f} ms  p99 {p99 * 1e3:6.1f} ms"
        f"  max {took[-1] * 1e3:6.1f} ms"
        f"  CPU {cpu / len(took) * 1e3:5.2f} ms a request  load {load:.1f}",
        flush=True,
    )


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


@contextmanager
def batches(made: dict[str, Flow]) -> Iterator[None]:
    """A batch of each table each second, as a service brings them."""
    ended = threading.Event()

    def run() -> None:
        for number in range(50, 10_000):
            if ended.wait(1):
                return
            totals(made, number)

    thread = threading.Thread(target=run)
    thread.start()
    yield
    ended.set()
    thread.join()


def main() -> None:
    rows, seconds = (int(sys.argv[1 + n]) if len(sys.argv) > 1 + n else d for n, d in enumerate((10_000_000, 60)))
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        root = Path(name) / "out"
        feed = load_feeds(PROJECT / "conf" / "feeds", ["sales"], check)[0]
        made = {flow.sink: flow for flow in flows([feed], root)}
        began = time.perf_counter()
        fill(made, rows)
        print(f"{rows:,} rows of silver, in {time.perf_counter() - began:.0f} s", flush=True)
        api = ApiProcess(root, {"FEEDS": "sales"})
        api.start()
        assert api.process
        measure(api.port, made, Meter(api.process.pid), seconds)
        assert api.end() == 0


def measure(port: int, made: dict[str, Flow], meter: Meter, seconds: float) -> None:
    def timed(what: str, ask_all: Callable[[], Any]) -> None:
        before = meter.cpu()
        tell(what, asyncio.run(ask_all()), meter.cpu() - before)

    for path in PATHS:
        timed(f"{path} not cached", partial(ask, port, (f"{path}?limit={n}" for n in range(200, 400))))
    for path in PATHS:
        timed(f"{path} cached", partial(ask, port, iter([path] * 1000)))
    until = _START.date() + timedelta(days=29)
    spans = (f"?from={_START.date()}T{hour:02}:00:00&to={until}" for hour in range(20))
    timed("aggregated_sales of a month", partial(ask, port, (PATHS[0] + span for span in spans)))
    print(f"memory {meter.memory()} MiB", flush=True)
    streams = [socket.create_connection(("127.0.0.1", port), 30) for _ in range(STREAMS)]
    for stream in streams:
        stream.sendall(b"GET /api/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        stream.recv(1000)
    with batches(made):
        timed(f"{RATE} a second, {STREAMS} streams", lambda: held(port, seconds))
    print(f"memory {meter.memory()} MiB", flush=True)
    for stream in streams:
        stream.close()


if __name__ == "__main__":
    main()
