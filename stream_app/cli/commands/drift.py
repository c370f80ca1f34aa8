"""Fields that records have and their feed does not declare."""

from __future__ import annotations

import argparse

from rich.console import Console

from stream_app.cli.chosen import chosen
from stream_app.cli.command import Command, feed_option, format_option
from stream_app.cli.output import foreign, print_json, table
from stream_app.ops.drift import DriftReport, drift


def _options(parser: argparse.ArgumentParser) -> None:
    feed_option(parser)
    format_option(parser)


def _run(options: argparse.Namespace) -> int:
    with chosen(options) as (_, flows):
        reports = drift(flows)
    if options.format == "json":
        print_json(reports)
    else:
        for report in reports:
            _print(report)
    return 0


def _print(report: DriftReport) -> None:
    if not report.fields:
        which = "which the feed file ignores" if report.unknown == "ignore" else "none was found"
        print(f"drift of {report.feed}: no fields that are not declared, {which}")
        return
    title = f"drift of {report.feed}: fields that are not declared"
    found = table(title, "field", "first seen (UTC)", "last seen (UTC)", "sample", numbers=("records",))
    for field in report.fields:
        times = (f"{time:%Y-%m-%d %H:%M:%S}" for time in (field.first_seen, field.last_seen))
        found.add_row(foreign(field.path), *times, foreign(field.sample), f"{field.records:,}")
    Console().print(found)


COMMAND = Command(
    about="""
        Shows the fields that records have and their feed does not declare: how many records have each, when batches
        with such were read, and the first value. Silver counts them from its first batch on.
    """,
    options=_options,
    run=_run,
    exits={0: "shown", 1: "the state beside silver's checkpoint cannot be read"},
    examples=("", "--feed=transactions --format=json"),
)
