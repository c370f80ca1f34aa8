"""Make tables of what has landed: one batch job on Spark."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime

from stream_app import logs
from stream_app.cli.command import Command, flag
from stream_app.errors import ConfigError
from stream_app.feeds.feed import Feed
from stream_app.feeds.load import feeds_in, load_feeds
from stream_app.feeds.parts import quoted
from stream_app.gold import etl
from stream_app.gold.manifest import Manifest
from stream_app.gold.plan import Selection
from stream_app.gold.store import FORMS
from stream_app.gold.tables import check, load_tables
from stream_app.landing.zone import Zone
from stream_app.runtime import submit
from stream_app.settings import Settings, load_settings


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--feeds", metavar="FEEDS", default="", help="with commas between [all whose topic has landed]")
    parser.add_argument("--landing", metavar="FOLDER", default="", help="the landing zone [LANDING_PATH]")
    parser.add_argument("--gold", metavar="FOLDER", default="", help="the folder of the tables [GOLD_PATH]")
    parser.add_argument(
        "--name", metavar="NAME", default="etl", help="what Spark's page and the manifest call it [etl]"
    )
    form = "how the tables are kept; a folder of gold has one [as it is, in a new one parquet]"
    parser.add_argument("--format", choices=[*FORMS], default="", help=form)
    parser.add_argument("--master", metavar="URL", default="", help="where Spark runs [SPARK_MASTER]")
    time = "take again what has landed from this hour on, as 2026-11-27 or 2026-11-27T14, in UTC"
    parser.add_argument("--since", metavar="TIME", type=_hour, help=time)
    parser.add_argument("--until", metavar="TIME", type=_hour, help="the same, up to and without this hour")
    flag(parser, "--full", "make every table again, of all that has landed")


def _hour(text: str) -> datetime:
    with suppress(ValueError, OverflowError):
        time = datetime.fromisoformat(text)
        time = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
        if (time.minute, time.second, time.microsecond) == (0, 0, 0):
            return time
    raise argparse.ArgumentTypeError(f"{quoted(text)} is no whole hour such as 2026-11-27T14")


def _run(options: argparse.Namespace) -> int:
    """Make the tables. This runs twice: as the process that becomes spark-submit, and in it."""
    if options.full and (options.since or options.until):
        raise ConfigError("--full: takes all that has landed; leave out --since and --until")
    if options.since and options.until and options.since >= options.until:
        raise ConfigError("--until: is not after --since, so nothing would be taken")
    given = {"landing_path": options.landing, "gold_path": options.gold, "spark_master": options.master}
    settings = load_settings(**{name: value for name, value in given.items() if value})
    job = _job(settings, options)
    if submit.is_submitted():
        logs.configure(settings.log_format)
        manifest = etl.run(settings, job, lambda: etl.session(settings.spark, job.name))
        _print(manifest)
        return 0
    with etl.planned(settings, job) as plan:
        is_empty = plan.is_empty
    if not is_empty:
        submit.become_spark_submit(settings.spark, settings.log_format, ["etl", *sys.argv[2:]])
    _print(None)
    return 0


def _job(settings: Settings, options: argparse.Namespace) -> etl.Job:
    known = load_feeds(settings.feeds_path, feeds_in(settings.feeds_path))
    tables = load_tables(settings.feeds_path.parent / "gold")
    check(tables, [feed.name for feed in known])
    feeds = _chosen(settings, known, [name.strip() for name in options.feeds.split(",") if name.strip()])
    selection = Selection(options.since, options.until, options.full)
    return etl.Job(feeds, {feed.name: feed for feed in known}, tables, selection, options.name, options.format)


def _chosen(settings: Settings, known: Sequence[Feed], names: Sequence[str]) -> list[Feed]:
    by_name = {feed.name: feed for feed in known}
    if strange := [name for name in names if name not in by_name]:
        raise ConfigError(f"--feeds: there is no feed {strange[0]}; there are: {', '.join(by_name)}")
    landed = [feed for feed in known if Zone(settings.landing_path, feed.topic).about.exists()]
    if names and (missing := [name for name in names if by_name[name] not in landed]):
        topic = by_name[missing[0]].topic
        raise ConfigError(f"--feeds: nothing of {missing[0]} has landed; type: make land TOPIC={topic}")
    if not landed:
        problem = f"{settings.landing_path} has no topic of any feed"
        raise ConfigError(f"LANDING_PATH: {problem}; land one first, as by: make land TOPIC=user_events")
    return [by_name[name] for name in names] or landed


def _print(manifest: Manifest | None) -> None:
    """Print the summary, as JSON on one line."""
    counts = [count for taken in manifest.feeds.values() for count in taken.files.values()] if manifest else []
    summary = {
        "run": manifest.run if manifest else None,
        "files": len(counts),
        **{name: sum(count[name] for count in counts) for name in ("records", "rows", "quarantined")},
        "days": {table: len(days) for table, days in (manifest.days if manifest else {}).items()},
    }
    print(json.dumps(summary), flush=True)


COMMAND = Command(
    about="""
        Judges the landed files that no run has taken by the contracts of their feeds, and makes tables of them:
        GOLD_PATH/<feed>/event_date=.../ has each key once a day, GOLD_PATH/quarantine/<feed>/ what was refused, with
        every reason. Then it makes the tables by SQL of the folder gold beside FEEDS_PATH. Readers see all tables
        change at once; Delta tables each at once. It is one spark-submit; without anything new it starts none. It may
        be killed at any time. The last line that it prints is a summary as JSON.
    """,
    options=_options,
    run=_run,
    exits={
        0: "all is made, or there was nothing new",
        1: "a landed file is damaged, another run is at it, or the disk is full",
    },
    examples=(
        "",
        "--format=delta",
        "--feeds=user_events",
        "--since=2026-11-26 --until=2026-11-27",
        "--full --master=spark://host:7077",
    ),
    settings=("landing_path", "gold_path", "feeds_path", "retention_hours", "spark_master", "spark_driver_memory"),
)
