"""Where else a dataset is kept, as a feed file says it: `[sinks.<name>]`, and what was written otherwise up to 0.1.

The keys beside `of` and `to` are those of the kind, which sinks/registry.py knows and checks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from stream_app.feeds.parts import ColumnName, quoted


class SinkTable(BaseModel):
    """One `[sinks.<name>]`. Only the keys that all kinds have are checked here."""

    model_config = ConfigDict(frozen=True, extra="allow")

    of: ColumnName
    """The dataset that is kept."""
    to: str
    """The kind of sink."""


def moved(declared: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what to write instead of each sink that a feed file declares as it was done up to 0.1, after its key."""
    for part, line in MOVED.items():
        tables = declared.get(part, {})
        for name, keys in tables.items() if isinstance(tables, dict) else ():
            yield f"{part}.{name}", f"is written {line(name, keys if isinstance(keys, dict) else {})} since 0.2"


def _lake(name: str, keys: Mapping[str, Any]) -> str:
    return _written(name, {"of": "silver", "to": "lake", **keys})


def _topic(name: str, keys: Mapping[str, Any]) -> str:
    return _written(name, {"of": "silver", "to": "kafka", **keys})


def _table(name: str, keys: Mapping[str, Any]) -> str:
    return _written(f"postgres_{name}", {**keys, "to": "postgres", "table": name})


def _written(name: str, keys: Mapping[str, Any]) -> str:
    return f"[sinks.{name}] {', '.join(f'{key} = {quoted(value)}' for key, value in keys.items())}"


MOVED: Mapping[str, Callable[[str, Mapping[str, Any]], str]] = {"lakes": _lake, "topics": _topic, "tables": _table}
"""The parts that were, each with what makes the line of its tables."""
