"""A run of the sales feed: reference data, totals and five Delta tables."""

from __future__ import annotations

import shutil
from pathlib import Path

from stream_app.settings import PROJECT
from tests.service.harness import Service, produce, quick
from tests.service.servers import KafkaBroker

TABLES = ("ventes_raw", "ventes_clean", "ventes_aggreges", "top_produits", "hourly_sales")


def sold(broker: KafkaBroker, class_archive: Path, folder: Path, count: int) -> Service:
    """A service that has read what the producer of sales sent, in several batches."""
    feeds = folder / "feeds"
    feeds.mkdir()
    shutil.copy(PROJECT / "conf" / "feeds" / "sales.toml", feeds)
    shutil.copytree(PROJECT / "conf" / "reference", folder / "reference")
    environment = quick(folder, class_archive) | {"FEEDS": "sales", "MAX_OFFSETS_PER_TRIGGER": "1000"}
    service = Service(folder / "out", feeds, broker.address, environment, "sales")
    broker.create_topic("ventes_stream")
    shares = {"BAD_SHARE": "0.05", "LATE_SHARE": "0.02", "FUTURE_SHARE": "0.02", "REPEAT_SHARE": "0.03"}
    produce(service, COUNT=str(count), SEED="7", MSGS_PER_SEC="0.28", BACKFILL="3 hours", **shares)
    try:
        service.drain()
    finally:
        service.kill()
    return service
