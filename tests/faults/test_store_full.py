"""The local disk is full, or the store is, while tables are in a store: all wait for room, and nothing is lost.

Checkpoints, bronze and files in the making are on the disk; a batch of a table needs room there and in the store.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from stream_app.storage.row_counts import count_rows
from tests.faults.test_store_service import TABLES, Run
from tests.service.harness import Service, wait_for
from tests.service.servers import KafkaBroker
from tests.service.watch import fill, status
from tests.store_servers import AWAY, FULL, OVER_QUOTA, WELL, Gateway, Proxy

UNENDING = {"MAX_FAILURES": "1000", "RETENTION": "compact"}


@pytest.mark.proves("Nothing is lost and nothing is twice", "delta")
@pytest.mark.proves("A Delta table has each batch exactly once")
def test_a_full_disk_and_a_full_store_are_waited_for(
    broker: KafkaBroker, new_service: Callable[..., Service], gateway: Gateway, proxy: Proxy, small_disk: Path
) -> None:
    run = Run(service := new_service(broker), broker, gateway.bucket("full"), proxy.port)
    service.root, service.environment = small_disk / "output", service.environment | UNENDING
    service.start()
    run.send()
    run.wait("while there is room")
    _fill_the_disk(run, small_disk / "ballast")
    _fill_the_disk_under_the_tables(run, gateway, proxy, small_disk / "ballast")
    for mood, said in ((FULL, "507 "), (OVER_QUOTA, "403 QuotaExceeded")):
        proxy.mood = mood
        run.send()
        for name in TABLES:
            named_by = r"sinks\.cards\.location of transactions" if name == "cards" else "DELTA_PATH"
            line = rf"{named_by}: s3://full/\S+/{name}: PUT http\S+: {said}.*the store is full"
            _wait_for_error(service, name, line)
        if mood == FULL:  # a batch that could not be put is put by the next process
            service.kill()
            proxy.mood = WELL
            service.start()
        proxy.mood = WELL
        run.wait(f"once the store is no longer {mood}")
    service.stop()
    run.check(0)


def _fill_the_disk(run: Run, ballast: Path) -> None:
    """Have no room for anything; what waits dies, too."""
    fill(ballast)
    run.send()
    _wait_for_error(run.service, "bronze", "No space left")
    run.service.kill()
    ballast.unlink()
    run.service.start()
    run.wait("once the disk has room")


def _fill_the_disk_under_the_tables(run: Run, gateway: Gateway, proxy: Proxy, ballast: Path) -> None:
    """Have no room for files in the making alone: the tables fell behind while the store was away."""
    gateway.kill()
    run.send()
    wait_for(lambda: _rows_of_silver(run.service) == run.sent, "silver to have all")
    wait_for(lambda: proxy.faults[AWAY] > 3, "the tables to miss their store")
    fill(ballast)
    gateway.start()
    _wait_for_error(run.service, "raw", "No space left")
    ballast.unlink()
    run.wait("once the disk has room for the tables")


def _rows_of_silver(service: Service) -> int:
    """By its files, whatever the tables beside it can tell; -1 where a merge took one away meanwhile."""
    try:
        return sum(count_rows(file.path) for file in service.flows["silver"].files())
    except FileNotFoundError:
        return -1


def _wait_for_error(service: Service, name: str, said: str) -> None:
    wait_for(lambda: re.search(said, status(service, name)["last_error"]), f"the status of {name} to say: {said}")
