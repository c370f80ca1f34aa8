"""A query that fails again and again ends the service; what it could not write comes with the next start."""

from __future__ import annotations

from tests.api_process import ApiProcess
from tests.service.harness import Service, ended_by, wait_for
from tests.service.servers import KafkaBroker
from tests.service.watch import followed, obstacle, send


def test_a_query_that_fails_again_and_again_ends_the_process(
    service: Service, broker: KafkaBroker, api: ApiProcess
) -> None:
    send(broker, service, 0, 50)
    service.drain()
    events = followed(api)
    obstacle(service).mkdir()
    send(broker, service, 50, 50)
    service.start(MAX_FAILURES="3", FAIL_POINT="none")  # a slow machine may fail once to start a source
    log = service.end(expected=1)
    assert "transactions.raw_csv failed 3 times in a row" in ended_by(log)
    wait_for(lambda: any(one["state"] == "failed" for one in events.of("state", "raw_csv")), "the end to be told")
    events.ended.set()
    assert api.end() == 0
    obstacle(service).rmdir()
    service.drain()
    assert service.count("raw_csv") == 100
