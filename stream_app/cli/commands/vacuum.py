"""Delete what no version of a Delta table needs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from rich.console import Console

from stream_app.cli.agreed import REFUSAL, REFUSED, agreed, yes_option
from stream_app.cli.chosen import chosen, of_sink
from stream_app.cli.command import OF_FEEDS, Command, feed_option, format_option, sink_option
from stream_app.cli.output import foreign, print_json, table
from stream_app.ops.tables import Expired, expired, vacuum


def _options(parser: argparse.ArgumentParser) -> None:
    feed_option(parser)
    sink_option(parser, "the one table to vacuum [all]")
    yes_option(parser, "delete without asking")
    format_option(parser)


def _run(options: argparse.Namespace) -> int:
    is_json = options.format == "json"
    with chosen(options) as (settings, flows):
        tables, hours = of_sink(flows, options.sink), settings.retention_hours
        found = expired(tables, hours)
        if not is_json:
            _print(found, hours)
        has_expired = any(one.files for one in found)
        is_agreed = not has_expired or agreed(options, "delete them?")
        if has_expired and is_agreed:
            vacuum(tables, hours)
    if is_json:
        print_json({"tables": found, "is_done": is_agreed})
    elif not is_agreed:
        print("nothing was deleted")
    elif has_expired:
        print("done")
    return 0 if is_agreed else REFUSED


def _print(found: Sequence[Expired], hours: int) -> None:
    if not any(one.files for one in found):
        print(f"nothing to delete: the versions of the last {hours} hours need every file")
        return
    shown = table(f"needed by no version of the last {hours} hours", "table", "place", numbers=("files", "MB"))
    for one in found:
        shown.add_row(foreign(one.sink), foreign(one.place), f"{one.files:,}", f"{one.bytes / 1e6:,.2f}")
    Console().print(shown)


COMMAND = Command(
    about="""
        Shows the files of each Delta table that no version of the last RETENTION_HOURS needs, and files that were
        left by a death before any version had them. It asks, then deletes them. Then older versions cannot be read any
        more. It works beside a running service. --format=json does not ask: without --yes it only shows.
    """,
    options=_options,
    run=_run,
    exits={0: "done", REFUSED: f"nothing was deleted, {REFUSAL}"},
    examples=("", "--sink=table --yes"),
    settings=(*OF_FEEDS, "retention_hours"),
)
