"""Create the topics of the feeds where they are missing."""

from __future__ import annotations

import argparse
import os

from stream_app.cli.chosen import chosen
from stream_app.cli.command import Command, feed_option, format_option
from stream_app.cli.output import print_json
from stream_app.ops.topics import topics
from stream_app.sinks.protocol import topics_of


def _options(parser: argparse.ArgumentParser) -> None:
    feed_option(parser)
    format_option(parser)


def _run(options: argparse.Namespace) -> int:
    with chosen(options) as (settings, flows):
        # a setting of the producer: its topic is to be there, too
        of_producer = os.environ.get("KAFKA_TOPIC", "").strip()
        of_feeds = (topic for flow in flows for topic in topics_of(flow))
        report = topics(settings.kafka, filter(None, (*of_feeds, of_producer)))
    if options.format == "json":
        print_json(report.topics)
    else:
        for topic in report.topics:
            how = f"created, {topic.partitions} partitions" if topic.partitions else "is there"
            print(f"topic {topic.name}: {how}")
    return 0


COMMAND = Command(
    about="""
        Creates the topics that the feeds read and write, and KAFKA_TOPIC, where they are missing. It waits a minute
        for a broker. A topic that exists is left as it is. Compose runs this once before the service.
    """,
    options=_options,
    run=_run,
    exits={0: "all topics are there", 1: "no broker answers, or it refuses"},
    examples=("", "--feed=user_activity"),
    settings=("feeds", "feeds_path", "kafka_bootstrap_servers"),
)
