"""Run the service until a signal ends it; what runs without a command."""

from __future__ import annotations

import argparse
import os
import sys

from stream_app import logs
from stream_app.cli.command import Command
from stream_app.errors import StreamAppError
from stream_app.kafka.client import check
from stream_app.plain import plain
from stream_app.runtime import submit
from stream_app.settings import load_settings
from stream_app.sinks.registry import load_flows
from stream_app.storage.lock import LOCK_PATIENCE_SECONDS, sole_user


def _run(_options: argparse.Namespace) -> int:
    """Serve; a refusal is one line on stderr, as LOG_FORMAT says.

    This runs twice: as the process that becomes spark-submit, and in it.
    """
    log_format = os.environ.get("LOG_FORMAT", "")
    try:
        settings = load_settings()
        log_format = settings.log_format
        all_flows = load_flows(settings.feeds_path, settings.feeds, settings.output_path, settings.tables)
        if not submit.is_submitted():
            check(settings.kafka)
            with sole_user(settings.output_path, LOCK_PATIENCE_SECONDS):
                pass  # the service looks again; this is so that no JVM starts for nothing
            submit.become_spark_submit(settings.spark, settings.log_format)
        from stream_app.runtime.service import serve  # noqa: PLC0415 - Spark's second, which a wrong setting need not wait for

        serve(settings, all_flows)
    except StreamAppError as error:
        if log_format == "json":
            logs.configure(log_format)
            logs.error(f"stream_app: {error}", exit_code=error.exit_code)
        else:
            print(f"stream_app: {plain(error)}", file=sys.stderr)
        return error.exit_code
    return 0


COMMAND = Command(
    about="""
        Reads the topics of FEEDS and keeps their outputs up to date. It checks settings and feed files, then becomes
        spark-submit, and its pid stays. SIGTERM and SIGINT let the running batches end.
    """,
    run=_run,
    exits={
        0: "it was asked to stop, or has read all with TRIGGER_INTERVAL=available-now",
        1: "a query failed MAX_FAILURES times in a row, or no broker answers",
    },
    examples=("",),
    settings=("feeds", "kafka_bootstrap_servers", "output_path", "trigger_interval", "database_url", "spark_master"),
)
