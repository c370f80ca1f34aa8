"""What an engineer on call does and sees: failures, health, metrics, replay, reset."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient
from prometheus_client.parser import text_string_to_metric_families

from local.ports import any_free
from stream_app.flows.flow import Layer
from tests.service.harness import Service, transaction, wait_for
from tests.service.servers import PARTITIONS, KafkaBroker

UNENDING = {"MAX_FAILURES": "1000"}


def _get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def _send(broker: KafkaBroker, service: Service, first: int, count: int) -> None:
    now = time.time()
    broker.send(service.feed.topic, [transaction(first + i, now - count * 0.1 + i * 0.1) for i in range(count)])


def test_a_failing_sink_is_restarted_alone_and_shows_in_health_metrics_and_status(
    service: Service, broker: KafkaBroker
) -> None:
    port = any_free()
    obstacle = _obstacle(service)
    for sink in service.flows:  # which nobody reads back, or the first records would be passed over
        _set_group_offsets(broker.admin, service, sink, 20)
    settings = {"LOG_FORMAT": "json", "COMMIT_GROUP_OFFSETS": "1", "SHOW_PREVIEWS": "1", **UNENDING}
    options = f"{service.environment['SPARK_SUBMIT_OPTS']} -Dspark.ui.port={(ui := any_free())}"
    service.start(METRICS_PORT=str(port), SPARK_SUBMIT_OPTS=options, **settings)
    wait_for(lambda: _get(port, "readyz")[0] == 200, "readiness")
    _send(broker, service, 0, 100)
    asked = 0

    def has_come_all_the_same() -> bool:  # no sink is restarted by that, as is shown below
        nonlocal asked
        asked += _ask_for_an_end(ui)
        return service.count("raw_csv") == 100

    wait_for(has_come_all_the_same, "the first records, though Spark's UI is asked to kill what reads them")
    assert asked
    now = time.time()
    broker.send(service.feed.topic, [("k", b"no json", int(now * 1000)), transaction(0, now), transaction(1, now)])
    assert _get(port, "healthz")[0] == 200

    obstacle.mkdir()
    _send(broker, service, 100, 100)
    wait_for(lambda: _get(port, "healthz")[0] == 503, "bad health")
    wait_for(lambda: service.count("silver") == 200, "the other sinks to go on")
    problems = json.loads(_get(port, "healthz")[1])["problems"]
    assert list(problems) == ["transactions.raw_csv"]
    # the table is of up to a second ago
    wait_for(lambda: _status(service, "raw_csv")["restarts"] >= 1, "the restart to show in the status")
    assert _status(service, "raw_csv")["last_error"]
    assert _status(service, "silver")["state"] == "running"
    obstacle.rmdir()
    wait_for(lambda: service.count("raw_csv") == 200, "the sink to recover")
    wait_for(lambda: _get(port, "healthz")[0] == 200, "good health again")

    wait_for(lambda: _metrics(port)["stream_app_rows_out_total", "raw_csv"] >= 200, "the CSV's rows in the metrics")
    metrics = _metrics(port)
    for sink in service.flows:
        assert metrics["stream_app_up", sink] == 1
        assert metrics["stream_app_batches_total", sink] == metrics["stream_app_batch_seconds_count", sink] > 0
        assert metrics["stream_app_seconds_since_progress", sink] < 600
        assert (metrics["stream_app_restarts_total", sink] > 0) == (sink == Layer.RAW_CSV)
    assert metrics["stream_app_rows_in_total", "silver"] == metrics["stream_app_rows_out_total", "bronze"] == 203
    assert metrics["stream_app_rows_out_total", "silver"] == metrics["stream_app_state_rows", "silver"] == 200
    assert metrics["stream_app_repeats_dropped_total", "silver"] == 2
    assert (
        metrics["stream_app_quarantined_total", "quarantine"] == metrics["stream_app_rows_out_total", "quarantine"] == 1
    )
    assert metrics["stream_app_records_behind", "bronze"] == 0
    assert metrics["stream_app_file_bytes_total", "bronze"] == sum(
        f.path.stat().st_size for f in service.flows[Layer.BRONZE].files()
    )
    assert metrics["stream_app_watermark_age_seconds", "gold"] > 300
    for sink in service.flows:
        wait_for(partial(_has_mirrored, broker.admin, service, sink, 203), f"the mirrored offsets of {sink}")
    # but for the JVM's own first words
    log = [json.loads(line) for line in service.stop(signal.SIGINT).splitlines() if "incubator modules" not in line]
    assert {"transactions.silver", "transactions.silver preview"} <= {entry["message"] for entry in log}
    assert service.audit().wrong == []


def _ask_for_an_end(ui: int) -> int:
    """Ask Spark's UI by a GET to kill what runs, as a link would; how many jobs and stages that were."""
    (app,) = json.loads(_get(ui, "api/v1/applications")[1])
    asked = 0
    for kind, status, key in (("jobs", "running", "jobId"), ("stages", "active", "stageId")):
        for running in json.loads(_get(ui, f"api/v1/applications/{app['id']}/{kind}?status={status}")[1]):
            _get(ui, f"{kind}/{kind[:-1]}/kill/?id={running[key]}&terminate=true")
            asked += 1
    return asked


