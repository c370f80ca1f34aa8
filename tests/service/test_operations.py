"""What an engineer on call does and sees: failures, health, metrics, replay, reset. More is in tests/faults."""

from __future__ import annotations

import json
import re
import signal
import time
from collections import defaultdict
from dataclasses import replace
from functools import partial
from typing import Any

from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient
from prometheus_client.parser import text_string_to_metric_families

from stream_app.flows.flow import Flow
from tests.api_process import ApiProcess, Follower
from tests.ports import free_port
from tests.service.harness import Service, transaction, ui_at, wait_for
from tests.service.servers import PARTITIONS, KafkaBroker
from tests.service.watch import followed, get, obstacle, send, status


def test_a_failing_sink_is_restarted_alone_and_shows_in_health_metrics_and_status(
    service: Service, broker: KafkaBroker, api: ApiProcess
) -> None:
    port = free_port()
    hindrance = obstacle(service)
    for sink in service.flows:  # which nobody reads back, or the first records would be passed over
        _set_group_offsets(broker.admin, service, sink, 20)
    settings = {"LOG_FORMAT": "json", "COMMIT_GROUP_OFFSETS": "1", "SHOW_PREVIEWS": "1", "MAX_FAILURES": "1000"}
    service.start(METRICS_PORT=str(port), SPARK_SUBMIT_OPTS=ui_at(service, ui := free_port()), **settings)
    wait_for(lambda: get(port, "readyz")[0] == 200, "readiness")
    restarted = _metrics(port)  # Spark gives a source 10 s to start, which a very busy machine may not make
    send(broker, service, 0, 100)
    asked = 0

    def has_come_all_the_same() -> bool:  # no sink is restarted by that, as is shown below
        nonlocal asked
        asked += _ask_for_an_end(ui)
        return service.count("raw_csv") == 100

    wait_for(has_come_all_the_same, "the first records, though Spark's UI is asked to kill what reads them")
    assert asked
    events = followed(api)
    _refuse_a_second_instance(service)
    now = time.time()
    broker.send(service.feed.topic, [("k", b"no json", int(now * 1000)), transaction(0, now), transaction(1, now)])
    wait_for(lambda: get(port, "healthz")[0] == 200, "good health")

    hindrance.mkdir()
    send(broker, service, 100, 100)
    wait_for(lambda: get(port, "healthz")[0] == 503, "bad health")
    wait_for(lambda: service.count("silver") == 200, "the other sinks to go on")
    problems = json.loads(get(port, "healthz")[1])["problems"]
    assert list(problems) == ["transactions.raw_csv"]
    # the table is of up to a second ago
    wait_for(lambda: status(service, "raw_csv")["restarts"] >= 1, "the restart to show in the status")
    assert status(service, "raw_csv")["last_error"]
    assert status(service, "silver")["state"] == "running"
    wait_for(lambda: events.of("alert", "raw_csv"), "the alert to be told")
    api.end(signal.SIGKILL)
    hindrance.rmdir()
    wait_for(lambda: service.count("raw_csv") == 200, "the sink to recover")
    wait_for(lambda: get(port, "healthz")[0] == 200, "good health again")

    api.start()
    _check_events(service, events)
    _check_metrics(service, port, restarted)
    for sink in service.flows:
        wait_for(partial(_has_mirrored, broker.admin, service, sink, 203), f"the mirrored offsets of {sink}")
    # but for the JVM's own first words
    log = [json.loads(line) for line in service.stop(signal.SIGINT).splitlines() if "incubator modules" not in line]
    assert {"transactions.silver", "transactions.silver preview"} <= {entry["message"] for entry in log}
    assert service.audit().wrong == []
    events.ended.set()
    assert api.end() == 0


def _check_events(service: Service, events: Follower) -> None:
    """The API was killed meanwhile, and its client came back: each batch was told once, the trouble is over."""
    wait_for(lambda: events.of("alert", "raw_csv")[-1]["is_over"], "the alert to be over")
    assert not events.of("alert", "raw_csv")[0]["is_over"]
    assert not events.of("alert", "silver")
    for sink, flow in service.flows.items():
        wait_for(partial(_has_told_all, events, flow), f"the newest batch of {sink} to be told")
        told = [one["batch"] for one in events.of("batch", sink)]
        assert told == [*range(told[0], told[0] + len(told))], "none is missing, none is twice"
    assert sum(one["rows"] or 0 for one in events.of("batch", "silver")) == 100


def _has_told_all(events: Follower, flow: Flow) -> bool:
    newest, told = flow.checkpoint.last_committed(), events.of("batch", flow.sink)
    return bool(newest and told and told[-1]["batch"] >= newest.batch_id)


