"""The newest rows of each output."""

from __future__ import annotations

import argparse

from stream_app.cli.chosen import chosen, of_sink
from stream_app.cli.command import OF_FEEDS, Command, feed_option, format_option, sink_option
from stream_app.cli.output import print_json
from stream_app.ops.show import Shown, Unreadable, show
from stream_app.plain import plain

_WIDTH = 200


def _options(parser: argparse.ArgumentParser) -> None:
    feed_option(parser)
    sink_option(parser, "the one sink to show [all]")
    format_option(parser)


def _run(options: argparse.Namespace) -> int:
    with chosen(options) as (settings, flows):
        report = show(settings.servers, of_sink(flows, options.sink))
        if options.format == "json":
            print_json([_as_json(output) for output in report.outputs])
            return 0
        for output in report.outputs:
            if isinstance(output, Unreadable):
                print(f"\n{plain(output.trouble)}")
            else:
                print(f"\n{output.name}: {output.count:,} rows in {plain(output.place)}")
                output.newest.relation().show(max_width=_WIDTH)
    return 0


def _as_json(output: Shown | Unreadable) -> dict[str, object]:
    if isinstance(output, Unreadable):
        return {"name": output.name, "trouble": output.trouble}
    newest = list(output.newest.records())
    return {"name": output.name, "place": output.place, "rows": output.count, "newest": newest}


COMMAND = Command(
    about="Shows how many rows each output has, and its five newest rows.",
    options=_options,
    run=_run,
    exits={0: "shown; of a table that cannot be read, why", 1: "a file cannot be read"},
    examples=("", "--feed=transactions --sink=gold"),
    settings=(*OF_FEEDS, "database_url"),
)
