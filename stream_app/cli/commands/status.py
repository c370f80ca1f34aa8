"""A row a sink: state, last batch, rows, lag, newest file."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

from rich.box import SIMPLE
from rich.console import Group, OverflowMethod, RenderableType
from rich.table import Table

from stream_app.cli.chosen import chosen, of_sink
from stream_app.cli.command import Command, feed_option, format_option, sink_option
from stream_app.cli.output import foreign, print_json, print_wide
from stream_app.ops.status import SinkStatus, StatusReport, status

_NARROWEST = 186


def table(report: StatusReport) -> RenderableType:
    """Return the report as a table, and under it what is wrong or waits."""
    result = Table(title=foreign(report.root), title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0))
    for title, is_text, _ in _COLUMNS:
        overflow: OverflowMethod = "fold" if is_text else "ellipsis"
        result.add_column(title, justify="left" if is_text else "right", overflow=overflow)
    for row in report.sinks:
        result.add_row(*(cell(row) for _, _, cell in _COLUMNS))
    remarks = (foreign(f"{row.feed}.{row.sink}: {remark}") for row in report.sinks for remark in _remarks(row))
    return Group(result, *remarks)


def _remarks(row: SinkStatus) -> Iterator[str]:
    if row.state_rows:
        yield f"its state holds {row.state_rows:,} keys, and grows with them"
    for one in row.lookups:
        yield f"lookups.{one.lookup} is snapshot {one.snapshot[:8]} of {one.rows:,} rows, taken {_age(one.age)} ago"
    if row.held:
        yield f"{row.held:,} records wait for open transactions"
    if row.last_error:
        yield row.last_error
    if row.refused:
        yield f"its topic refused {row.refused:,} records since the start, see the log"


def _show(value: object) -> str:
    return "-" if value is None else str(value)


def _age(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


_COLUMNS: tuple[tuple[str, bool, Callable[[SinkStatus], RenderableType]], ...] = (
    ("sink", True, lambda row: f"{row.feed}.{row.sink}"),
    ("state", True, lambda row: foreign(row.state)),
    ("restarts", False, lambda row: str(row.restarts)),
    ("batch", False, lambda row: _show(row.last_batch)),
    ("age", False, lambda row: _age(row.last_batch_age)),
    ("files", False, lambda row: f"{row.files:,}"),
    ("rows", False, lambda row: f"{row.rows:,}"),
    ("MB", False, lambda row: f"{row.bytes / 1e6:,.2f}"),
    ("behind", False, lambda row: _show(row.behind)),
    ("complete up to", False, lambda row: f"{row.complete_up_to:%Y-%m-%d %H:%M:%S}" if row.complete_up_to else "-"),
    ("newest file", True, lambda row: _show(row.newest_file)),
    ("age", False, lambda row: _age(row.newest_file_age)),
    ("guarantee", True, lambda row: row.guarantee),
)
"""Each column: its title, whether it is text, and what it shows of a sink."""


def _options(parser: argparse.ArgumentParser) -> None:
    feed_option(parser)
    sink_option(parser, "the one sink to show [all]")
    format_option(parser)


def show(report: StatusReport, kind: str) -> None:
    """Print the report as a table, or as a JSON list of sinks."""
    if kind == "json":
        print_json(report.sinks)
    else:
        print_wide(table(report), _NARROWEST)


def _run(options: argparse.Namespace) -> int:
    with chosen(options) as (settings, flows):
        show(status(settings.output_path, of_sink(flows, options.sink)), options.format)
    return 0


COMMAND = Command(
    about="""
        Shows a row a sink: its state, restarts, last batch, files, rows, lag and newest file, and what went wrong last.
        Windows and sessions that end by "complete up to" (UTC) are final. With --format=json, silver has newest_taken:
        the newest Kafka timestamp taken of each partition.
        It reads the files and what the service last wrote of itself. So it works beside a running service and after.
    """,
    options=_options,
    run=_run,
    exits={0: "shown"},
    examples=("", "--feed=transactions --format=json"),
)
