"""Die at every named point of every sink, as by kill -9; start again: the outputs equal those of an undisturbed run."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import pytest

from stream_app.storage.batch_files import data_paths
from tests.service.harness import Service, transaction, wait_for
from tests.service.servers import KafkaBroker

POINTS = ("before_staging", "mid_staging", "staged", "renamed", "before_commit")
COMPACTION_POINTS = ("merged", "swapped", "half_deleted")
BATCH = 400
SINKS = ("bronze", "quarantine", "silver", "gold", "raw_csv")
STEPS = [*itertools.product(SINKS, POINTS), ("gold", "late_renamed")]
# By then gold's watermark has passed what is an hour old, in both runs.
FIRST_LATE_STEP = 20
COMPARED = (*SINKS, "late")
KILLED = -9


def _records(step: int, now: float) -> list[tuple[str, bytes | None, int]]:
    """One step's input: good records, repeats, bad ones; event time moves on, so that windows become final."""
    start = now - 7200 + step * 120
    records: list[tuple[str, bytes | None, int]] = []
    for i in range(BATCH):
        number = step * BATCH + i
        key, value, at = transaction(number, start + i * 0.2)
        if i % 50 == 7:
            value = value[:-5]
        if i % 50 == 9 and step >= FIRST_LATE_STEP:  # as of a partition read an hour after the others
            key, value, at = transaction(number, start + i * 0.2 - 3600)
        records.append((key, value, at))
        if i % 50 == 11:
            records.append((key, value, at + 20))
    return records


@pytest.mark.proves("Nothing is lost and nothing is twice", "bronze", "quarantine", "silver", "windows", "csv")
def test_death_at_every_point_of_every_sink_loses_and_doubles_nothing(
    broker: KafkaBroker, new_service: Callable[..., Service]
) -> None:
    disturbed, undisturbed = new_service(broker, RETENTION="keep"), new_service(broker, RETENTION="keep")
    undisturbed.start()
    now = time.time()
    for step, (sink, point) in enumerate(STEPS):
        for service in (disturbed, undisturbed):
            broker.send(service.feed.topic, _records(step, now))
        flow = f"transactions.{sink}"
        disturbed.start(TRIGGER_INTERVAL="available-now", FAIL_POINT=f"{flow}:{point}")
        disturbed.end(KILLED)
        assert disturbed.audit().wrong == [], f"after death at {flow}:{point}"
        wait_for(lambda: undisturbed.has_read_all(broker), "the undisturbed run to read all")
    disturbed.drain()
    undisturbed.stop()
    undisturbed.drain()  # the last windows, if the stop came before their batch, which has no data
    for service in (disturbed, undisturbed):
        assert service.audit().wrong == []
        assert not list(service.root.rglob("_staging/*")), "nothing is left in staging"
    for name in COMPARED:
        assert disturbed.count(name) > 0
        assert _comparable(disturbed, name) == _comparable(undisturbed, name), name
    _die_in_compaction(undisturbed)  # which has a file of each step in every folder


def _die_in_compaction(service: Service) -> None:
    before = {layer: service.contents(layer) for layer in COMPARED}
    service.environment |= {"MAX_FILES_PER_SINK": "4", "RETENTION": "compact"}
    for layer, point in itertools.product(SINKS, COMPACTION_POINTS):
        service.start(FAIL_POINT=f"transactions.{layer}:{point}")
        service.end(KILLED)
        assert {name: service.contents(name) for name in COMPARED} == before, f"after death at {layer}:{point}"
    service.drain()
    assert {name: service.contents(name) for name in COMPARED} == before
    for flow in service.flows.values():
        assert len(data_paths(flow.layout.output)) <= 4 + 12
    assert service.audit().wrong == []


def _comparable(service: Service, layer: str) -> list[tuple[object, ...]]:
    """The rows without the name of the topic, which the two services do not share."""
    exclude = "EXCLUDE (topic)" if layer in {"bronze", "quarantine", "silver", "late"} else ""
    return service.query(f"SELECT * {exclude} FROM {layer} ORDER BY ALL")
