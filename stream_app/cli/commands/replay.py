"""Take records out of quarantine that pass by now."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial

from rich.console import Console

from stream_app.cli.chosen import chosen, of_sink
from stream_app.cli.command import Command, feed_option, flag, format_option, sink_option
from stream_app.cli.output import foreign, print_json, table
from stream_app.contract.contract import FORGIVABLE
from stream_app.errors import ConfigError
from stream_app.flows.flow import Flow
from stream_app.ops.replay import ReplayReport, replay
from stream_app.plain import plain
from stream_app.sources.lookups import pin_of_now


def _options(parser: argparse.ArgumentParser) -> None:
    feed_option(parser)
    sink_option(parser, "where records go: silver, which the others follow [silver]")
    parser.add_argument("--reason", metavar="REASON", default="", help="only records with it: missing:amount, missing")
    parser.add_argument("--allow", choices=[FORGIVABLE], help="a reason that keeps no record out")
    flag(parser, "--dry-run", "only count, by reason")
    format_option(parser)


def _run(options: argparse.Namespace) -> int:
    with chosen(options) as (settings, flows):
        _check_sink(flows, options.sink)
        is_late = options.allow == FORGIVABLE
        pin_of = partial(pin_of_now, folder=settings.feeds_path, database_url=settings.database_url)
        asked = {"reason": options.reason, "allow_late": is_late, "is_dry": options.dry_run}
        done = replay(settings.output_path, flows, **asked, pin_of=pin_of)
    if options.format == "json":
        print_json(done)
    else:
        for report in done:
            _print(report, options.reason)
    return 0


def _check_sink(flows: Sequence[Flow], sink: str) -> None:
    taking = {flow.sink for flow in flows if flow.kind.takes_replayed and flow.is_own}
    if of_sink(flows, sink) and sink not in {"", *taking}:
        raise ConfigError(f"--sink: records go to {', '.join(taking)} alone, and what follows it follows; leave it out")


def _print(report: ReplayReport, reason: str) -> None:
    found = table(f"quarantine of {report.feed}, by reason", "reason", numbers=("passes now", "fails still"))
    for one in sorted({*report.passing, *report.failing}):
        found.add_row(foreign(one), f"{report.passing[one]:,}", f"{report.failing[one]:,}")
    if found.rows:
        Console().print(found)
    else:
        which = f" has the reason {plain(reason)}" if reason else ""
        there_are = f"; there are {plain(', '.join(report.reasons))}" if report.reasons else ""
        print(f"{report.feed}: no record that waits in quarantine{which}{there_are}")
    if report.ledger:
        when = "now" if report.is_running else "with the next start"
        print(f"{report.records:,} records are in the ledger ({report.ledger}); silver takes them {when}")


COMMAND = Command(
    about="""
        Judges the quarantined records again by today's feed file, after a rule was mended. Records that pass go into
        the feed's ledger, which silver's query reads beside bronze. Gold and the CSV follow silver. A second
        replay takes nothing twice.
    """,
    options=_options,
    run=_run,
    exits={0: "done", 1: "a file cannot be read or written"},
    examples=("--dry-run", "--reason=not_allowed:currency", "--allow=late"),
)
