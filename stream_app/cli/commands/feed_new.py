"""Write a first feed file from a sample of a live topic."""

from __future__ import annotations

import argparse

from stream_app.cli.command import Command, format_option, number
from stream_app.cli.output import print_json
from stream_app.errors import ConfigError
from stream_app.ops.feed_new import Written, feed_new
from stream_app.plain import plain
from stream_app.settings import load_settings


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--topic", metavar="TOPIC", default="", help="the topic to look at; there is no default")
    parser.add_argument("--feed", metavar="FEED", default="", help="what the feed is to be called [the topic's name]")
    parser.add_argument(
        "--sample", metavar="N", type=number, default=10_000, help="the most records to look at [10000]"
    )
    format_option(parser)


def _run(options: argparse.Namespace) -> int:
    if not options.topic:
        raise ConfigError("--topic: give the topic to look at, as in --topic=orders")
    settings = load_settings()
    written = feed_new(settings.kafka, settings.feeds_path, options.topic, options.feed, options.sample)
    if options.format == "json":
        print_json(written)
    else:
        _print(written)
    return 0


def _print(written: Written) -> None:
    print(f"{written.file}: written from {written.records:,} records")
    for reason, count in sorted(written.odd.items()):
        print(f"{count:,} of them are {reason}: quarantine will have them")
    for reason, count in sorted(written.refused.items()):
        print(f"{count:,} of them are refused: {plain(reason)}")
    for line in written.unread:
        print(f"not read: {plain(line)}")
    for line in written.guesses:
        print(f"a guess: {plain(line)}")
    print(f"next: look at the guesses, then make feed-check FEED={written.feed}, then put it into FEEDS")


COMMAND = Command(
    about="""
        Reads the newest records of a topic and writes FEEDS_PATH/<feed>.toml: each member with its type, optional or
        not, nested as found. The event time and what identifies a record are guesses, which the file marks as such.
        As it is written, the feed takes every record of the sample that is a JSON object. It overwrites nothing.
    """,
    options=_options,
    run=_run,
    exits={0: "written", 1: "no broker answers, or it refuses"},
    examples=("--topic=orders", "--topic=shop.orders.v1 --feed=orders --sample=100000"),
    settings=("feeds_path", "kafka_bootstrap_servers"),
)
