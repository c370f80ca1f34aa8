"""Read what is there, then end: one bounded run with a verdict."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence

from stream_app.cli.chosen import chosen
from stream_app.cli.command import Command, feed_option, format_option
from stream_app.cli.commands.status import show
from stream_app.flows.flow import Flow
from stream_app.observe.monitor import State
from stream_app.ops.status import status
from stream_app.settings import AVAILABLE_NOW
from stream_app.storage import service_status

_STOPPED = 1


def _options(parser: argparse.ArgumentParser) -> None:
    feed_option(parser)
    format_option(parser)


def _run(options: argparse.Namespace) -> int:
    with chosen(options) as (_, flows):
        feeds = dict.fromkeys(flow.feed.name for flow in flows)
        return _serve(feeds) or _verdict(flows, options.format)


def _serve(feeds: Iterable[str]) -> int:
    """Run the service until it has read all, and return its exit code; what it prints goes to stderr.

    It is a process of its own, as spark-submit writes all that it prints to stdout, which is for the verdict.
    """
    settings = {"TRIGGER_INTERVAL": AVAILABLE_NOW, "FEEDS": ",".join(feeds)}
    command = [sys.executable, "-m", "stream_app"]
    with subprocess.Popen(command, env=os.environ | settings, stdout=sys.stderr.fileno()) as service:
        for one in (signal.SIGTERM, signal.SIGINT):
            signal.signal(one, lambda number, _: service.send_signal(number))
        code = service.wait()
    return code if code >= 0 else 128 - code


def _verdict(flows: Sequence[Flow], kind: str) -> int:
    root = flows[0].root
    show(status(root, flows), kind)
    told = service_status.read(root)["flows"]
    stopped = [flow.name for flow in flows if told.get(flow.name, {}).get("state") != State.DONE]
    if kind != "json":
        print(f"stopped before all was read: {', '.join(stopped)}" if stopped else "all is read")
    return _STOPPED if stopped else 0


COMMAND = Command(
    about="""
        Runs the service as with TRIGGER_INTERVAL=available-now: it reads what is in the topics when it begins, carries
        it to every sink and ends. Then it prints the status of each sink, and whether all was read. Logs are on stderr.
        A scheduler may call it again and again: each run goes on from where the last one ended.
    """,
    options=_options,
    run=_run,
    exits={
        0: "all is read",
        1: "it was stopped before, a query failed MAX_FAILURES times in a row, or no broker answers",
    },
    examples=("", "--feed=transactions --format=json"),
    settings=("feeds", "kafka_bootstrap_servers", "output_path", "max_failures", "database_url", "spark_master"),
)