def _refuse_a_second_instance(service: Service) -> None:
    second = replace(service, process=None)
    before = len(service.log.read_text())
    assert "is in use by process" in second.drain(expected=2, LOG_FORMAT="json")[before:]
    assert "in use by process" in service.op("reset", expected=2, YES="1")


def _ask_for_an_end(ui: int) -> int:
    """Ask Spark's UI by a GET to kill what runs, as a link would; how many jobs and stages that were."""
    asked = 0
    for app in _of_spark(ui, "applications"):
        for kind, state, key in (("jobs", "running", "jobId"), ("stages", "active", "stageId")):
            for running in _of_spark(ui, f"applications/{app['id']}/{kind}?status={state}"):
                get(ui, f"{kind}/{kind[:-1]}/kill/?id={running[key]}&terminate=true")
                asked += 1
    return asked


def _of_spark(ui: int, path: str) -> list[dict[str, Any]]:
    """What the UI's REST API says; nothing while it is too busy to answer."""
    status, answer = get(ui, f"api/v1/{path}")
    return list(json.loads(answer)) if status == 200 else []


def _check_metrics(service: Service, port: int, before: dict[tuple[str, str], float]) -> None:
    wait_for(lambda: _metrics(port)["stream_app_rows_out_total", "raw_csv"] >= 200, "the CSV's rows in the metrics")
    metrics = _metrics(port)
    for sink in service.flows:
        assert metrics["stream_app_up", sink] == 1
        assert metrics["stream_app_batches_total", sink] == metrics["stream_app_batch_seconds_count", sink] > 0
        assert metrics["stream_app_seconds_since_progress", sink] < 600
        restarts = "stream_app_restarts_total", sink
        assert (metrics[restarts] > before[restarts]) == (sink == "raw_csv")
    assert metrics["stream_app_rows_in_total", "silver"] == metrics["stream_app_rows_out_total", "bronze"] == 203
    assert metrics["stream_app_rows_out_total", "silver"] == metrics["stream_app_state_rows", "silver"] == 200
    assert metrics["stream_app_repeats_dropped_total", "silver"] == 2
    assert (
        metrics["stream_app_quarantined_total", "quarantine"] == metrics["stream_app_rows_out_total", "quarantine"] == 1
    )
    assert metrics["stream_app_records_behind", "bronze"] == 0
    assert metrics["stream_app_file_bytes_total", "bronze"] == sum(
        f.path.stat().st_size for f in service.flows["bronze"].files()
    )
    assert metrics["stream_app_watermark_age_seconds", "gold"] > 300


def _metrics(port: int) -> dict[tuple[str, str], float]:
    """The sum of each sample's values, by its name and sink."""
    found: dict[tuple[str, str], float] = defaultdict(float)
    for family in text_string_to_metric_families(get(port, "metrics")[1]):
        for sample in family.samples:
            found[sample.name, sample.labels.get("sink", "")] += sample.value
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


def test_what_is_late_is_taken_by_a_replay_once_and_given_back_by_a_reset(copied: Service) -> None:
    silver, quarantine = copied.count("silver"), copied.count("quarantine")
    (late,) = copied.query("SELECT count(*) FROM quarantine WHERE reasons = ['late']")[0]
    assert "records are in the ledger" not in copied.op("replay", ALLOW="late", DRY_RUN="1")
    assert not copied.flows["silver"].layout.replay.exists()
    told = re.search(r"^(\d+) records are in the ledger", copied.op("replay", ALLOW="late"), re.MULTILINE)
    assert told
    assert 50 < (taken := int(told[1])) <= int(str(late))
    assert "records are in the ledger" not in copied.op("replay", ALLOW="late"), "nothing is taken twice"
    assert "all is read" in copied.op("drain", FEED="transactions").splitlines()
    assert copied.count("silver") == copied.count("raw_csv") == silver + taken
    assert copied.query("SELECT count(DISTINCT txn_id) FROM silver") == [(silver + taken,)]
    assert copied.audit().wrong == []

    assert copied.op("drain", expected=2, FEED="nothing").count("\n") == 1
    assert "there is no terminal" in copied.op("reset", expected=2, SINK="silver")
    preview = copied.op("reset", SINK="silver", YES="1")
    assert all(f"transactions.{name}" in preview for name in ("bronze,", "silver", "gold", "raw_csv"))
    assert "replayed records" in preview
    assert copied.count("silver") == copied.count("gold") == 0
    copied.drain()
    assert (copied.count("silver"), copied.count("quarantine")) == (silver, quarantine)
    assert copied.audit().wrong == []
