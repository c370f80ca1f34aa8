"""How complete an output is: the time up to which windows are final, and the newest record of each partition."""

from __future__ import annotations

import json
import uuid
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest
from prometheus_client.parser import text_string_to_metric_families

from stream_app.feeds.feed import Feed
from stream_app.feeds.load import load_feeds
from stream_app.feeds.sinks import SinkTable
from stream_app.flows.batch import planned
from stream_app.flows.completeness import complete_up_to, newest_taken
from stream_app.flows.flow import Flow
from stream_app.observe.metrics import Metrics
from stream_app.observe.monitor import Monitor
from stream_app.settings import PROJECT
from stream_app.sinks import table_writer
from stream_app.sinks.registry import check, flows
from tests.helpers import START, at, bronze_row, commit, flow_of, plan, value, write_layer
from tests.outputs import Output, Record
from tests.unit.conftest import Cli


def taken(bronze: Flow, silver: Flow, batch: int, ends: dict[int, int], *, by_silver: bool = True) -> None:
    plan(bronze, batch, {"transactions": {str(partition): end for partition, end in ends.items()}})
    commit(bronze, batch)
    if by_silver:
        plan(silver, batch, {"batch": batch})
        commit(silver, batch)


def visit(minute: int) -> bytes:
    """An event of user_activity, of a visit of its own that ends with it."""
    names = {"user_id": "u", "event_type": "session_end", "page_url": "/", "session_id": str(minute), "device": "phone"}
    times = {"event_id": str(uuid.UUID(int=minute)), "event_time": at(60 * minute).isoformat(), "country": "DE"}
    return json.dumps(names | times).encode()


@pytest.mark.proves("Outputs say how complete they are", "windows", "sessions")
@pytest.mark.parametrize(("name", "sink"), [("transactions", "gold"), ("user_activity", "user_sessions")])
def test_what_ends_by_then_is_in_the_output_and_nothing_is_added_later(name: str, sink: str, tmp_path: Path) -> None:
    (feed,) = load_feeds(PROJECT / "conf" / "feeds", [name], check)
    output = Output(feed, tmp_path)
    flow = output.flows[sink]
    assert flow.stateful
    assert complete_up_to(flow) is None
    until, finals = START - timedelta(days=1), 0
    for minute in range(12):
        record = value(minute, 60 * minute) if sink == "gold" else visit(minute)
        output.take([Record(record, at(60 * minute))], at(60 * minute + 1))
        before, until = until, complete_up_to(flow) or until
        for file in flow.files_of(minute):
            rows = duckdb.sql(f"SELECT make_timestamptz({flow.stateful.until}) FROM '{file.path}'").fetchall()
            assert all(before < ends <= until for (ends,) in rows)
            finals += len(rows)
    assert finals > 3
    assert until == at(60 * 10) - flow.stateful.watermark, "the newest event of the batches before"


def test_what_follows_windows_is_as_complete_as_the_batch_that_it_took(feed: Feed, tmp_path: Path) -> None:
    copied = feed.model_copy(update={"sinks": {"copy": SinkTable.model_validate({"of": "gold", "to": "csv"})}})
    made = {flow.sink: flow for flow in flows([copied], tmp_path)}
    for batch in range(3):
        plan(made["gold"], batch, {"batch": batch}, watermark_ms=int(at(60 * batch).timestamp() * 1000))
        commit(made["gold"], batch)
    assert complete_up_to(made["copy"]) is None
    plan(made["copy"], 0, {"batch": 1})
    commit(made["copy"], 0)
    assert (complete_up_to(made["gold"]), complete_up_to(made["copy"])) == (at(120), at(60))
    said = table_writer._says(made["copy"], planned(made["copy"], 0), 3)
    assert said["complete_up_to"] == at(60).isoformat(), "a table's commit says so, too"
    assert "complete_up_to" not in table_writer._says(made["silver"], planned(made["copy"], 0), 3)
    (made["gold"].checkpoint.path / "offsets" / "1").unlink()
    assert complete_up_to(made["copy"]) is None, "the logs no longer tell"
    assert complete_up_to(made["silver"]) is None, "rows of silver are never final"


