"""Health, metrics and the progress reports that feed them."""

import json
import re
import time
import urllib.error
import urllib.request
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stream_app import logs
from stream_app.errors import ConfigError
from stream_app.feeds.feed import Feed
from stream_app.flows.flow import Flow
from stream_app.observe.metrics import Metrics
from stream_app.observe.monitor import Decided, FlowStatus, Monitor, State
from stream_app.observe.progress import ProgressListener
from stream_app.settings import PROJECT
from stream_app.sinks.registry import flows
from stream_app.sinks.report import REASON, UNDECLARED, WARNED, Report
from tests.ports import free_port

PATIENCE = 10.0


@pytest.fixture
def made(feed: Feed, tmp_path: Path) -> tuple[Flow, ...]:
    return flows([feed], tmp_path)


@pytest.fixture
def monitor(made: tuple[Flow, ...]) -> Monitor:
    """A service whose queries all run."""
    monitor = Monitor(made)
    for status in monitor.statuses.values():
        status.state = State.RUNNING
    return monitor


@pytest.fixture
def silver(monitor: Monitor) -> FlowStatus:
    return monitor.statuses["transactions.silver"]


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_service_that_runs_has_no_problems(monitor: Monitor) -> None:
    assert monitor.problems(PATIENCE) == {}


@pytest.mark.parametrize("state", [State.RESTARTING, State.FAILED, State.STARTING, State.RUNNING])
def test_a_query_that_failed_is_a_problem_with_its_reason(monitor: Monitor, silver: FlowStatus, state: State) -> None:
    silver.state, silver.last_error = state, "OSError: disk full"
    assert monitor.problems(PATIENCE) == {"transactions.silver": f"{state}: OSError: disk full"}


def test_a_start_that_is_refused_says_so_of_every_flow(monitor: Monitor, silver: FlowStatus) -> None:
    silver.state = State.STOPPED
    monitor.refuse("transactions.gold: begin it anew")
    assert silver.last_error == "", "its query had started"
    for status in monitor.statuses.values():
        status.state = State.STARTING
    monitor.refuse("no broker answers")
    assert {(status.state, status.last_error) for status in monitor.statuses.values()} == {
        (State.FAILED, "no broker answers")
    }


def test_a_query_without_progress_is_a_problem(monitor: Monitor, silver: FlowStatus) -> None:
    silver.progress_at = time.time() - PATIENCE - 5
    assert monitor.problems(PATIENCE) == {"transactions.silver": "no progress for 15 s"}


@pytest.mark.parametrize("state", [State.STOPPED, State.DONE])
def test_a_query_that_does_not_run_need_not_make_progress(monitor: Monitor, silver: FlowStatus, state: State) -> None:
    silver.state, silver.progress_at = state, 0
    assert monitor.problems(PATIENCE) == {}


