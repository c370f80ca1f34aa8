"""The versions of Delta tables, with batch and offsets."""

from __future__ import annotations

import argparse

from stream_app.cli.chosen import chosen, of_sink
from stream_app.cli.command import Command, feed_option, format_option, number, sink_option
from stream_app.cli.output import foreign, print_json, print_wide, table
from stream_app.ops.tables import History, history

_NEWEST = 20
_NARROWEST = 150


def _options(parser: argparse.ArgumentParser) -> None:
    feed_option(parser)
    sink_option(parser, "the one table to show [all]")
    parser.add_argument(
        "--most", metavar="N", type=number, default=_NEWEST, help=f"how many versions to show [{_NEWEST}]"
    )
    format_option(parser)


def _run(options: argparse.Namespace) -> int:
    with chosen(options) as (_, flows):
        found = history(of_sink(flows, options.sink), options.most)
    if options.format == "json":
        print_json(found)
    else:
        for one in found:
            _print(one)
    return 0


def _print(of: History) -> None:
    texts = ("time (UTC)", "what", "taken of the layer before")
    shown = table(f"{of.sink} in {of.place}", *texts, numbers=("version", "batch", "rows"))
    for one in of.versions:
        numbers = ("" if value is None else f"{value:,}" for value in (one.version, one.batch, one.rows))
        shown.add_row(f"{one.time:%Y-%m-%d %H:%M:%S}", foreign(one.what), foreign(one.offsets), *numbers)
    print_wide(shown, _NARROWEST)


COMMAND = Command(
    about="""
        Shows the newest versions of each Delta table: when each was made, what it changed, its batch and what that has
        read. A version of make query is AT (VERSION => 12). An added column and merged files are versions, too.
    """,
    options=_options,
    run=_run,
    exits={0: "shown"},
    examples=("", "--feed=transactions --sink=table --format=json"),
)
