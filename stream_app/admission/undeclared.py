"""Up to 0.1 every feed had a CSV, which no feed file declared: it must not end without a word."""

from __future__ import annotations

from stream_app.errors import ConfigError
from stream_app.flows.flow import Flow
from stream_app.storage.layout import Layout

_CSV = "raw_csv"


def refuse(bronze: Flow) -> None:
    """Raise ConfigError, with the lines to add, where a feed has such a CSV on disk and declares none."""
    layout = Layout(bronze.root, bronze.feed.name, _CSV)
    if layout.owner.exists() and _CSV not in {flow.sink for flow in bronze.of_feed()}:
        line = f'[sinks.{_CSV}] of = "silver", to = "csv"'
        problem = f"{layout.output} is a CSV of {bronze.feed.name} that its feed file does not declare"
        raise ConfigError(f"{problem}; add {line} to go on with it, or move the folder away")
