"""A service that is stopped and started again goes on where it was."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path

import pytest

from stream_app.flows.flow import Flow
from stream_app.storage.batch_files import data_paths
from tests.service.harness import Service, transaction, wait_for
from tests.service.servers import KafkaBroker


@pytest.mark.proves("Nothing is lost and nothing is twice", "bronze", "quarantine", "silver", "windows", "csv")
def test_a_stop_and_a_start_mid_stream_and_a_replayed_batch_change_nothing(
    service: Service, broker: KafkaBroker
) -> None:
    """The second start is a bounded run, as a scheduler calls it: it reads what is there and ends with a verdict."""
    now = time.time()
    records = [transaction(i, now - 1200 + i * 0.6) for i in range(2000)]
    service.start()
    broker.send(service.feed.topic, records[:1000])
    wait_for(lambda: service.count("silver") >= 500, "the first rows of silver")
    log = service.stop()
    assert "stopped" in log
    before = _bytes(service)
    forgotten = {sink for sink, flow in service.flows.items() if _forget_the_last_commit(flow)}
    assert {"bronze", "silver"} <= forgotten
    broker.send(service.feed.topic, records[1000:])
    told = service.op("drain", FORMAT="json")
    sinks = {sink["sink"]: sink for sink in json.JSONDecoder().raw_decode(told)[0]}
    assert {*sinks} == {*service.flows}
    assert (sinks["bronze"]["rows"], sinks["raw_csv"]["rows"], sinks["raw_csv"]["behind"]) == (2000, 2000, 0)
    assert {path: data for path, data in _bytes(service).items() if path in before} == before
    assert Counter(map(str, service.query("SELECT txn_id FROM silver"))).most_common(1)[0][1] == 1
    assert service.count("silver") == service.count("raw_csv") == len(records)
    assert service.audit().wrong == []


def _forget_the_last_commit(flow: Flow) -> bool:
    """As of a death before it was written. Whether there was one, of the batch that was planned last."""
    last = flow.checkpoint.last_committed()
    planned = max((int(path.name) for path in (flow.checkpoint.path / "offsets").glob("[0-9]*")), default=-1)
    if last is None or last.batch_id != planned:
        return False
    (flow.checkpoint.path / "commits" / str(planned)).unlink()
    return True


def _bytes(service: Service) -> dict[Path, bytes]:
    return {path: path.read_bytes() for flow in service.flows.values() for path in data_paths(flow.layout.output)}
