"""The broker or the room on the disk is gone for a while: the service goes on, and nothing is lost."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.service.harness import Service, wait_for
from tests.service.servers import KafkaBroker
from tests.service.watch import fill, get, send, status

UNENDING = {"MAX_FAILURES": "1000"}


def test_a_disk_that_is_full_before_the_start_is_one_line(service: Service, small_disk: Path) -> None:
    service.root = small_disk
    (service.root / "transactions").mkdir()
    fill(small_disk / "ballast")
    for told in (service.drain(expected=1), service.op("reset", expected=1, YES="1")):
        assert "Traceback" not in told
        line = told.splitlines()[-1]
        assert f": OUTPUT_PATH: {service.root}" in line
        assert line.endswith(": No space left on device")
    (small_disk / "ballast").unlink()
    service.drain()


def test_a_full_disk_is_survived(service: Service, broker: KafkaBroker, small_disk: Path) -> None:
    port = free_port()
    service.root = small_disk / "output"
    service.environment |= UNENDING
    ballast = small_disk / "ballast"
    service.start(METRICS_PORT=str(port))
    send(broker, service, 0, 100)
    wait_for(lambda: service.count("raw_csv") == 100, "the first records")
    fill(ballast)
    send(broker, service, 100, 20_000)
    wait_for(lambda: "No space left" in status(service, "bronze")["last_error"], "the status to say why")
    wait_for(lambda: "No space left" in get(port, "healthz")[1], "bad health, and why")
    ballast.unlink()
    wait_for(lambda: service.count("raw_csv") == 20_100, "everything to arrive")
    wait_for(lambda: get(port, "healthz")[0] == 200, "good health again")
    wait_for(lambda: status(service, "bronze")["last_error"] == "", "the status to be good again")
    service.stop()
    assert service.audit().wrong == []


def test_a_broker_that_goes_away_and_comes_back(
    tmp_path_factory: pytest.TempPathFactory, new_service: Callable[..., Service]
) -> None:
    kafka = KafkaBroker(tmp_path_factory.mktemp("own-broker"), free_port())
    kafka.start()
    try:
        service = new_service(kafka)
        service.start()
        send(kafka, service, 0, 100)
        wait_for(lambda: service.count("raw_csv") == 100, "the first records")
        kafka.stop()
        time.sleep(60)  # the minute that MAX_FAILURES must bear by default
        kafka.start()
        send(kafka, service, 100, 100)
        wait_for(lambda: service.count("raw_csv") == 200, "the records after the outage", 400)
        service.stop()
        assert service.audit().wrong == []
    finally:
        kafka.stop()
