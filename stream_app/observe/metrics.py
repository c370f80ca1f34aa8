"""/metrics for Prometheus, /healthz and /readyz, on METRICS_PORT."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pyarrow as pa
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Histogram, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from stream_app.errors import ConfigError, StreamAppError
from stream_app.flows.completeness import complete_up_to, newest_taken
from stream_app.observe.answers import Answer, answering, listen
from stream_app.observe.monitor import FlowStatus, Monitor, State
from stream_app.observe.sizes import Sizes
from stream_app.sinks.report import (
    COLUMNS_ADDED,
    IN_TIME,
    LATE,
    LOOKUP_FAILED,
    REASON,
    REFUSED,
    REPEATS,
    TAKEN,
    UNDECLARED,
    WARNED,
)

_SINK = ("feed", "sink")
_COUNTERS: dict[str, tuple[str, Callable[[FlowStatus], float]]] = {
    "batches": ("Micro-batches that ended", lambda s: s.batches),
    "rows_in": ("Rows read", lambda s: s.rows_in),
    "rows_out": ("Rows written", lambda s: s.rows_out),
    "file_bytes": ("Bytes of the files written", lambda s: s.bytes),
    "restarts": ("Restarts of the query after a failure", lambda s: s.restarts),
    "repeats_dropped": ("Records dropped as repeats of one that silver holds", lambda s: s.counters[REPEATS]),
    "records_refused": ("Rows that the topic of the sink refused", lambda s: s.counters[REFUSED]),
    "columns_added": ("Columns that a table was given because its feed grew", lambda s: s.counters[COLUMNS_ADDED]),
    "rows_dropped_by_watermark": ("Rows that came after their window was final", lambda s: s.counters[LATE]),
}
_GAUGES: dict[str, tuple[str, Callable[[FlowStatus], float]]] = {
    "up": ("1 while the query runs", lambda s: s.state is State.RUNNING),
    "last_batch_id": ("The newest batch that ended", lambda s: s.batch_id),
    "seconds_since_progress": (
        "Since the query ended a batch or found nothing to do",
        lambda s: time.time() - s.progress_at,
    ),
    "state_rows": ("Rows in the state store", lambda s: s.state_rows),
    "state_memory_bytes": ("Memory of the state store", lambda s: s.state_bytes),
}


class _Statuses(Collector):
    """Reads the monitor when Prometheus asks."""

    def __init__(self, monitor: Monitor) -> None:
        self._statuses = monitor.statuses.values()
        self._sizes = Sizes()

    def collect(self) -> Iterator[Metric]:
        for name, (text, value) in _COUNTERS.items():
            counter = CounterMetricFamily(f"stream_app_{name}", text, labels=_SINK)
            for status in self._statuses:
                counter.add_metric(_labels(status), value(status))
            yield counter
        for name, (text, value) in _GAUGES.items():
            gauge = GaugeMetricFamily(f"stream_app_{name}", text, labels=_SINK)
            for status in self._statuses:
                gauge.add_metric(_labels(status), value(status))
            yield gauge
        yield from self._behind()
        yield from self._watermarks()
        yield from self._completeness()
        yield from self._promptness()
        yield from self._checkpoints()
        yield from self._disk()
        yield self._by_name("quarantined", "Quarantined records by reason; one may have several", "reason", REASON)
        yield self._by_name("undeclared_fields", "Records with a field that is not declared", "path", UNDECLARED)
        text = "Readings of a lookup that failed while the last snapshot was used"
        yield self._by_name("lookup_failures", text, "lookup", LOOKUP_FAILED)
        yield self._by_name("warned", "Rows of silver by the rule that warns of them", "rule", WARNED)

    def _behind(self) -> Iterator[Metric]:
        records = GaugeMetricFamily(
            "stream_app_records_behind",
            "Records of the topic not read yet",
            labels=(*_SINK, "topic", "partition"),
        )
        batches = GaugeMetricFamily(
            "stream_app_batches_behind", "Batches of the layer before not read yet", labels=_SINK
        )
        held = GaugeMetricFamily(
            "stream_app_records_in_open_transactions",
            "Records of the topic that wait for open transactions",
            labels=(*_SINK, "topic", "partition"),
        )
        for status in self._statuses:
            for part, count in status.held.items():
                held.add_metric([*_labels(status), status.flow.feed.topic, part], count)
            for part, count in status.behind.items():
                if status.flow.upstream is None:
                    records.add_metric([*_labels(status), status.flow.feed.topic, part], count)
                else:
                    batches.add_metric(_labels(status), count)
        yield from (records, batches, held)

    def _watermarks(self) -> Iterator[Metric]:
        at = GaugeMetricFamily("stream_app_watermark_seconds", "The watermark, since the epoch", labels=_SINK)
        age = GaugeMetricFamily("stream_app_watermark_age_seconds", "How old the watermark is", labels=_SINK)
        for status in self._statuses:
            if status.watermark:
                at.add_metric(_labels(status), status.watermark)
                age.add_metric(_labels(status), time.time() - status.watermark)
        yield from (at, age)

    def _completeness(self) -> Iterator[Metric]:
        final = GaugeMetricFamily(
            "stream_app_complete_up_to_seconds", "Windows that end by then are final, since the epoch", labels=_SINK
        )
        taken = GaugeMetricFamily(
            "stream_app_newest_taken_seconds",
            "The newest Kafka timestamp that silver has taken, since the epoch",
            labels=(*_SINK, "partition"),
        )
        for status in self._statuses:
            with suppress(StreamAppError, OSError, pa.ArrowInvalid):  # a damaged file must not end all metrics
                if up_to := complete_up_to(status.flow):
                    final.add_metric(_labels(status), up_to.timestamp())
                for partition, newest in newest_taken(status.flow).items():
                    taken.add_metric([*_labels(status), str(partition)], newest.timestamp())
        yield from (final, taken)

    def _promptness(self) -> Iterator[Metric]:
        taken = CounterMetricFamily(
            "stream_app_records_taken",
            "Records that silver has taken, without history from before bronze began",
            labels=_SINK,
        )
        text = "Those of them that were in silver within two triggers of their Kafka timestamp"
        in_time = CounterMetricFamily("stream_app_records_in_time", text, labels=_SINK)
        for status in self._statuses:
            if status.flow.is_own and status.flow.kind.drops_repeats:  # from 0 on, or the first batch would not count
                taken.add_metric(_labels(status), status.counters[TAKEN])
                in_time.add_metric(_labels(status), status.counters[IN_TIME])
        yield from (taken, in_time)

    def _checkpoints(self) -> Iterator[Metric]:
        size = GaugeMetricFamily("stream_app_checkpoint_bytes", "The size of the query's checkpoint", labels=_SINK)
        files = GaugeMetricFamily("stream_app_checkpoint_files", "The files of the query's checkpoint", labels=_SINK)
        for status in self._statuses:
            with suppress(OSError):  # the query itself tells of a disk that cannot be read
                found = self._sizes.of(status.flow.checkpoint.path)
                size.add_metric(_labels(status), found.bytes)
                files.add_metric(_labels(status), found.files)
        yield from (size, files)

    def _disk(self) -> Iterator[Metric]:
        free = GaugeMetricFamily("stream_app_disk_free_bytes", "Room on the disk of OUTPUT_PATH")
        for root in {status.flow.root for status in self._statuses}:
            with suppress(OSError):  # it is not there yet, or not reached
                free.add_metric([], shutil.disk_usage(root).free)
        yield free

    def _by_name(self, name: str, text: str, label: str, prefix: str) -> Metric:
        """Return the counters that begin so, each with the rest of its name as a label."""
        family = CounterMetricFamily(f"stream_app_{name}", text, labels=(*_SINK, label))
        for status in self._statuses:
            for counter, count in status.counters.items():
                if counter.startswith(prefix):
                    family.add_metric([*_labels(status), counter.removeprefix(prefix)], count)
        return family


class Metrics:
    """What is measured of each batch beside what the monitor holds, and the server of it all."""

    def __init__(self, monitor: Monitor, patience_seconds: float) -> None:
        """`patience_seconds`: for how long a running query may show no progress before it counts as stuck."""
        self._monitor = monitor
        self._patience = patience_seconds
        self._registry = CollectorRegistry()
        self._registry.register(_Statuses(monitor))
        buckets = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
        self._seconds = Histogram(
            "stream_app_batch_seconds", "Duration of a batch", _SINK, registry=self._registry, buckets=buckets
        )

    def observe(self, status: FlowStatus, seconds: float) -> None:
        """Count one batch's duration."""
        self._seconds.labels(*_labels(status)).observe(seconds)

    @contextmanager
    def served(self, host: str, port: int) -> Iterator[None]:
        """Answer until the end of the block. Raises ConfigError where the port is taken or the host not ours."""
        answers = {"/metrics": self._metrics, "/healthz": self._health, "/readyz": self._readiness}
        try:
            listener = listen(host, port)
        except OSError as error:
            problem = f"METRICS_PORT: cannot listen on {host}:{port}: {error.strerror}"
            raise ConfigError(problem) from None
        with answering(listener, answers):
            yield

    def _metrics(self) -> Answer:
        return 200, CONTENT_TYPE_LATEST, generate_latest(self._registry)

    def _health(self) -> Answer:
        return _json(self._monitor.problems(self._patience))

    def _readiness(self) -> Answer:
        return _json({} if self._monitor.ready else {"service": "its queries are not all started"})


def _json(problems: dict[str, str]) -> Answer:
    body = json.dumps({"ok": not problems, "problems": problems}).encode()
    return 503 if problems else 200, "application/json", body + b"\n"


def _labels(status: FlowStatus) -> tuple[str, str]:
    return status.flow.feed.name, status.flow.sink
