"""A client's clock, which may say anything: it decides on its own records, and on nobody else's."""

import time
from collections.abc import Callable

import pyarrow.parquet as pq
import pytest

from tests.service.harness import Service, transaction
from tests.service.servers import KafkaBroker

# 2030-01-01T00:00:00.000616Z in microseconds, once those of a timestamp 585,000 years ago have wrapped.
WRAPS_MS, WRAPPED = -18_444_850_617_709_551, "2030-01-01T00:00:00.000616Z"
OUTSIDE_MS = [-9_223_372_036_854_776, -62_135_596_900_000]
MINUTE, HOUR = 60, 3600


@pytest.mark.proves("A client's clock decides on its own records alone, except in a backlog")
def test_no_client_s_clock_stops_or_silences_the_service(
    broker: KafkaBroker, new_service: Callable[..., Service]
) -> None:
    """Of 3,600 good records each is counted, whatever comes between them; also after a reset, from merged files."""
    now = time.time()
    service = new_service(broker, MAX_FILES_PER_SINK="1")
    good = [transaction(n, now - 2 * HOUR + n * (HOUR + 50 * MINUTE) / 3600) for n in range(3600)]
    key, wraps, _ = transaction(9000, now, event_ts=WRAPPED)
    outside = [(*transaction(9001 + n, now)[:2], at) for n, at in enumerate(OUTSIDE_MS)]
    fast = transaction(9003, now + 50 * MINUTE)  # Kafka takes what is up to an hour ahead
    old = transaction(9004, -1, event_ts="1969-12-31T23:59:59Z")
    broker.send(service.feed.topic, [*good[:1200], (key, wraps, WRAPS_MS), *outside, fast, old])
    service.drain()
    broker.send(service.feed.topic, [*good[1200:], transaction(9005, time.time())])
    service.drain()
    assert_all_is_counted(service)
    bronze = service.flows["bronze"].files()
    assert [file.is_compacted for file in bronze] == [True]
    assert b"planned" in (pq.read_metadata(bronze[0].path).metadata or {})
    service.op("reset", SINK="silver", YES="1")
    service.drain()
    assert_all_is_counted(service)


def assert_all_is_counted(service: Service) -> None:
    refused = service.query("SELECT decode(value)::JSON->>'txn_id', reasons FROM quarantine ORDER BY 1")
    assert refused == [(f"t0000900{n}", ["future"]) for n in range(4)]
    assert service.query("SELECT count(*), count(DISTINCT txn_id) FROM silver") == [(3602, 3602)]
    assert service.query("SELECT sum(txn_count) FROM gold") == [(3600,)]
    assert service.query("SELECT txn_id, epoch(window_end) FROM late") == [("t00009004", 0)]
    years = service.query("SELECT min(year(kafka_ts)), count(DISTINCT year(kafka_ts)) FROM bronze")
    assert years == [(1, 3)]
    assert service.audit().wrong == []
    assert "transactions.bronze: 3,606 rows" in service.op("show")
