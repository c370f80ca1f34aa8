"""Write the small files of Delta tables again as large ones."""

from __future__ import annotations

import argparse

from stream_app.cli.chosen import chosen, of_sink
from stream_app.cli.command import Command, feed_option, format_option, sink_option
from stream_app.cli.output import print_json
from stream_app.ops.tables import Optimized, optimize
from stream_app.plain import plain

_CHANGED = 1


def _options(parser: argparse.ArgumentParser) -> None:
    feed_option(parser)
    sink_option(parser, "the one table to optimize [all]")
    format_option(parser)


def _run(options: argparse.Namespace) -> int:
    found = []
    with chosen(options) as (_, flows):
        for one in optimize(of_sink(flows, options.sink)):
            found.append(one)
            if options.format != "json":
                _print(one)
    if options.format == "json":
        print_json(found)
    elif not found:
        print("nothing to do: no table has small files")
    return _CHANGED if any(one.after is None for one in found) else 0


def _print(one: Optimized) -> None:
    became = "changed meanwhile, and stays as it is" if one.after is None else f"{one.files:,} files are {one.after:,}"
    where = f" {one.partition}" if one.partition else ""
    print(plain(f"{one.sink}{where}: {became} ({one.bytes / 1e6:,.2f} MB)"), flush=True)


COMMAND = Command(
    about="""
        Writes files below 128 MB again as files of about 256 MB, partition by partition. A table with cluster_by is
        sorted, so that rows that are near by any of its columns are in one file. No row changes, and each partition is
        one version. Rows that may change yet are left out. It works beside a running service. What it replaces stays
        for the versions that need it, until make vacuum.
    """,
    options=_options,
    run=_run,
    exits={0: "done", 1: "a partition changed meanwhile; it is as it was, so run it again"},
    examples=("", "--sink=table"),
)
