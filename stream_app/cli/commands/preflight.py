"""Look whether what a run needs is there: brokers, topics, Spark, room on the disks."""

from __future__ import annotations

import argparse
import sys

from rich.console import Console

from stream_app.cli.command import Command, format_option, number
from stream_app.cli.output import foreign, print_json, table
from stream_app.plain import plain
from stream_app.runtime.preflight import Needed, preflight
from stream_app.settings import load_settings

_MISSING, _WRONG = 1, 2


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--topics", metavar="TOPICS", default="", help="topics that must exist, with commas between")
    parser.add_argument("--brokers", metavar="N", type=number, default=1, help="how many brokers must be up [1]")
    parser.add_argument(
        "--free-mb",
        metavar="MB",
        type=number,
        default=1000,
        help="room that LANDING_PATH and GOLD_PATH must have [1000]",
    )
    format_option(parser)


def _run(options: argparse.Namespace) -> int:
    settings = load_settings()
    topics = [name.strip() for name in options.topics.split(",") if name.strip()]
    folders = {"LANDING_PATH": settings.landing_path, "GOLD_PATH": settings.gold_path}
    needed = Needed(topics, options.brokers, options.free_mb)
    checked = preflight(settings.kafka, settings.spark, folders, needed)
    if options.format == "json":
        print_json(checked)
    else:
        shown = table("what a run needs", "", "is there", "")
        for one in checked:
            shown.add_row(foreign(one.name), "yes" if one.is_there else "NO", foreign(one.sentence))
        Console().print(shown)
    missing = [one for one in checked if not one.is_there]
    if missing:  # the last line, which a scheduler quotes
        sys.stdout.flush()
        problem = "; ".join(f"{one.name}: {one.sentence}" for one in missing)
        print(f"preflight: {plain(problem)}", file=sys.stderr)
    return max((_WRONG if one.is_final else _MISSING for one in missing), default=0)


COMMAND = Command(
    about="""
        Looks whether brokers answer, topics exist, Spark could start and the disks have room, and changes nothing. A
        scheduler calls it first: what a later try may find otherwise is exit code 1, what somebody must set right is 2.
    """,
    options=_options,
    run=_run,
    exits={0: "all is there", 1: "something is away for now; the table says what"},
    examples=("--topics=user_events,transaction_events", "--brokers=3 --format=json"),
    settings=("kafka_bootstrap_servers", "landing_path", "gold_path", "spark_master"),
)