def _obstacle(service: Service) -> Path:
    """Where a folder makes each batch of the CSV fail, whatever a restart clears away."""
    return service.flows[Layer.RAW_CSV].checkpoint.path / ".last_file.tmp"


def _status(service: Service, sink: str) -> dict[str, Any]:
    rows: list[dict[str, Any]] = json.loads(service.op("status", FORMAT="json"))
    return next(row for row in rows if row["sink"] == sink)


def _metrics(port: int) -> dict[tuple[str, str], float]:
    """The sum of each sample's values, by its name and sink."""
    found: dict[tuple[str, str], float] = defaultdict(float)
    for family in text_string_to_metric_families(_get(port, "metrics")[1]):
        for sample in family.samples:
            found[sample.name, sample.labels["sink"]] += sample.value
    return found


def _has_mirrored(admin: AdminClient, service: Service, sink: str, records: int) -> bool:
    group = f"stream-app.transactions.{sink}"
    answer = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group].result()
    mirrored = sum(max(0, tp.offset) for tp in answer.topic_partitions if tp.topic == service.feed.topic)
    return bool(mirrored == records)


def _set_group_offsets(admin: AdminClient, service: Service, sink: str, offset: int) -> None:
    group = f"stream-app.transactions.{sink}"
    asked = [TopicPartition(service.feed.topic, partition, offset) for partition in range(PARTITIONS)]
    admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, asked)])[group].result()


def test_a_query_that_fails_again_and_again_ends_the_process(service: Service, broker: KafkaBroker) -> None:
    _send(broker, service, 0, 50)
    service.drain()
    _obstacle(service).mkdir()
    _send(broker, service, 50, 50)
    service.start(MAX_FAILURES="3", FAIL_POINT="none")  # a slow machine may fail once to start a source
    log = service.end(expected=1)
    assert "transactions.raw_csv failed 3 times in a row" in log.splitlines()[-1]
    _obstacle(service).rmdir()
    service.drain()
    assert service.count("raw_csv") == 100


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _fill(ballast: Path) -> None:
    with ballast.open("wb") as file, suppress(OSError):
        while True:
            file.write(bytes(64 << 10))
            file.flush()


def test_a_disk_that_is_full_before_the_start_is_one_line(service: Service, small_disk: Path) -> None:
    service.root = small_disk
    (service.root / "transactions").mkdir()
    _fill(small_disk / "ballast")
    for told in (service.drain(expected=1), service.op("reset", expected=1, YES="1")):
        assert "Traceback" not in told
        line = told.splitlines()[-1]
        assert f": OUTPUT_PATH: {service.root}" in line
        assert line.endswith(": No space left on device")
    (small_disk / "ballast").unlink()
    service.drain()


def test_a_full_disk_is_survived(service: Service, broker: KafkaBroker, small_disk: Path) -> None:
    port = any_free()
    service.root = small_disk / "output"
    service.environment |= UNENDING
    ballast = small_disk / "ballast"
    service.start(METRICS_PORT=str(port))
    _send(broker, service, 0, 100)
    wait_for(lambda: service.count("raw_csv") == 100, "the first records")
    _fill(ballast)
    _send(broker, service, 100, 20_000)
    wait_for(lambda: "No space left" in _status(service, "bronze")["last_error"], "the status to say why")
    wait_for(lambda: "No space left" in _get(port, "healthz")[1], "bad health, and why")
    ballast.unlink()
    wait_for(lambda: service.count("raw_csv") == 20_100, "everything to arrive")
    wait_for(lambda: _get(port, "healthz")[0] == 200, "good health again")
    wait_for(lambda: _status(service, "bronze")["last_error"] == "", "the status to be good again")
    service.stop()
    assert service.audit().wrong == []