def test_a_start_that_hangs_is_a_problem_and_one_that_waits_for_others_is_none(
    monitor: Monitor, silver: FlowStatus, made: tuple[Flow, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    silver.state, silver.progress_at = State.STARTING, 0
    monitor.starting(made[1])
    assert monitor.problems(PATIENCE) == {}
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + PATIENCE + 5)
    for status in monitor.statuses.values():
        status.progress_at = now + PATIENCE if status.state is State.RUNNING else 0
    assert set(monitor.problems(PATIENCE)) == {"transactions.quarantine", "transactions.silver"}


def test_health_readiness_and_metrics_over_http(monitor: Monitor, silver: FlowStatus) -> None:
    port = free_port()
    metrics = Metrics(monitor, PATIENCE)
    with metrics.served("127.0.0.1", port):
        assert get(port, "/healthz") == (200, '{"ok": true, "problems": {}}\n')
        assert get(port, "/readyz")[0] == 503
        assert get(port, "/other")[0] == 404

        monitor.ready = True
        silver.state, silver.last_error = State.FAILED, "OSError: disk full"
        code, body = get(port, "/healthz")
        assert (code, json.loads(body)["problems"]) == (503, {"transactions.silver": "failed: OSError: disk full"})
        assert get(port, "/readyz")[0] == 200

        with pytest.raises(ConfigError, match=f"METRICS_PORT: cannot listen on 127.0.0.1:{port}"):
            Metrics(monitor, PATIENCE).served("127.0.0.1", port).__enter__()


def test_the_docs_have_every_metric(monitor: Monitor) -> None:
    families = re.findall(r"^# TYPE stream_app_(\w+) ", Metrics(monitor, PATIENCE)._metrics()[2].decode(), re.MULTILINE)
    told = {family.removesuffix("_created") for family in families}
    assert "batches_total" in told
    docs = (PROJECT / "docs" / "operations.md").read_text().partition("\n## Metrics\n")[2].partition("\n## ")[0]
    assert told <= set(re.findall(r"\w+", docs))


def test_metrics_name_every_family_by_feed_and_sink(monitor: Monitor, silver: FlowStatus) -> None:
    silver.batches, silver.rows_in, silver.rows_out, silver.bytes = 4, 100, 90, 5000
    silver.restarts, silver.counters["repeats"], silver.watermark = 1, 10, time.time() - 60
    silver.state_rows, silver.state_bytes, silver.behind = 7, 700, {"": 2}
    monitor.statuses["transactions.bronze"].behind = {"0": 40, "2": 3}
    monitor.statuses["transactions.quarantine"].counters[f"{REASON}late"] = 3
    silver.counters[f"{WARNED}round_sums"] = 5
    monitor.statuses["transactions.bronze"].counters[f"{UNDECLARED}a.b[]"] = 4
    monitor.statuses["transactions.gold"].counters["late"] = 6
    monitor.statuses["transactions.gold"].counters["refused"] = 7
    metrics = Metrics(monitor, PATIENCE)
    metrics.observe(silver, 0.3)
    port = free_port()
    with metrics.served("127.0.0.1", port):
        text = get(port, "/metrics")[1]
    sink = 'feed="transactions",sink="silver"'
    for line in (
        f"stream_app_batches_total{{{sink}}} 4.0",
        f"stream_app_rows_in_total{{{sink}}} 100.0",
        f"stream_app_rows_out_total{{{sink}}} 90.0",
        f"stream_app_file_bytes_total{{{sink}}} 5000.0",
        f"stream_app_restarts_total{{{sink}}} 1.0",
        f"stream_app_repeats_dropped_total{{{sink}}} 10.0",
        'stream_app_rows_dropped_by_watermark_total{feed="transactions",sink="gold"} 6.0',
        f"stream_app_up{{{sink}}} 1.0",
        f"stream_app_state_rows{{{sink}}} 7.0",
        f"stream_app_state_memory_bytes{{{sink}}} 700.0",
        f"stream_app_batches_behind{{{sink}}} 2.0",
        'stream_app_records_behind{feed="transactions",partition="0",sink="bronze",topic="transactions"} 40.0',
        'stream_app_quarantined_total{feed="transactions",reason="late",sink="quarantine"} 3.0',
        'stream_app_warned_total{feed="transactions",rule="round_sums",sink="silver"} 5.0',
        'stream_app_undeclared_fields_total{feed="transactions",path="a.b[]",sink="bronze"} 4.0',
        'stream_app_records_refused_total{feed="transactions",sink="gold"} 7.0',
        'stream_app_batch_seconds_bucket{feed="transactions",le="0.5",sink="silver"} 1.0',
    ):
        assert line in text, line
    for family in ("seconds_since_progress", "watermark_seconds", "watermark_age_seconds", "last_batch_id"):
        assert f"stream_app_{family}{{{sink}}}" in text, family


def progress(name: str, batch: int, **fields: Any) -> Any:
    """A progress event as Spark 4.2 sends it, with what the service reads of it."""
    source = {"endOffset": {"batch": 4, "clock": 1}, "latestOffset": {"batch": 6, "clock": 0}, "numInputRows": 10}
    report = {
        "name": name,
        "batchId": batch,
        "timestamp": "2026-11-21T01:00:00.000Z",
        "batchDuration": 1250,
        "numInputRows": 10,
        "eventTime": {"watermark": "2026-11-21T01:00:00.000Z"},
        "stateOperators": [],
        "sources": [source],
        **fields,
    }
    return SimpleNamespace(progress=lambda: SimpleNamespace(json=lambda: json.dumps(report)))


@pytest.fixture
def listener(monitor: Monitor) -> ProgressListener:
    return ProgressListener(monitor, Metrics(monitor, PATIENCE))


def test_a_batch_is_counted_and_logged_as_one_line(
    listener: ProgressListener, silver: FlowStatus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure("json")
    (tmp_path / "file.parquet").write_bytes(b"12345")
    silver.failures, silver.last_error, silver.progress_at = 2, "OSError: disk full", 0
    gauges = {"state_rows": 7, "state_bytes": 700}
    silver.reports[3] = Report(3, 10, 8, (tmp_path / "file.parquet",), 5, {"repeats": 2}, gauges)
    listener.onQueryProgress(progress("transactions.silver", 3))
    assert (silver.batch_id, silver.batches, silver.rows_in, silver.rows_out, silver.bytes) == (3, 1, 10, 8, 5)
    assert (silver.counters["repeats"], silver.state_rows, silver.state_bytes) == (2, 7, 700)
    assert (silver.failures, silver.last_error) == (0, "")
    assert silver.watermark == 1795222800
    assert time.time() - silver.progress_at < 60
    assert silver.behind == {"": 2}
    assert silver.reports == {}
    line = json.loads(capsys.readouterr().err)
    assert {name: line[name] for name in ("message", "batch", "rows_in", "rows_out", "file", "bytes", "seconds")} == {
        "message": "transactions.silver",
        "batch": 3,
        "rows_in": 10,
        "rows_out": 8,
        "file": "file.parquet",
        "bytes": 5,
        "seconds": 1.25,
    }
    assert line["batches_behind"] == 2


def test_a_report_that_repeats_a_batch_counts_it_once(listener: ProgressListener, silver: FlowStatus) -> None:
    silver.reports[3] = Report(3, 10, 8)
    for _ in range(3):
        listener.onQueryProgress(progress("transactions.silver", 3))
    assert (silver.batches, silver.rows_in) == (1, 10)


def test_the_state_of_other_queries_is_spark_s(listener: ProgressListener, monitor: Monitor) -> None:
    gold = monitor.statuses["transactions.gold"]
    gold.reports[3] = Report(3, 8, 8)
    operators = [{"numRowsTotal": 9, "memoryUsedBytes": 900, "customMetrics": {}}]
    listener.onQueryProgress(progress("transactions.gold", 3, stateOperators=operators))
    assert (gold.state_rows, gold.state_bytes) == (9, 900)


def test_records_behind_are_told_by_partition(listener: ProgressListener, monitor: Monitor) -> None:
    source = {
        "endOffset": {"transactions": {"0": 10, "1": 5}},
        "latestOffset": {"transactions": {"0": 12, "1": 5, "2": 4}},
    }
    listener.onQueryProgress(progress("transactions.bronze", 0, sources=[source]))
    assert monitor.statuses["transactions.bronze"].behind == {"0": 2, "1": 0, "2": 4}


def test_a_batch_that_leaves_nothing_says_when_it_began(listener: ProgressListener, monitor: Monitor) -> None:
    """By that the clock of a silent feed goes on (sources/idle.py); a batch that runs again has not looked."""
    bronze, moment = monitor.statuses["transactions.bronze"], "2026-11-21T01:00:00.500Z"
    for latest in ({"transactions": {"0": 12}}, None):
        source = {"endOffset": {"transactions": {"0": 10}}, "latestOffset": latest}
        listener.onQueryProgress(progress("transactions.bronze", 0, sources=[source], timestamp=moment))
        assert bronze.read_all_at == 0
    source = {"endOffset": {"transactions": {"0": 10}}, "latestOffset": {"transactions": {"0": 10}}}
    listener.onQueryProgress(progress("transactions.bronze", 0, sources=[source], timestamp=moment))
    assert bronze.read_all_at == datetime.fromisoformat(moment).timestamp()


def test_all_is_read_up_to_when_nothing_waited_for_an_open_transaction(
    listener: ProgressListener, monitor: Monitor
) -> None:
    """Also after a start, which does not know yet what waits: a step of the clock would have such records be late."""
    bronze, moment = monitor.statuses["transactions.bronze"], "2026-11-21T01:00:00.500Z"
    began = datetime.fromisoformat(moment).timestamp()
    source = {"endOffset": {"transactions": {"0": 10}}, "latestOffset": {"transactions": {"0": 10}}}
    report = progress("transactions.bronze", 0, sources=[source], timestamp=moment)
    for decided, up_to in (
        (Decided(), 0),  # nobody has answered yet
        (Decided(began - 1, began + 1), 0),  # what was decided after the trigger looked is not read
        (Decided(began - 9, began - 8), began - 9),
        (None, began),  # read_uncommitted
    ):
        bronze.decided = decided
        listener.onQueryProgress(report)
        assert bronze.read_all_at == up_to


def test_reasons_and_late_rows_add_up(listener: ProgressListener, silver: FlowStatus) -> None:
    for batch in range(2):
        counters = {f"{REASON}late": 2, f"{REASON}empty": 1, "late": 4, "refused": 3}
        silver.reports[batch] = Report(batch, 3, 3, counters=counters)
        listener.onQueryProgress(progress("transactions.silver", batch))
    assert silver.counters == {f"{REASON}late": 4, f"{REASON}empty": 2, "late": 8, "refused": 6}


def test_an_idle_query_makes_progress_too(listener: ProgressListener, silver: FlowStatus) -> None:
    silver.progress_at, silver.failures, silver.last_error = 0, 4, "the broker was away"
    run_id = SimpleNamespace(toString=lambda: "run-1")
    moment = "2026-11-21T01:00:00.500Z"
    started = SimpleNamespace(runId=lambda: run_id, name=lambda: "transactions.silver", timestamp=lambda: moment)
    listener.onQueryStarted(started)
    listener.onQueryIdle(started)
    assert silver.read_all_at == datetime.fromisoformat(moment).timestamp()
    assert time.time() - silver.progress_at < 60
    assert (silver.failures, silver.last_error) == (0, ""), "failures are in a row no more"
    assert not listener._monitor.query_ended.is_set()
    listener.onQueryTerminated(started)
    assert listener._monitor.query_ended.is_set(), "the supervisor looks at once"
    silver.progress_at = 0
    listener.onQueryIdle(started)
    assert silver.progress_at == 0


def test_a_query_of_somebody_else_is_none_of_ours(listener: ProgressListener) -> None:
    listener.onQueryProgress(progress("other", 0))
