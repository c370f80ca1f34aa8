"""SQL over the outputs, by DuckDB."""

from __future__ import annotations

import argparse
import csv
import json
import sys

from stream_app.cli.chosen import chosen, of_sink
from stream_app.cli.command import OF_FEEDS, Command, feed_option, format_option, sink_option
from stream_app.cli.output import as_json, print_json
from stream_app.ops.query import as_typed, query
from stream_app.ops.rows import Rows

_SHOWN_ROWS = 1000
# What DuckDB counts of a result before it says that there are more.
_COUNTED_ROWS = 10_000
_WIDTH = 200


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sql", metavar="SQL", default="", help="the statement; of several the last one's rows")
    feed_option(parser)
    sink_option(parser, "only this sink; without --sql its rows [all]")
    format_option(parser, "ndjson", "csv")


def _run(options: argparse.Namespace) -> int:
    with chosen(options) as (settings, found):
        flows = of_sink(found, options.sink)
        sql = options.sql or (f"FROM {as_typed(flows[0])}" if options.sink else "")
        limit = _COUNTED_ROWS if options.format == "table" else None
        if (rows := query(settings.servers, flows, sql, limit)) is not None:
            _print(rows, options.format)
    return 0


def _print(rows: Rows, kind: str) -> None:
    match kind:
        case "json":
            print_json(list(rows.records()))
        case "ndjson":
            for record in rows.records():
                print(json.dumps(as_json(record)))
        case "csv":
            writer = csv.writer(sys.stdout)
            writer.writerow(rows.table.column_names)
            writer.writerows(map(_cell, record.values()) for record in rows.records())
        case _:
            rows.relation().show(max_rows=_SHOWN_ROWS, max_width=_WIDTH)


def _cell(value: object) -> object:
    """Return text and numbers as they are, and lists and structures as JSON."""
    shown = as_json(value)
    return json.dumps(shown) if isinstance(shown, list | dict) else shown


COMMAND = Command(
    about="""
        Runs SQL over the outputs by DuckDB. A view is called <feed>.<sink>, and <sink> alone for the first feed.
        Tables of PostgreSQL are <feed>.postgres_<table>; make psql asks PostgreSQL itself. A table shows at most
        1,000 rows; the other formats have all.
    """,
    options=_options,
    run=_run,
    exits={0: "it ran", 1: "DuckDB refused the SQL, or a file or the database cannot be read"},
    examples=(
        '--sql="SELECT status, count(*) FROM silver GROUP BY ALL"',
        '--sql="FROM quarantine" --format=ndjson',
        "--sink=gold",
    ),
    settings=(*OF_FEEDS, "database_url"),
)
