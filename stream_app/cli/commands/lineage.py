"""Where data comes from and goes to, by column, as the feed files declare it."""

from __future__ import annotations

import argparse

from stream_app.cli.chosen import chosen
from stream_app.cli.command import Command, feed_option
from stream_app.cli.output import print_json
from stream_app.ops.lineage import lineage, mermaid


def _options(parser: argparse.ArgumentParser) -> None:
    feed_option(parser)
    parser.add_argument("--format", choices=("mermaid", "json"), default="mermaid", help="how to print it [mermaid]")


def _run(options: argparse.Namespace) -> int:
    with chosen(options) as (_, flows):
        found = lineage(flows)
    if options.format == "json":
        print_json(found)
    else:
        print(mermaid(found))
    return 0


COMMAND = Command(
    about="""
        Prints the topics, lookups, datasets and sinks of the feeds, and what goes from where to where, as a flowchart
        of Mermaid. As JSON it has the columns of each, what every column is made of, and which columns decide on rows.
        It reads the feed files alone: no broker, no database, no Spark, and no output.
    """,
    options=_options,
    run=_run,
    exits={0: "printed"},
    examples=("", "--feed=sales --format=json"),
)
