"""A run of the sales feed: reference data, totals and five Delta tables; the feeds of the batch path beside it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from stream_app.settings import PROJECT
from tests.service.harness import Service, produce, quick
from tests.service.servers import KafkaBroker

TABLES = ("ventes_raw", "ventes_clean", "ventes_aggreges", "top_produits", "hourly_sales")
COUNT = 3_000
"""Records of each feed of the shop."""


def sold(broker: KafkaBroker, class_archive: Path, folder: Path, count: int, *others: str) -> Service:
    """A service that has read what the producers of sales and of other feeds sent, in several batches."""
    names = ("sales", *others)
    feeds = folder / "feeds"
    feeds.mkdir()
    shutil.copytree(PROJECT / "conf" / "reference", folder / "reference")
    environment = quick(folder, class_archive) | {"FEEDS": ",".join(names), "MAX_OFFSETS_PER_TRIGGER": "1000"}
    service = Service(folder / "out", feeds, broker.address, environment, "sales")
    shares = {"BAD_SHARE": "0.05", "LATE_SHARE": "0.02", "FUTURE_SHARE": "0.02", "REPEAT_SHARE": "0.03"}
    for name in names:
        shutil.copy(PROJECT / "conf" / "feeds" / f"{name}.toml", feeds)
        one = replace(service, feed_name=name)
        broker.create_topic(one.feed.topic)
        produce(one, COUNT=str(count), SEED="7", MSGS_PER_SEC="0.28", BACKFILL="3 hours", **shares)
    try:
        service.drain()
    finally:
        service.kill()
    return service


@pytest.fixture(scope="session")
def shop(broker: KafkaBroker, class_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Service]:
    """By feed, what a service has made of the shop's three topics. Nobody changes it."""
    others = ("user_events", "transaction_events")
    sales = sold(broker, class_archive, tmp_path_factory.mktemp("shop"), COUNT, *others)
    return {"sales": sales} | {name: replace(sales, feed_name=name) for name in others}
