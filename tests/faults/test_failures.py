"""A query that fails again and again ends the service; what it could not write comes with the next start."""

from __future__ import annotations

from tests.service.harness import Service
from tests.service.servers import KafkaBroker
from tests.service.watch import obstacle, send


def test_a_query_that_fails_again_and_again_ends_the_process(service: Service, broker: KafkaBroker) -> None:
    send(broker, service, 0, 50)
    service.drain()
    obstacle(service).mkdir()
    send(broker, service, 50, 50)
    service.start(MAX_FAILURES="3", FAIL_POINT="none")  # a slow machine may fail once to start a source
    log = service.end(expected=1)
    assert "transactions.raw_csv failed 3 times in a row" in log.splitlines()[-1]
    obstacle(service).rmdir()
    service.drain()
    assert service.count("raw_csv") == 100