def test_a_broker_that_goes_away_and_comes_back(
    tmp_path_factory: pytest.TempPathFactory, new_service: Callable[..., Service]
) -> None:
    kafka = KafkaBroker(tmp_path_factory.mktemp("own-broker"), any_free())
    kafka.start()
    try:
        service = new_service(kafka)
        service.start()
        _send(kafka, service, 0, 100)
        wait_for(lambda: service.count("raw_csv") == 100, "the first records")
        kafka.stop()
        time.sleep(60)  # the minute that MAX_FAILURES must bear by default
        kafka.start()
        _send(kafka, service, 100, 100)
        wait_for(lambda: service.count("raw_csv") == 200, "the records after the outage", 400)
        service.stop()
        assert service.audit().wrong == []
    finally:
        kafka.stop()


def test_a_bounded_run_reads_what_is_there_and_ends_with_a_verdict(service: Service, broker: KafkaBroker) -> None:
    """What a scheduler calls: each run goes on from where the last one ended."""
    _send(broker, service, 0, 100)
    told = service.op("drain", FORMAT="json")
    sinks = {sink["sink"]: sink for sink in json.JSONDecoder().raw_decode(told)[0]}
    assert {*sinks} == {*service.flows}
    assert (sinks["bronze"]["rows"], sinks["raw_csv"]["rows"], sinks["raw_csv"]["behind"]) == (100, 100, 0)
    _send(broker, service, 100, 50)
    told = service.op("drain", FEED="transactions")
    assert "all is read" in told.splitlines()
    assert service.count("raw_csv") == 150
    told = service.op("drain", expected=2, FEED="nothing")
    assert told.count("\n") == 1


def test_replay_takes_what_passes_now_once(service: Service, broker: KafkaBroker) -> None:
    now = time.time()
    records: list[tuple[str, bytes | None, int]] = []
    for i in range(300):
        changed: dict[str, object] = {"currency": "XTS"} if i % 3 == 0 else {}
        key, value, at = transaction(i, now - 900 + i, **changed)
        records.append((key, value, at + (600_000 if i % 3 == 1 else 0)))  # every third is late
    broker.send(service.feed.topic, records)
    service.drain()
    assert (service.count("silver"), service.count("quarantine")) == (100, 200)
    feed_file = service.feeds_path / "transactions.toml"
    feed_file.write_text(feed_file.read_text().replace('"ZAR"]', '"ZAR", "XTS"]'))
    assert "100" in service.op("replay", DRY_RUN="1")
    assert not service.flows[Layer.SILVER].layout.replay.exists()
    assert "100 records" in service.op("replay", REASON="not_allowed:currency")
    assert "100 records" in service.op("replay", ALLOW="late")
    assert "records" not in service.op("replay", ALLOW="late"), "nothing is taken twice"
    service.start(TRIGGER_INTERVAL="available-now", FAIL_POINT="transactions.silver:renamed")
    service.end(-signal.SIGKILL)
    service.drain()
    assert service.count("silver") == service.count("raw_csv") == 300
    assert service.query("SELECT count(DISTINCT txn_id) FROM silver") == [(300,)]
    assert service.audit().wrong == []
    service.drain()
    assert service.count("silver") == 300

    # what quarantine holds by the old rule goes with silver, or it would be in both
    preview = service.op("reset", SINK="silver", YES="1")
    assert "transactions.quarantine" in preview
    assert "replayed records" in preview
    service.drain()
    assert (service.count("silver"), service.count("quarantine")) == (200, 100)
    assert service.audit().wrong == []


def test_reset_rebuilds_from_bronze_and_bronze_from_where_it_is_told(service: Service, broker: KafkaBroker) -> None:
    middle = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 50))
    _send(broker, service, 0, 1000)
    service.drain(MAX_OFFSETS_PER_TRIGGER="100", MAX_FILES_PER_SINK="4")
    before = {name: service.contents(name) for name in ("silver", "gold", "raw_csv")}
    assert "there is no terminal" in service.op("reset", expected=2, SINK="silver")
    preview = service.op("reset", SINK="silver", YES="1")
    assert all(f"transactions.{name}" in preview for name in before)
    assert "transactions.bronze," in preview
    assert service.count("silver") == service.count("gold") == 0
    assert service.count("bronze") == 1000
    service.drain()
    assert {name: service.contents(name) for name in before} == before

    assert "--to: is for bronze" in service.op("reset", expected=2, SINK="gold", TO="latest", YES="1")
    assert "partition:offset 0:" in service.op("reset", TO=middle, YES="1")
    service.drain()
    assert 0 < service.count("bronze") < 1000
    service.op("reset", TO="latest", YES="1")
    service.drain()
    assert service.count("bronze") == 0
    _send(broker, service, 1000, 10)
    service.drain()
    assert service.count("silver") == 10
    assert service.audit().wrong == []
