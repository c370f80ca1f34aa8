"""Delete outputs, which are then made again."""

from __future__ import annotations

import argparse

from rich.console import Console
from rich.table import Table

from stream_app.cli.agreed import REFUSAL, REFUSED, agreed, yes_option
from stream_app.cli.chosen import chosen
from stream_app.cli.command import OF_FEEDS, Command, feed_option, format_option, sink_option
from stream_app.cli.output import print_json
from stream_app.ops.reset import Files, ResetPlan, apply, planned


def _options(parser: argparse.ArgumentParser) -> None:
    feed_option(parser)
    sink_option(parser, "the sink to reset, with all that follows it [bronze]")
    where = "earliest, latest or an ISO time: where bronze reads Kafka again [STARTING_OFFSETS]"
    parser.add_argument("--to", metavar="TO", default="", help=where)
    yes_option(parser, "delete without asking")
    format_option(parser)


def _run(options: argparse.Namespace) -> int:
    is_json = options.format == "json"
    with (
        chosen(options) as (settings, flows),
        planned(flows, settings.kafka, settings.starting_offsets, options.sink, options.to) as plan,
    ):
        if not is_json:
            _print(plan)
        is_agreed = not plan.sinks or agreed(options, "delete them?")
        if is_agreed:
            apply(plan)
    if is_json:
        print_json({"finished": plan.finished, "sinks": plan.sinks, "is_done": is_agreed})
    elif not is_agreed:
        print("nothing was changed")
    elif plan.sinks:
        print(f"done: {', '.join(sink.name for sink in plan.sinks)} read again with the next start")
    return 0 if is_agreed else REFUSED


def _print(plan: ResetPlan) -> None:
    if plan.finished:
        print(f"finished the reset that was cut short: {', '.join(plan.finished)} read again with the next start")
    if not plan.sinks:
        return
    table = Table(title="will be deleted", title_justify="left")
    for column in ("sink", "files", "rows", "MB", "then reads again from"):
        table.add_column(column, justify="left" if column in {"sink", "then reads again from"} else "right")
    for sink in plan.sinks:
        table.add_row(sink.name, *_sizes(sink.output), sink.reads_from)
        for what, held in (("rows that came too late", sink.late), ("replayed records", sink.replayed)):
            if held.files:
                table.add_row(f"  its {what}", *_sizes(held), "")
    Console().print(table)


def _sizes(held: Files) -> tuple[str, str, str]:
    return f"{held.files:,}", f"{held.rows:,}", f"{held.bytes / 1e6:,.2f}"


COMMAND = Command(
    about="""
        Shows what will be deleted and what will be read again, asks, then removes the checkpoints with their outputs.
        What follows the sink goes along: silver takes gold and raw_csv, bronze takes all. Silver and quarantine take
        each other along where the rules were changed since they began.

        It refuses while the service runs. --format=json does not ask: without --yes it only shows. A reset that was
        cut short is finished by the next one, which does nothing else where neither --sink nor --to is given.
    """,
    options=_options,
    run=_run,
    exits={0: "done", REFUSED: f"nothing was deleted, {REFUSAL}"},
    examples=("--sink=silver", "--feed=transactions --to=2026-11-21T08:00:00Z --yes"),
    settings=(*OF_FEEDS, "starting_offsets", "kafka_bootstrap_servers"),
)
