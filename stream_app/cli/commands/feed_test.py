"""Run the examples of feeds, and show what is not as expected."""

from __future__ import annotations

import argparse

from stream_app.cli.command import Command, feed_option, flag, format_option
from stream_app.cli.output import print_json
from stream_app.ops.feed_test import Tested, feed_test
from stream_app.plain import plain
from stream_app.settings import load_settings


def _options(parser: argparse.ArgumentParser) -> None:
    feed_option(parser, "all of FEEDS_PATH")
    flag(parser, "--accept", "take what is made for what is expected, and write it; it is shown first")
    format_option(parser)


def _run(options: argparse.Namespace) -> int:
    tested = feed_test(load_settings().feeds_path, options.feed, accept=options.accept)
    if options.format == "json":
        print_json(tested)
    else:
        _print(tested, accepted=options.accept)
    return 1 if tested.differs and not options.accept else 0


def _print(tested: Tested, *, accepted: bool) -> None:
    for case in tested.cases:
        outcome = "as expected" if not case.differences else "accepted" if accepted else "DIFFERS"
        print(f"{case.feed}/{plain(case.name)}: {case.records:,} records, {outcome}")
        for difference in case.differences:
            print("\n".join(map(plain, difference.diff.split("\n"))))
    for feed in tested.without:
        print(f"{feed}: no examples")


COMMAND = Command(
    about="""
        Runs each feed's own examples: <feed>.tests/<case>/input.jsonl beside its file in, quarantine with reasons,
        silver, windows, sessions and late rows out, compared with the files of the case. It judges by the service's
        own code. It needs no broker and no Spark, and takes seconds. docs/feeds.md#examples has the files.
    """,
    options=_options,
    run=_run,
    exits={0: "all is as expected, or is accepted", 1: "something differs; the diff says what"},
    examples=("", "--feed=transactions", "--feed=transactions --accept"),
    settings=("feeds_path",),
)
