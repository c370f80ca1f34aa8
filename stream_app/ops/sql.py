"""Names and values as SQL writes them.

Every name that a feed file gives goes through `name`, for it may be a word of SQL. Names that we give beside those
begin with an underscore, which no feed's can (declared.IDENTIFIER).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from stream_app.storage.row_counts import literal


def name(column: str) -> str:
    """Return a name as it is, be it one of SQL's own words."""
    return '"' + column.replace('"', '""') + '"'


def view(feed: str, sink: str) -> str:
    """Return what an output of a feed is called (views.connect)."""
    return f"{name(feed)}.{name(sink)}"


def names(columns: Iterable[str]) -> str:
    """Several columns, with commas."""
    return ", ".join(map(name, columns))


def text(value: object) -> str:
    """A text, or what is written as one."""
    return "'" + str(value).replace("'", "''") + "'"


def paths(files: Iterable[Path]) -> str:
    """A list of files, for DuckDB's readers."""
    return f"[{', '.join(text(literal(file)) for file in files)}]"


def read_parquet(files: Iterable[Path]) -> str:
    """The rows of those files, whatever the folders above them are called: `env=prod` is no column."""
    return f"read_parquet({paths(files)}, hive_partitioning = false)"
