"""Read what is there, then end: one bounded run with a verdict."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from stream_app.cli import service
from stream_app.cli.command import Command, feed_option, format_option
from stream_app.cli.commands.status import show
from stream_app.flows.flow import Flow
from stream_app.observe import status_file
from stream_app.observe.monitor import State
from stream_app.ops.status import status
from stream_app.settings import AVAILABLE_NOW, Settings

_STOPPED = 1


def _options(parser: argparse.ArgumentParser) -> None:
    feed_option(parser)
    format_option(parser)


def _run(options: argparse.Namespace) -> int:
    def adapt(settings: Settings) -> Settings:
        feeds = {"feeds": (options.feed,)} if options.feed else {}
        return settings.model_copy(update={"trigger_interval": AVAILABLE_NOW, **feeds})

    def ended(flows: Sequence[Flow]) -> int:
        return _verdict(flows, options.format)

    return service.run(("drain", f"--feed={options.feed}", f"--format={options.format}"), adapt, ended)


def _verdict(flows: Sequence[Flow], kind: str) -> int:
    root = flows[0].root
    show(status(root, flows), kind)
    told = status_file.read(root)["flows"]
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
