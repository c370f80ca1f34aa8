"""Check feed files: all mistakes at once, by file, line and key."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from stream_app.cli.command import Command, feed_option, format_option
from stream_app.cli.output import print_json
from stream_app.errors import ConfigError
from stream_app.ops.feed_check import Checked, feed_check
from stream_app.plain import plain
from stream_app.settings import load_settings


def _options(parser: argparse.ArgumentParser) -> None:
    feed_option(parser, "all of FEEDS_PATH")
    format_option(parser)


def _run(options: argparse.Namespace) -> int:
    checked = feed_check(load_settings().feeds_path, options.feed)
    if options.format == "json":
        print_json(checked)
    else:
        _print(checked)
    return ConfigError.exit_code if checked.mistakes else 0


def _print(checked: Checked) -> None:
    here = Path.cwd()
    for mistake in checked.mistakes:
        file = mistake.file.relative_to(here) if mistake.file.is_relative_to(here) else mistake.file
        print(plain(replace(mistake, file=file)))
    if not checked.mistakes:
        print(f"no mistakes in {', '.join(checked.feeds)}")


COMMAND = Command(
    about="""
        Reads the feed files as a start does, and prints each mistake as a line with file, line and key. It needs no
        broker, no database and no Spark. Without --feed all files of FEEDS_PATH are read, in FEEDS or not, and what
        two feeds cannot both have is a mistake, too.
    """,
    options=_options,
    run=_run,
    exits={0: "there is no mistake"},
    examples=("", "--feed=transactions --format=json"),
    settings=("feeds_path",),
)
