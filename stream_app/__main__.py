"""The service. `python -m stream_app` checks the settings and becomes spark-submit, which runs this file again.

SIGTERM and SIGINT, sent to spark-submit or to this program, let the running batches end; exit 0.
Exit 2: a setting, a feed file or the state on disk refuses the start. Exit 1: a query failed MAX_FAILURES times in a
row, or no broker answers.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

if __package__ in {None, ""}:  # run by spark-submit as a file: its folder would shadow other packages
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from stream_app.broker import Broker
from stream_app.errors import ConfigError, StreamAppError
from stream_app.feed import load_feeds
from stream_app.flow import Flow, Layer, flows
from stream_app.settings import PROJECT, Settings, load_settings

_LOCK_PATIENCE_SECONDS = 10.0
_BROKER_PATIENCE_SECONDS = 60.0
# A query counts as stuck after this many triggers and this long without a sign of progress.
_STUCK_TRIGGERS = 3
_STUCK_SECONDS = 120.0


def main() -> int:
    """Run the service; the exit code is as above."""
    parser = argparse.ArgumentParser(prog="python -m stream_app", description=__doc__.split("\n\n")[0])
    parser.epilog = "Settings are environment variables or .env; README.md lists them."
    parser.parse_args()
    try:
        settings = load_settings()
        all_flows = flows(load_feeds(settings.feeds_path, settings.feeds), settings.output_path)
        if "PYSPARK_GATEWAY_PORT" not in os.environ:
            _become_spark_submit(settings)
        _serve(settings, all_flows)
    except StreamAppError as error:
        print(f"stream_app: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _become_spark_submit(settings: Settings) -> None:
    """Replace this process: the pid stays, so whoever started it signals spark-submit itself."""
    jars = sorted((PROJECT / ".jars" / "spark").glob("*.jar"))
    if not jars:
        problem = f"there are no jars in {PROJECT / '.jars' / 'spark'}; fetch them with: make setup"
        raise ConfigError(problem)
    if not (shutil.which("java") or os.environ.get("JAVA_HOME")):
        problem = "there is no java; install Java 17 or later, on Debian: apt-get install openjdk-17-jre-headless"
        raise ConfigError(problem)
    import pyspark  # noqa: PLC0415 - a second that a wrong setting need not wait for

    home = Path(pyspark.__file__).parent
    environment = {
        "SPARK_HOME": str(home),
        "SPARK_CONF_DIR": str(PROJECT / "conf"),
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_DRIVER_PYTHON": sys.executable,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")])),
    }
    if settings.spark_master.startswith("local"):
        environment["SPARK_LOCAL_IP"] = "127.0.0.1"
    command = [str(home / "bin" / "spark-submit"), "--master", settings.spark_master]
    command += ["--driver-memory", settings.spark_driver_memory, "--jars", ",".join(map(str, jars))]
    command += ["--conf", f"spark.sql.shuffle.partitions={settings.spark_sql_shuffle_partitions}"]
    command += [str(Path(__file__).resolve())]
    os.execve(command[0], command, os.environ | environment)  # noqa: S606 - no shell is wanted


def _serve(settings: Settings, all_flows: tuple[Flow, ...]) -> None:
    from pyspark.sql import SparkSession  # noqa: PLC0415 - as above

    from stream_app import logs  # noqa: PLC0415
    from stream_app.admission import Admission  # noqa: PLC0415
    from stream_app.groups import mirrored  # noqa: PLC0415
    from stream_app.lock import sole_user  # noqa: PLC0415
    from stream_app.metrics import Metrics  # noqa: PLC0415
    from stream_app.monitor import Monitor  # noqa: PLC0415
    from stream_app.pipeline import Pipeline  # noqa: PLC0415
    from stream_app.progress import ProgressListener  # noqa: PLC0415
    from stream_app.retention import Retention  # noqa: PLC0415
    from stream_app.runner import Runner  # noqa: PLC0415
    from stream_app.snapshot import kept  # noqa: PLC0415

    logs.configure(settings.log_format)
    with sole_user(settings.output_path, _LOCK_PATIENCE_SECONDS):
        monitor = Monitor(all_flows)
        metrics = Metrics(monitor, _STUCK_TRIGGERS * settings.trigger_seconds + _STUCK_SECONDS)
        if settings.metrics_port:
            metrics.serve(settings.metrics_port)
        broker = Broker(settings)
        admission = Admission(broker, settings)
        for flow in all_flows:
            if flow.layer is Layer.BRONZE:
                broker.wait_for_topic(flow.feed.topic, _BROKER_PATIENCE_SECONDS)
            admission.admit(flow)
        spark = SparkSession.builder.getOrCreate()
        spark.streams.addListener(ProgressListener(monitor, metrics))
        pipeline = Pipeline(spark, admission, settings)
        runner = Runner(pipeline, monitor, settings)
        retention = Retention(all_flows, pipeline.hadoop, settings)
        _stop_on_signals(spark, runner)
        _end_with_parent()
        logs.info(
            "started",
            feeds=",".join(settings.feeds),
            output=settings.output_path,
            trigger=settings.trigger_interval,
        )
        with ExitStack() as beside:
            beside.enter_context(kept(settings.output_path, monitor))
            beside.enter_context(retention.running())
            if settings.commit_group_offsets:
                beside.enter_context(mirrored(all_flows, broker))
            for wave in _waves(all_flows, settings):
                runner.run(wave)
        spark.stop()
        logs.info("stopped")


def _waves(all_flows: tuple[Flow, ...], settings: Settings) -> list[tuple[Flow, ...]]:
    """What runs together: everything, or for a drain one layer after the other."""
    if not settings.drains:
        return [all_flows]
    depths: dict[int, list[Flow]] = {}
    for flow in all_flows:
        depth, layer = 0, flow.layer
        while layer.upstream is not None:
            depth, layer = depth + 1, layer.upstream
        depths.setdefault(depth, []).append(flow)
    return [tuple(wave) for _, wave in sorted(depths.items())]


def _stop_on_signals(spark: Any, runner: Any) -> None:
    """Have the JVM's SIGTERM and SIGINT, and our own, drain the service.

    spark-submit passes no signal on: its JVM ends at once and Python never hears of it (measured on 4.2.0). So
    Python's handler is put in the place of the JVM's own.
    """
    from pyspark.java_gateway import ensure_callback_server_started  # noqa: PLC0415 - as above

    class Handler:
        """A sun.misc.SignalHandler."""

        def handle(self, _signal: object) -> None:
            runner.stop()

        class Java:
            """What py4j asks for."""

            implements = ("sun.misc.SignalHandler",)

    gateway = spark.sparkContext._gateway
    ensure_callback_server_started(gateway)
    for name in ("TERM", "INT"):
        gateway.jvm.sun.misc.Signal.handle(gateway.jvm.sun.misc.Signal(name), Handler())
        signal.signal(getattr(signal, f"SIG{name}"), lambda *_: runner.stop())


def _end_with_parent() -> None:
    """Without its JVM this program can do nothing but hold the lock: end with it, even where it was kill -9ed."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
