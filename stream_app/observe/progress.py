"""Spark's progress reports -> the monitor, and one log line for each batch of each sink."""

from __future__ import annotations

import json
import time
from datetime import datetime
from typing import Any

from pyspark.java_gateway import ensure_callback_server_started
from pyspark.sql import SparkSession

from stream_app import logs
from stream_app.flows.flow import Flow
from stream_app.observe.metrics import Metrics
from stream_app.observe.monitor import FlowStatus, Monitor
from stream_app.sinks.report import STATE_BYTES, STATE_ROWS, Report


class ProgressListener:
    """Called by Spark, one event at a time, apart from the queries' own threads.

    Not pyspark's StreamingQueryListener: that turns each report into Python objects field by field, by hundreds of
    calls to the JVM. At a batch a second that took a tenth of a core (docs/benchmark.md).
    """

    def __init__(self, monitor: Monitor, metrics: Metrics) -> None:
        self._monitor = monitor
        self._metrics = metrics
        self._names: dict[str, str] = {}

    def listen(self, spark: SparkSession) -> None:
        """Have Spark call this object from now on."""
        jvm: Any = spark._jvm
        ensure_callback_server_started(spark.sparkContext._gateway)
        wrapped = jvm.org.apache.spark.sql.streaming.PythonStreamingQueryListenerWrapper(self)
        spark._jsparkSession.streams().addListener(wrapped)

    def onQueryStarted(self, event: Any) -> None:  # noqa: N802 - Spark's name
        """Learn which run is which flow's; idle events carry the run id alone."""
        self._names[event.runId().toString()] = event.name()

    def onQueryIdle(self, event: Any) -> None:  # noqa: N802 - Spark's name
        """Note that a query makes progress, too, if it found nothing to read."""
        status = self._monitor.statuses.get(self._names.get(event.runId().toString(), ""))
        if status:
            _progressed(status)
            _read_all(status, event.timestamp())

    def onQueryTerminated(self, event: Any) -> None:  # noqa: N802 - Spark's name
        """Forget the run of a query that ended, and have the supervisor see to the query."""
        self._names.pop(event.runId().toString(), None)
        self._monitor.query_ended.set()

    def onQueryProgress(self, event: Any) -> None:  # noqa: N802 - Spark's name
        """Note what the batch did, and log it unless it did nothing."""
        progress = json.loads(event.progress().json())
        status = self._monitor.statuses.get(progress["name"])
        if status is None:
            return
        _progressed(status)
        status.behind = _behind(status.flow, progress["sources"][0])
        if status.behind and not any(status.behind.values()):  # of a batch that runs again nobody has looked
            _read_all(status, progress["timestamp"])
        report = status.reports.pop(progress["batchId"], None)
        if report is None:  # nothing was read: the report repeats the last batch
            return
        seconds = progress["batchDuration"] / 1000
        self._metrics.observe(status, seconds)
        _count(status, progress, report)
        if report.rows_out or report.rows_in:
            logs.info(
                status.flow.name,
                batch=report.batch_id,
                rows_in=report.rows_in,
                rows_out=report.rows_out,
                file=report.file.name if report.file else "-",
                bytes=report.bytes,
                seconds=round(seconds, 3),
                **{f"{'batches' if status.flow.upstream else 'records'}_behind": sum(status.behind.values())},
            )

    class Java:
        """What py4j asks for."""

        implements = ("org.apache.spark.sql.streaming.PythonStreamingQueryListener",)


def _progressed(status: FlowStatus) -> None:
    status.progress_at = time.time()
    status.failures, status.last_error = 0, ""


def _read_all(status: FlowStatus, began: str) -> None:
    """Note that a trigger has read all: it looked after it began, so all that had come by then.

    Where records may wait for open transactions, it is all up to when none did, as far as that was known by then. A
    service that starts does not know it yet.
    """
    moment, decided = datetime.fromisoformat(began).timestamp(), status.decided
    if decided is None:
        status.read_all_at = moment
    elif decided.answered_at <= moment:
        status.read_all_at = decided.asked_at


def _count(status: FlowStatus, progress: dict[str, Any], report: Report) -> None:
    status.batch_id, status.batch_at = report.batch_id, time.time()
    status.batches += 1
    status.rows_in += report.rows_in
    status.rows_out += report.rows_out
    status.bytes += report.bytes
    status.counters.update(report.counters)
    watermark = progress.get("eventTime", {}).get("watermark")
    if watermark:
        status.watermark = datetime.fromisoformat(watermark).timestamp()
    status.state_rows, status.state_bytes = (report.gauges.get(gauge, 0) for gauge in (STATE_ROWS, STATE_BYTES))
    for operator in progress["stateOperators"]:
        status.state_rows = operator["numRowsTotal"]
        status.state_bytes = operator["memoryUsedBytes"]


def _behind(flow: Flow, source: dict[str, Any]) -> dict[str, int]:
    """Return how much is upstream that is not read: records by partition of a topic, or batches of a layer."""
    end, latest = (_offset(source.get(key)) for key in ("endOffset", "latestOffset"))
    if flow.upstream:
        return {"": max(0, latest.get("batch", -1) - end.get("batch", -1))}
    topic = flow.feed.topic
    return {p: at - end.get(topic, {}).get(p, 0) for p, at in latest.get(topic, {}).items()}


def _offset(value: Any) -> dict[str, Any]:
    return json.loads(value) if isinstance(value, str) else value or {}
