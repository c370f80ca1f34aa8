"""What the API is measured over: sales of a service that runs beside it, or written here, with many rows of silver."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql.pandas.types import to_arrow_schema

from stream_app.feeds.load import load_feeds
from stream_app.flows.flow import Flow
from stream_app.settings import PROJECT
from stream_app.sinks.registry import check, flows
from stream_app.storage import parquet
from stream_app.storage.batch_files import batch_file
from tests.helpers import START_MS
from tests.ports import free_port
from tests.service.harness import Service, jvm_options, wait_for
from tests.service.servers import KafkaBroker
from tests.tables import append

START = datetime(2025, 12, 1, tzinfo=UTC)
PRODUCTS, COUNTRIES = ("Clavier", "Souris", "Ecran", "Casque", "Webcam"), ("France", "Spain", "Italy", "Germany")
_HOURS = 24 * 30
_AT_ONCE = 500_000


def silver_rows(first: int, count: int, columns: pa.Schema) -> pa.Table:
    """Sales of a month, one after the other."""
    ids = np.arange(first, first + count)
    seconds = (ids * (_HOURS * 3600) // 10_000_000).astype("timedelta64[s]")
    times = pa.array(np.datetime64(START.replace(tzinfo=None), "us") + seconds, pa.timestamp("us", "UTC"))
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


def _batches(rows: int, columns: pa.Schema) -> Iterator[pa.RecordBatch]:
    for first in range(0, rows, _AT_ONCE):
        yield from silver_rows(first, min(_AT_ONCE, rows - first), columns).to_batches(50_000)


@contextmanager
def of_a_service(rows: int, rate: int) -> Iterator[Path]:
    """The outputs of a real service that takes so many sales a second, with a batch a second.

    Its first file of silver has been replaced by one with so many rows, once all that follow silver had taken it.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as name, ExitStack() as running:
        folder = Path(name)
        kafka = KafkaBroker(folder / "broker", free_port())
        running.callback(kafka.stop)
        kafka.start()
        kafka.create_topic("ventes_stream")
        environment = jvm_options(folder / "run") | {"RETENTION": "keep"}
        root = folder / "run" / "out"
        service = Service(root, PROJECT / "conf" / "feeds", kafka.address, environment, "sales")
        running.callback(service.kill)
        service.start()
        settings = {"KAFKA_BOOTSTRAP_SERVERS": kafka.address, "KAFKA_TOPIC": "ventes_stream", "MSGS_PER_SEC": str(rate)}
        producer = subprocess.Popen(
            [sys.executable, "-m", "producer", "--feed", "sales"],
            cwd=PROJECT,
            env=os.environ | settings | {"BACKFILL": "2 hours", "KAFKA_SECURITY_PROTOCOL": "PLAINTEXT"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        running.callback(producer.wait)
        running.callback(producer.terminate)
        made = service.flows
        wait_for(lambda: all(_is_taken(made, one) for one in made.values()), "the first batch of each flow", 150)
        _fill(made["silver"], rows, folder)
        yield root
        assert service.process
        assert service.process.poll() is None, service.log.read_text()[-2000:]


def _is_taken(made: dict[str, Flow], flow: Flow) -> bool:
    """Whether it has the first file of silver, where it follows that."""
    if flow.upstream is not made["silver"]:
        return flow.checkpoint.last_committed() is not None
    files = flow.upstream.files()
    return bool(files) and flow.taken_up_to() >= files[0].last


def _fill(silver: Flow, rows: int, folder: Path) -> None:
    first = silver.files()[0].path
    columns, target = pq.read_schema(first), folder / "silver.parquet"
    parquet.write(_batches(rows, columns), columns, target)
    target.replace(first)


@contextmanager
def written(rows: int) -> Iterator[Path]:
    """Outputs without a service: silver as compacted files, and tables to which a batch comes each second."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        root = Path(name) / "out"
        feed = load_feeds(PROJECT / "conf" / "feeds", ["sales"], check)[0]
        made = {flow.sink: flow for flow in flows([feed], root)}
        silver = made["silver"]
        columns = to_arrow_schema(silver.kind.columns, timezone="UTC")
        silver.layout.output.mkdir(parents=True)
        file = batch_file(silver.layout.output, "silver", "parquet", START_MS, 0, None)
        parquet.write(_batches(rows, columns), columns, file.path)
        for number in range(50):
            _total(made, number)
        ended = threading.Event()
        thread = threading.Thread(target=_go_on, args=(made, ended))
        thread.start()
        try:
            yield root
        finally:
            ended.set()
            thread.join()


def _go_on(made: dict[str, Flow], ended: threading.Event) -> None:
    number = 50
    while not ended.wait(1):
        _total(made, number)
        number += 1


def _total(made: dict[str, Flow], batch: int) -> None:
    """A batch of each table: the sums in the place of those before."""
    sums = {"total_montant": Decimal(1000 + batch), "total_quantite": 10 + batch, "nombre_ventes": batch}
    of = [{"produit_nom": product, "pays": country, **sums} for product in PRODUCTS for country in COUNTRIES]
    append(made["ventes_aggreges"], batch, of, replace=True)
    append(made["top_produits"], batch, [{"produit_nom": product, **sums} for product in PRODUCTS], replace=True)
    hour = START + timedelta(hours=batch % _HOURS)
    hours = {"window_start": hour, "window_end": hour, "heure": hour, "final": True}
    sold = {**hours, "total_montant": sums["total_montant"], "total_quantite": 1}
    append(made["hourly_sales"], batch, [sold], replace=batch % 24 > 0)
