"""A feed is a file: one that nobody wrote code for has its windows, its rules and its lake."""

from __future__ import annotations

from stream_app.ops.status import status
from tests.service.drained import Drained


def test_a_feed_needs_no_line_of_code(drained: Drained) -> None:
    service = drained["readings"]
    assert (service.count("silver"), service.count("quarantine"), service.count("archive")) == (525, 75, 525)
    assert service.query("SELECT sum(readings) > 300, max(warmest) FROM warmest") == [(True, 39.0)]
    assert service.audit().wrong == []


def test_totals_are_what_silver_adds_up_to(drained: Drained) -> None:
    service = drained["readings"]
    expected = "SELECT sensor, count(*), max(celsius) FROM silver GROUP BY ALL ORDER BY 2 DESC, 1 LIMIT 2"
    rows = drained.database.query("SELECT sensor, readings, warmest FROM busiest ORDER BY 2 DESC, 1")
    assert rows == service.query(expected)


def test_reference_data_is_joined_in_every_sink_and_its_snapshot_is_shown(drained: Drained) -> None:
    """A query of PostgreSQL, whose rows a batch is pinned to."""
    service = drained["readings"]
    for sink in ("silver", "archive", "archive_csv"):
        rows = service.query(f"SELECT DISTINCT sensor, place FROM {sink} ORDER BY ALL")
        assert rows == [(f"s{number}", f"room {number}") for number in range(3)], sink
    assert drained.database.query("SELECT DISTINCT place FROM readings WHERE sensor = 's1'") == [("room 1",)]
    (bronze, *_) = status(service.root, list(service.flows.values())).sinks
    assert [(one.lookup, one.rows) for one in bronze.lookups] == [("sensors", 3)]


def test_a_rule_keeps_records_out_or_warns_of_rows_in_every_sink(drained: Drained) -> None:
    service = drained["readings"]
    assert service.query("SELECT count(*) FROM quarantine WHERE reasons = ['rule:not_13']") == [(15,)]
    for sink in ("silver", "archive"):
        found = service.query(f"SELECT count(*), min(celsius) FROM {sink} WHERE warnings = ['not_hot']")
        assert found == [(75, 35.0)], sink
        assert service.query(f"SELECT count(*) FROM {sink} WHERE warnings = []") == [(450,)], sink
    assert service.query("SELECT count(*) FROM archive_csv WHERE warnings = '[\"not_hot\"]'") == [(75,)]
    rows = drained.database.query("SELECT count(*) FROM readings WHERE warnings @> '[\"not_hot\"]'")
    assert rows == [(75,)]
    assert {"archive_csv", "archive"} <= service.audit().counts.keys()
