"""Lineage events of the whole service: what it told is what it wrote."""

from __future__ import annotations

import json
from typing import Any

from tests.service.drained import FEEDS, LINEAGE, Drained


def test_each_flow_was_declared_and_its_run_ended_with_the_rows_that_it_has(drained: Drained) -> None:
    service = drained[FEEDS[0]]
    told = [json.loads(line) for line in (service.root.parent / LINEAGE).read_text().splitlines()]
    by_job: dict[str, list[dict[str, Any]]] = {}
    for event in told:
        by_job.setdefault(event["job"]["name"], []).append(event)
    status = {f"{row['feed']}.{row['sink']}": row for row in json.loads(service.op("status", FORMAT="json"))}
    assert {row["feed"] for row in status.values()} == {*FEEDS}
    assert by_job.keys() == status.keys()
    for name, events in by_job.items():
        states = [one.get("eventType", "JOB") for one in events]
        assert [one for one in states if one != "RUNNING"] == ["JOB", "START", "COMPLETE"], name  # of a slow machine
    for name in ("transactions.bronze", "transactions.silver", "readings.quarantine", "readings.readings_delta"):
        (output,) = by_job[name][-1]["outputs"]
        assert output["outputFacets"]["outputStatistics"]["rowCount"] == status[name]["rows"], name