@pytest.mark.proves("Outputs say how complete they are", "silver")
def test_silver_says_the_newest_kafka_timestamp_of_each_partition(feed: Feed, tmp_path: Path) -> None:
    bronze, silver = (flow_of(feed, sink, tmp_path) for sink in ("bronze", "silver"))
    assert newest_taken(silver) == {}
    write_layer(bronze, 0, [bronze_row(0, b"", 50, 1), bronze_row(0, b"", 10), bronze_row(1, b"", 30)], row_group=1)
    taken(bronze, silver, 0, {0: 2, 1: 1, 2: 0})
    write_layer(bronze, 1, [bronze_row(2, b"", 70)])
    taken(bronze, silver, 1, {0: 3, 1: 1, 2: 0}, by_silver=False)
    assert newest_taken(silver) == {0: at(30), 1: at(50)}, "what silver has not taken is left out"
    taken(bronze, silver, 1, {0: 3, 1: 1, 2: 0})
    assert newest_taken(silver) == {0: at(70), 1: at(50)}, "a quiet partition keeps its own"
    assert newest_taken(bronze) == {}


def test_a_table_of_silver_says_so_in_each_commit(feed: Feed, tmp_path: Path) -> None:
    """Of what it holds itself: it may be behind silver."""
    copied = feed.model_copy(update={"sinks": {"clean": SinkTable.model_validate({"of": "silver", "to": "delta"})}})
    made = {flow.sink: flow for flow in flows([copied], tmp_path)}
    bronze, silver, clean = made["bronze"], made["silver"], made["clean"]
    for batch in range(3):
        write_layer(bronze, batch, [bronze_row(batch, b"", 10 * batch, batch % 2)])
        taken(bronze, silver, batch, {0: batch // 2 + 1, 1: (batch + 1) // 2})
    plan(clean, 0, {"batch": 1})
    said = table_writer._says(clean, planned(clean, 0), 2)
    assert json.loads(said["newest_taken"]) == {"0": at(0).isoformat(), "1": at(10).isoformat()}
    plan(clean, 1, {"batch": 2})
    assert json.loads(table_writer._says(clean, planned(clean, 1), 1)["newest_taken"])["0"] == at(20).isoformat()
    assert "newest_taken" not in table_writer._says(made["gold"], planned(clean, 0), 2)
    (silver.checkpoint.path / "offsets" / "1").unlink()
    assert "newest_taken" not in table_writer._says(clean, planned(clean, 0), 2), "the log no longer tells"
    write_layer(bronze, 3, [bronze_row(3, b"", 30)]).path.write_bytes(b"no Parquet")
    taken(bronze, silver, 3, {0: 3, 1: 1})
    plan(clean, 2, {"batch": 3})
    assert "newest_taken" not in table_writer._says(clean, planned(clean, 2), 1), "a batch does not fail for it"


def test_a_partition_that_had_no_record_since_the_service_began_is_looked_for_in_no_file(
    feed: Feed, tmp_path: Path
) -> None:
    """Each scrape of the metrics would read all that bronze holds."""
    bronze, silver = (flow_of(feed, sink, tmp_path) for sink in ("bronze", "silver"))
    first = bronze.checkpoint.path / "sources" / "0" / "0"
    first.parent.mkdir(parents=True)
    first.write_text('v1\n{"transactions": {"0": 0, "1": 7}}')
    for batch in range(2):
        write_layer(bronze, batch, [bronze_row(batch, b"", 10 * batch)])
        taken(bronze, silver, batch, {0: batch + 1, 1: 7})
    bronze.files()[0].path.write_bytes(b"would raise where it is read")
    assert newest_taken(silver) == {0: at(10)}


def test_status_and_metrics_say_so_and_a_damaged_file_ends_neither(feed: Feed, tmp_path: Path, cli: Cli) -> None:
    output = Output(feed, tmp_path)
    for minute in range(8):
        output.take([Record(value(minute, 60 * minute), at(60 * minute))], at(60 * minute + 1))
    gold = complete_up_to(output.flows["gold"])
    assert gold
    said = {row["sink"]: row for row in json.loads(cli(tmp_path, "status", "--format=json").out)}
    assert said["gold"]["complete_up_to"] == "2026-11-21T01:01:00Z"
    assert said["silver"]["newest_taken"] == {"0": "2026-11-21T01:07:00Z"}
    assert "2026-11-21 01:01:00" in cli(tmp_path, "status").out

    metrics = Metrics(Monitor(tuple(output.flows.values())), 10)
    families = text_string_to_metric_families(metrics._metrics()[2].decode())
    samples = [one for family in families for one in family.samples]
    found = {(one.name, one.labels.get("sink"), one.labels.get("partition")): one.value for one in samples}
    assert found["stream_app_complete_up_to_seconds", "gold", None] == gold.timestamp()
    assert found["stream_app_newest_taken_seconds", "silver", "0"] == at(420).timestamp()

    output.take([Record(value(8, 480), at(480))], at(481))
    output.flows["bronze"].files()[-1].path.write_bytes(b"no Parquet")
    assert metrics._metrics()[0] == 200
    assert cli(tmp_path, "status", "--format=json").code == 0
