"""What a command is about: the settings, and the flows that --feed and --sink choose."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import duckdb

from stream_app.errors import ConfigError, StreamAppError, no_room_is_expected
from stream_app.flows.flow import Flow
from stream_app.settings import Settings, load_settings
from stream_app.sinks.registry import load_flows


@contextmanager
def chosen(options: argparse.Namespace) -> Iterator[tuple[Settings, tuple[Flow, ...]]]:
    """Yield the settings, and the flows of --feed, or of FEEDS where that is not given.

    Raises ConfigError for a feed that is not there. Raises StreamAppError, one line, where the block cannot use
    OUTPUT_PATH, or DuckDB refuses.
    """
    settings = load_settings()
    named = (options.feed,) if options.feed else settings.feeds
    found = load_flows(settings.feeds_path, named, settings.output_path, settings.tables)
    try:
        with no_room_is_expected(settings.output_path):
            yield settings, found
    except duckdb.Error as error:
        raise StreamAppError(" ".join(str(error).split())) from None


def of_sink(found: Sequence[Flow], sink: str) -> tuple[Flow, ...]:
    """Return the flows of that sink, all where it is empty. Raises ConfigError where no feed has it."""
    if sink and sink not in {flow.sink for flow in found}:
        there_are = ", ".join(dict.fromkeys(flow.sink for flow in found))
        raise ConfigError(f'--sink: "{sink}" is none of {there_are}')
    return tuple(flow for flow in found if sink in {"", flow.sink})
