"""Reconcile every output with bronze: nothing lost, nothing twice."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rich.box import SIMPLE
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from stream_app.cli.chosen import chosen, of_sink
from stream_app.cli.command import OF_FEEDS, Command, feed_option, flag, format_option, sink_option
from stream_app.cli.output import as_json, foreign, print_json, progress_bars
from stream_app.errors import ConfigError
from stream_app.feeds.load import feeds_in, load_feeds
from stream_app.gold.store import Gold
from stream_app.ops import audit as audits
from stream_app.ops.audit import Report, Verdict
from stream_app.ops.audit.gold import audit_gold
from stream_app.plain import plain
from stream_app.settings import Settings, load_settings

_EXITS = {Verdict.RIGHT: 0, Verdict.WRONG: 1, Verdict.NOT_AUDITED: 3}
_PROGRESS = "records judged"


def _options(parser: argparse.ArgumentParser) -> None:
    feed_option(parser)
    sink_option(parser, "only this sink, and bronze, silver and quarantine [all]")
    format_option(parser)
    flag(parser, "--batch", "audit the batch path alone")
    alone = "and audit the batch path alone [both where GOLD_PATH is there]"
    parser.add_argument(
        "--landing", metavar="FOLDER", default="", help=f"the landing zone, instead of LANDING_PATH, {alone}"
    )
    parser.add_argument(
        "--gold", metavar="FOLDER", default="", help="the folder of gold, instead of GOLD_PATH, likewise"
    )


def _run(options: argparse.Namespace) -> int:
    given = {"landing_path": options.landing, "gold_path": options.gold}
    settings = load_settings(**{name: value for name, value in given.items() if value})
    done = audits.AuditReport([*_of_streams(settings, options), *_of_gold(settings, options)])
    if options.format == "json":
        print_json([{"verdict": report.verdict, **as_json(report)} for report in done.feeds])
    else:
        for report in done.feeds:
            _print(report)
    return _EXITS[done.verdict]


def _of_streams(settings: Settings, options: argparse.Namespace) -> Sequence[Report]:
    """Audit what the service has written; nothing where the batch path is asked for, or is all that there is."""
    if _is_for_batches(options) or (_has_gold(settings, options) and not settings.output_path.exists()):
        return ()
    with chosen(options) as (_, flows), progress_bars(_PROGRESS) as progress:
        feeds = {flow.feed.name for flow in of_sink(flows, options.sink)}
        asked = [flow for flow in flows if flow.feed.name in feeds]
        done = audits.audit(asked, settings.servers, settings.max_files_per_sink, options.sink, progress).feeds
    if not options.feed and (others := audits.beside(asked)):
        every = ",".join([*settings.feeds, *others])
        print(f"audit: FEEDS names no {', '.join(others)}: not looked at; FEEDS={every} does", file=sys.stderr)
    return done


def _of_gold(settings: Settings, options: argparse.Namespace) -> Sequence[Report]:
    """Audit what the batch path has written, if it is asked for or there."""
    if not (_is_for_batches(options) or _has_gold(settings, options)):
        return ()
    names = [options.feed] if options.feed else feeds_in(settings.feeds_path)
    with progress_bars(_PROGRESS) as progress:
        feeds = load_feeds(settings.feeds_path, names)
        found = audit_gold(settings.landing_path, settings.gold_path, feeds, progress)
    if options.feed and not found and _is_for_batches(options):
        raise ConfigError(f"--feed: nothing of {options.feed} has landed; type: make land TOPIC={feeds[0].topic}")
    return found


def _is_for_batches(options: argparse.Namespace) -> bool:
    return bool(options.batch or options.landing or options.gold)


def _has_gold(settings: Settings, options: argparse.Namespace) -> bool:
    return not options.sink and Gold(settings.gold_path).newest() is not None


def _print(report: Report) -> None:
    """Print the counts, then a line for each finding, then the verdict."""
    title = f"audit of {report.feed}"
    table = Table(title=title, title_justify="left", box=SIMPLE, show_header=False, min_width=cell_len(title))
    for counted, count in report.counts.items():
        table.add_row(foreign(counted), f"{count:,}")
    Console().print(table)
    for line in report.wrong:
        print(f"WRONG {plain(line)}")
    for line in report.not_audited:
        print(f"NOT AUDITED {plain(line)}")
    for line in report.beyond:
        print(f"BEYOND AN AUDIT {plain(line)}")
    print(_sentence(report))


def _sentence(report: Report) -> str:
    if report.verdict is Verdict.WRONG:
        return f"{len(report.wrong)} things are wrong"
    looked_at = "nothing lost, nothing twice"
    return looked_at if report.verdict is Verdict.RIGHT else f"{looked_at} in what was looked at; not all was"


COMMAND = Command(
    about="""
        Proves from the files that nothing of bronze is lost, doubled or altered. Every record of bronze is judged
        again by the contract's definition: it is exactly silver's row of its place, exactly quarantine's with every
        reason, or repeats a row that silver kept. What follows silver is compared with silver row by row, or computed
        again. What a layer has not taken yet is counted as pending, and is no loss. Of the batch path each landed
        record is gold's row, or quarantine's, or repeats one of gold.
    """,
    options=_options,
    run=_run,
    exits={
        0: "all is right",
        1: "something is WRONG; the line names the records",
        3: "what was looked at is right, but not all could be looked at; a line NOT AUDITED says what",
    },
    examples=("", "--feed=transactions --sink=gold", "--format=json"),
    settings=(*OF_FEEDS, "database_url"),
)
