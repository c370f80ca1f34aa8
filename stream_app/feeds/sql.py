"""Names and values as SQL writes them.

Every name that a feed file gives goes through `name`, for it may be a word of SQL. Names that we give beside those
begin with an underscore, which no feed's can (feeds/parts.py, IDENTIFIER).
"""

from __future__ import annotations

from collections.abc import Iterable


def name(column: str) -> str:
    """Return a name as it is, even one of SQL's own words."""
    return '"' + column.replace('"', '""') + '"'


def view(feed: str, sink: str) -> str:
    """Return what an output of a feed is called (ops/views.py)."""
    return f"{name(feed)}.{name(sink)}"


def names(columns: Iterable[str]) -> str:
    """Return several columns, with commas."""
    return ", ".join(map(name, columns))


def text(value: object) -> str:
    """Return a text, or what is written as one."""
    return "'" + str(value).replace("'", "''") + "'"
