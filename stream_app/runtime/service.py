"""The service from lock to end, in the process that spark-submit runs."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from pyspark import SparkContext
from pyspark.java_gateway import ensure_callback_server_started
from pyspark.sql import SparkSession

from stream_app import logs
from stream_app.admission.admit import Admission
from stream_app.errors import StreamAppError, no_room_is_expected
from stream_app.flows.flow import Flow
from stream_app.kafka.broker import Broker
from stream_app.observe import consumer_groups, held, lineage_sender, status_file
from stream_app.observe.lineage_settings import load_lineage_settings
from stream_app.observe.metrics import Metrics
from stream_app.observe.monitor import Monitor
from stream_app.observe.progress import ProgressListener
from stream_app.observe.samples import Samples
from stream_app.runtime.pipeline import Pipeline
from stream_app.runtime.retention import Retention
from stream_app.runtime.runner import Runner
from stream_app.settings import Settings
from stream_app.sinks.protocol import topics_of
from stream_app.sinks.registry import probe_stores
from stream_app.sources.lookups import Lookups
from stream_app.storage.lock import LOCK_PATIENCE_SECONDS, sole_user

_BROKER_PATIENCE_SECONDS = 60.0
# While leaders move, and shorter than a batch has to end in before a stop.
_LEADER_PATIENCE_SECONDS = 30.0
# A query counts as stuck after this many triggers and this long without a sign of progress.
_STUCK_TRIGGERS = 3
_STUCK_SECONDS = 120.0
# It promises to end within a minute of a signal: what takes longer is left to the next start, as after kill -9.
_STOP_SECONDS = 55.0
# Our last lines go through a pipe of the JVM.
_FLUSH_SECONDS = 1.0
# A busy machine lets the JVM wait before it ends with the code that it is told.
_HALT_SECONDS = 3.0


def serve(settings: Settings, all_flows: tuple[Flow, ...]) -> None:
    """Run the flows until a signal asks to stop, or with TRIGGER_INTERVAL=available-now until they have read all.

    Raises ConfigError before Spark starts where the state on disk refuses it, StreamAppError where no broker answers
    or a query failed too often.
    """
    logs.configure(settings.log_format)
    _end_with_parent()
    stop, has_begun = threading.Event(), threading.Event()
    _stop_on_signals(stop, has_begun)
    monitor = Monitor(all_flows)
    with (
        sole_user(settings.output_path, LOCK_PATIENCE_SECONDS),
        status_file.kept(settings.output_path, monitor),
    ):
        try:
            with no_room_is_expected(settings.output_path):
                _run(settings, monitor, all_flows, stop, has_begun)
        except StreamAppError as error:
            monitor.refuse(str(error))
            raise
    logs.info("stopped")


def _run(
    settings: Settings, monitor: Monitor, all_flows: tuple[Flow, ...], stop: threading.Event, has_begun: threading.Event
) -> None:
    with ExitStack() as beside:
        lineage = load_lineage_settings()
        metrics = Metrics(monitor, _STUCK_TRIGGERS * settings.trigger.seconds + _STUCK_SECONDS)
        if settings.metrics_port:
            beside.enter_context(metrics.served(settings.metrics_host, settings.metrics_port))
        probe_stores(all_flows, settings.output_path)
        broker = _broker_with_topics(settings, all_flows)
        lookups = _lookups(settings, all_flows)
        has_database = bool(settings.database_url)
        admission = Admission(broker, fail_on_data_loss=settings.fail_on_data_loss, has_database=has_database)
        admission.admit_all(all_flows)
        beside.enter_context(lineage_sender.told(all_flows, monitor, settings, lineage))
        has_begun.set()
        spark = SparkSession.builder.config(map=dict(settings.spark.security)).getOrCreate()
        beside.callback(spark.stop)
        _take_ends_for_ends(spark)
        ProgressListener(monitor, metrics).listen(spark)
        pipeline = Pipeline(
            spark,
            admission,
            settings.servers,
            settings.trigger,
            Samples(settings.show_previews),
            lookups,
            starting_offsets=settings.starting_offsets,
        )
        runner = Runner(pipeline, monitor, stop, drains=settings.trigger.drains, max_failures=settings.max_failures)
        retention = Retention(all_flows, pipeline.hadoop, settings.retention, settings.max_files_per_sink)
        logs.info("started", feeds=",".join(settings.feeds), output=settings.output_path)
        beside.enter_context(retention.running())
        if settings.commit_group_offsets:
            beside.enter_context(consumer_groups.mirrored(all_flows, broker))
        if settings.kafka_isolation_level == "read_committed":
            beside.enter_context(held.watched(all_flows, broker, monitor))
        try:
            runner.run(all_flows)
        except StreamAppError as error:
            _end_by_force(error.exit_code)
            raise


def _broker_with_topics(settings: Settings, all_flows: tuple[Flow, ...]) -> Broker:
    """Return the broker, once it has every topic. Raises StreamAppError where it has not in time."""
    broker = Broker(settings.kafka, patience_seconds=_LEADER_PATIENCE_SECONDS)
    for topic in sorted({topic for flow in all_flows for topic in topics_of(flow)}):
        broker.wait_for_topic(topic, _BROKER_PATIENCE_SECONDS)
    return broker


def _lookups(settings: Settings, all_flows: tuple[Flow, ...]) -> dict[str, Lookups]:
    """Return the reference data of each feed that declares some, read once."""
    found = {
        flow.feed.name: Lookups(flow, settings.feeds_path, settings.database_url)
        for flow in all_flows
        if flow.upstream is None and flow.feed.lookups
    }
    for lookups in found.values():
        lookups.begin()
    return found


def _take_ends_for_ends(spark: SparkSession) -> None:
    """Log no stack where the JVM ends its connection to pyspark's server of accumulators.

    It does so when a stop interrupts a batch, and the server takes that for an error (measured on 4.2.0).
    """
    server: Any = spark.sparkContext._accumulatorServer
    log = server.handle_error

    def handle(*request: object) -> None:
        if not isinstance(sys.exception(), EOFError):
            log(*request)

    server.handle_error = handle


def _stop_on_signals(stop: threading.Event, has_begun: threading.Event) -> None:
    """Have the JVM's SIGTERM and SIGINT, and our own, set `stop`, and end a service that has not begun.

    spark-submit passes no signal on: its JVM ends at once and Python never hears of it (measured on 4.2.0). So
    Python's handler is put in the place of the JVM's own.
    """

    def handle(*_: object) -> None:
        if not stop.is_set():
            _end_by_force(0)
        stop.set()
        if not has_begun.is_set():
            logs.info("stopped before it began")
            # no query runs, and what waits for Kafka looks at no event; a moment later, as the JVM waits for an answer
            threading.Timer(0.2, os._exit, [0]).start()

    class Handler:
        """A sun.misc.SignalHandler."""

        def handle(self, _signal: object) -> None:
            handle()

        class Java:
            """What py4j asks for."""

            implements = ("sun.misc.SignalHandler",)

    SparkContext._ensure_initialized()  # Spark's JVM is there before its session
    gateway: Any = SparkContext._gateway
    ensure_callback_server_started(gateway)
    for name in ("TERM", "INT"):
        gateway.jvm.sun.misc.Signal.handle(gateway.jvm.sun.misc.Signal(name), Handler())
        signal.signal(getattr(signal, f"SIG{name}"), handle)


def _end_by_force(exit_code: int) -> None:
    """Have the process end with that code after _STOP_SECONDS, whatever hangs: it is as safe as kill -9."""

    def end() -> None:
        logs.warning(
            f"has not stopped in {_STOP_SECONDS:.0f} s: ends as it is; running batches run again at the next start"
        )
        time.sleep(_FLUSH_SECONDS)
        _later(_HALT_SECONDS, os.kill, os.getppid(), signal.SIGKILL)  # a JVM that does not answer
        gateway: Any = SparkContext._gateway
        gateway.jvm.java.lang.Runtime.getRuntime().halt(exit_code)

    _later(_STOP_SECONDS, end)


def _later(seconds: float, function: Callable[..., object], *arguments: object) -> None:
    timer = threading.Timer(seconds, function, arguments)
    timer.daemon = True
    timer.start()


def _end_with_parent() -> None:
    """Without its JVM this program can do nothing but hold the lock: end with it, even where it was kill -9ed."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
