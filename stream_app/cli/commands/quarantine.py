"""Quarantined records by reason, with the newest of each."""

from __future__ import annotations

import argparse

from rich.console import Console

from stream_app.cli.chosen import chosen
from stream_app.cli.command import Command, feed_option, format_option
from stream_app.cli.output import as_json, foreign, print_json, table
from stream_app.ops.quarantine import QuarantineReport, Sample, quarantine
from stream_app.ops.views import database
from stream_app.plain import plain


def _options(parser: argparse.ArgumentParser) -> None:
    feed_option(parser)
    parser.add_argument("--reason", metavar="REASON", default="", help="only this one: missing:amount, missing")
    format_option(parser)


def _run(options: argparse.Namespace) -> int:
    with chosen(options) as (_, flows):
        reports = quarantine(database(), flows, options.reason)
    if options.format == "json":
        print_json(reports)
    else:
        for report in reports:
            _print(report, options.reason)
    return 0


def _print(report: QuarantineReport, asked: str) -> None:
    if not report.reasons:
        which = f", none with the reason {plain(asked)}" if asked else ""
        print(f"quarantine of {report.feed}: {report.records:,} records{which}")
        return
    title = f"quarantine of {report.feed}: {report.records:,} records; one may have several reasons"
    counts = table(title, "reason", "first (UTC)", "last (UTC)", numbers=("records",))
    for one in report.reasons:
        times = (f"{time:%Y-%m-%d %H:%M:%S}" for time in (one.first, one.last))
        counts.add_row(foreign(one.reason), *times, f"{one.records:,}")
    console = Console()
    console.print(counts)
    for one in report.reasons:
        console.print(foreign(f"{one.reason}, the newest:"))
        for sample in one.samples:
            console.print(foreign(f"  {_shown(sample)}"), overflow="ellipsis", no_wrap=True)


def _shown(sample: Sample) -> str:
    return f"{sample.partition}:{sample.offset} {as_json(sample.kafka_ts)} {sample.value}"


COMMAND = Command(
    about="""
        Shows how many records are in quarantine by reason, since when, and the newest of each as
        partition:offset, Kafka's time and value. A record that was replayed is still in quarantine.
    """,
    options=_options,
    run=_run,
    exits={0: "shown", 1: "a file cannot be read"},
    examples=("", "--reason=missing", "--reason=bad_type:amount --format=json"),
)
