"""Take what a topic holds into files of the landing zone: one bounded run."""

from __future__ import annotations

import argparse
import json
import math
from contextlib import suppress
from functools import partial

from stream_app.cli.command import Command, number
from stream_app.cli.output import as_json, progress_bars
from stream_app.errors import ConfigError
from stream_app.feeds.parts import quoted
from stream_app.landing import land as landing
from stream_app.settings import load_settings


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--topic", metavar="TOPIC", default="", help="the topic to land; there is no default")
    parser.add_argument(
        "--seconds",
        metavar="S",
        type=_seconds,
        default=30.0,
        help="how long to read at most [30]",
    )
    parser.add_argument("--max-records", metavar="N", type=number, default=0, help="the most records to take [all]")
    parser.add_argument("--landing", metavar="FOLDER", default="", help="the landing zone [LANDING_PATH]")
    parser.add_argument("--group", metavar="GROUP", default="", help="the consumer group [stream-app-land-<topic>]")


def _seconds(text: str) -> float:
    with suppress(ValueError):
        if 0 < (seconds := float(text)) < math.inf:
            return seconds
    raise argparse.ArgumentTypeError(f"{quoted(text)} is no number of seconds above 0")


def _run(options: argparse.Namespace) -> int:
    if not options.topic:
        raise ConfigError("--topic: give the topic to land, as in --topic=user_events")
    settings = load_settings(**({"landing_path": options.landing} if options.landing else {}))
    request = landing.Request(options.topic, options.seconds, options.max_records, options.group)
    with progress_bars("offsets read") as progress:
        landed = landing.land(settings, request, partial(progress, options.topic))
    print(json.dumps(as_json(landed)))
    return 0


COMMAND = Command(
    about="""
        Takes the records of a topic into files of the landing zone, a line of JSON a record, with the value as it came:
        LANDING_PATH/<topic>/date=.../hour=.../<topic>_p<partition>_<first>-<last offset>.jsonl.zst. It goes on where
        the run before it ended. It ends when it has what the topic held as it began, or when its time is up. A file
        appears whole, and then its offsets are committed. It may be killed at any time: the next run lands nothing
        twice and loses nothing. The last line that it prints is a summary as JSON: `behind` says how much is left.
    """,
    options=_options,
    run=_run,
    exits={
        0: "all is landed that there was, or the time is up",
        1: "records expired or cannot be read, another run is at it, the disk is full, or no broker answers",
    },
    examples=("--topic=user_events", "--topic=user_events --seconds=60 --max-records=100000"),
    settings=("landing_path", "kafka_bootstrap_servers", "kafka_isolation_level", "fail_on_data_loss"),
)
