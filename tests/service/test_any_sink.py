"""Datasets in sinks beside the usual ones, by declaration alone: the whole service has written all of them."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import cast

import pyarrow.dataset as ds
import pytest

from tests.service.drained import OUT, Drained
from tests.service.harness import Service
from tests.service.servers import KafkaBroker

BAD = 75
"""Of 600 readings: 60 are out of range, 15 are refused by a rule."""


@pytest.fixture(scope="module")
def service(drained: Drained) -> Service:
    return drained["readings"]


def test_quarantine_on_a_topic_is_a_dead_letter_topic(service: Service, broker: KafkaBroker) -> None:
    sent = [json.loads(value) for value in broker.records(OUT[0]).values()]
    kept = service.query('SELECT partition, "offset", value, value_text, reasons FROM quarantine ORDER BY 1, 2')
    sent.sort(key=lambda one: (one["partition"], one["offset"]))
    assert len(sent) == BAD
    assert [(one["partition"], one["offset"]) for one in sent] == [row[:2] for row in kept]
    assert [one["value"] for one in sent] == [b64encode(cast("bytes", row[2])).decode() for row in kept]
    assert [(one["value_text"], one["reasons"]) for one in sent] == [row[3:] for row in kept]


def test_windows_are_sent_once_each_when_they_are_final(service: Service, broker: KafkaBroker) -> None:
    sent = [json.loads(value) for value in broker.records(OUT[1]).values()]
    columns = ("window_start", "window_end", "sensor", "warmest", "readings")
    assert all(one.keys() == {*columns, "processing_time"} for one in sent)
    times = "strftime(window_start AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%S.%fZ')"
    kept = service.query(f"SELECT {times}, sensor, warmest, readings FROM warmest ORDER BY ALL")
    assert sorted((one["window_start"], one["sensor"], one["warmest"], one["readings"]) for one in sent) == kept
    assert len(kept) > 10


def test_bronze_in_a_lake_is_divided_by_kafka_s_time(service: Service) -> None:
    folder = service.flows["all_records"].layout.output
    rows = ds.dataset(folder, partitioning="hive", exclude_invalid_files=True).to_table()
    assert rows.num_rows == service.count("bronze") == 600
    assert {str(date) for date in rows["event_date"].unique().to_pylist()} == {
        str(day) for (day,) in service.query("SELECT DISTINCT CAST(kafka_ts AT TIME ZONE 'UTC' AS DATE) FROM bronze")
    }


def test_rows_of_records_are_in_a_table_once_each(service: Service, drained: Drained) -> None:
    places = service.query('SELECT partition, "offset", value, reasons FROM quarantine ORDER BY 1, 2')
    assert places == drained.database.query('SELECT partition, "offset", value, reasons FROM refused ORDER BY 1, 2')
    rows = drained.database.query('SELECT id, celsius, partition, "offset" FROM readings ORDER BY 1')
    assert rows == service.query('SELECT id, celsius, partition, "offset" FROM silver ORDER BY 1')
    assert len(rows) == 600 - BAD


def test_delta_tables_have_rows_open_windows_and_totals(service: Service, drained: Drained) -> None:
    silver = service.query('SELECT id, celsius, partition, "offset" FROM silver ORDER BY ALL')
    assert service.query('SELECT id, celsius, partition, "offset" FROM readings_delta ORDER BY ALL') == silver
    final = "SELECT * EXCLUDE (final) FROM warmest_now WHERE final ORDER BY ALL"
    assert service.query(final) == service.contents("warmest")
    assert service.count("warmest_now") > service.count("warmest"), "no window is open"
    totals = "SELECT sensor, readings, warmest FROM busiest_delta ORDER BY 1"
    assert service.query(totals) == drained.database.query("SELECT sensor, readings, warmest FROM busiest ORDER BY 1")
    told = json.loads(service.op("history", SINK="readings_delta", FORMAT="json"))
    committed = service.flows["readings_delta"].checkpoint.last_committed()
    assert committed
    assert told[0]["versions"][0]["batch"] == committed.batch_id


@pytest.mark.parametrize("sink", ["archive", "all_records", "records_csv", "warmest_csv", "refused_table"])
def test_what_they_hold_is_counted_and_audited(service: Service, sink: str) -> None:
    of = {"archive": "silver", "warmest_csv": "warmest", "refused_table": "quarantine"}.get(sink, "bronze")
    report = service.audit()
    assert report.wrong == []
    if sink != "refused_table":
        assert service.count(sink) == service.count(of) == report.counts[sink]
    assert "NOT AUDITED" not in str(report.not_audited)
