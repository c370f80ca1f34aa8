"""Topic sinks and the size of records: what the topic takes goes through, what it refuses does not stop the others."""

from __future__ import annotations

import json
import re

import pytest

from tests.service.drained import BYTES, Drained
from tests.service.harness import Service
from tests.service.servers import KafkaBroker


@pytest.fixture(scope="module")
def service(drained: Drained) -> Service:
    return drained["sizes"]


@pytest.mark.proves("Large records go through", "bronze", "silver", "topic")
def test_large_records_go_where_they_are_taken(broker: KafkaBroker, service: Service, drained: Drained) -> None:
    assert service.count("silver") == len(BYTES)
    taken = [json.loads(value) for value in broker.records("sizes-takes").values()]
    sizes = {row["id"]: len(row["text"]) for row in taken}
    assert sizes == {row[0]: row[1] for row in service.query("SELECT id, length(text) FROM silver")}
    assert len(taken) == len(BYTES), "each once"
    left_out = {f"{number:05d}" for number in (1, 4, 5)}
    ids = [json.loads(value)["id"] for value in broker.records("sizes-refuses").values()]
    assert sorted(ids) == sorted(sizes.keys() - left_out)

    log = drained.log
    told = re.findall(r"sizes.refuses: topic \S+ refused a record of topic (\S+) partition=(\d+) offset=(\d+)", log)
    stood = service.query(f'SELECT topic, partition, "offset" FROM silver WHERE id IN {tuple(sorted(left_out))}')
    assert sorted(told) == sorted((str(topic), str(partition), str(offset)) for topic, partition, offset in stood)
    assert re.search(r"bytes=80\d{5} cause=MSG_SIZE_TOO_LARGE limit=1040000", log), log
    rows = json.loads(service.op("status", FEED="sizes", FORMAT="json"))
    (status,) = [row for row in rows if row["sink"] == "refuses"]
    assert (status["refused"], status["restarts"], status["last_error"]) == (3, 0, "")
    assert service.audit().wrong == []
