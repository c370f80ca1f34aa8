"""The contract of a feed as others read it: an ODCS file, or the JSON Schema of a record."""

from __future__ import annotations

import argparse
import json

import yaml

from stream_app.cli.chosen import chosen
from stream_app.cli.command import Command, feed_option
from stream_app.errors import ConfigError
from stream_app.ops.exports.json_schema import json_schema
from stream_app.ops.exports.odcs import odcs


def _options(parser: argparse.ArgumentParser) -> None:
    feed_option(parser, "the one of FEEDS")
    parser.add_argument("--format", choices=("odcs", "jsonschema"), default="odcs", help="which of the two [odcs]")


def _run(options: argparse.Namespace) -> int:
    with chosen(options) as (settings, flows):
        names = dict.fromkeys(flow.feed.name for flow in flows)
        if len(names) > 1:
            raise ConfigError(f"--feed: a contract is of one feed; give one of {', '.join(names)}")
        if options.format == "jsonschema":
            print(json.dumps(json_schema(flows[0].feed), indent=2, ensure_ascii=False))
        else:
            made = odcs(flows, settings.kafka)
            print(yaml.safe_dump(made, sort_keys=False, allow_unicode=True, width=120), end="")
    return 0


COMMAND = Command(
    about="""
        Prints the contract of a feed for other programs: as YAML of the Open Data Contract Standard 3.1, with the
        columns of each dataset, their types, keys, rules and semantics, or as the JSON Schema of a record as it comes
        on the wire. What the feed takes, the schema takes. It reads the feed files alone.
    """,
    options=_options,
    run=_run,
    exits={0: "printed"},
    examples=("--feed=sales", "--feed=sales --format=jsonschema"),
)
