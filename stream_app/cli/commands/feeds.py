"""The feeds, their topics and sinks, and which need a database."""

from __future__ import annotations

import argparse

from rich.console import Console

from stream_app.cli.chosen import chosen
from stream_app.cli.command import Command, feed_option, format_option
from stream_app.cli.output import foreign, print_json, table
from stream_app.ops.feeds import feeds


def _options(parser: argparse.ArgumentParser) -> None:
    feed_option(parser)
    format_option(parser)


def _run(options: argparse.Namespace) -> int:
    with chosen(options) as (settings, flows):
        found = feeds(flows)
    if options.format == "json":
        print_json(found)
        return 0
    shown = table(str(settings.feeds_path), "feed", "topic", "sinks", "database")
    for feed in found:
        needed = "needed" if feed.needs_database else "-"
        shown.add_row(feed.name, foreign(feed.topic), foreign(", ".join(feed.sinks)), needed)
    Console().print(shown)
    return 0


COMMAND = Command(
    about="""
        Lists the feeds of FEEDS with their topics and sinks, and whether a sink is in PostgreSQL. make up asks it which
        containers are needed.
    """,
    options=_options,
    run=_run,
    exits={0: "listed"},
    examples=("", "--feed=user_activity --format=json"),
    settings=("feeds", "feeds_path"),
)
