"""Run the service until a signal ends it; what runs without a command."""

from __future__ import annotations

import argparse

from stream_app.cli import service
from stream_app.cli.command import Command


def _run(_options: argparse.Namespace) -> int:
    return service.run((), lambda settings: settings, lambda _: 0)


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
