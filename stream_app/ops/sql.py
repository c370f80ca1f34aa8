"""Names and values as SQL writes them."""

from __future__ import annotations

from collections.abc import Iterable


def name(column: str) -> str:
    """A column, be it one of SQL's own words."""
    return f'"{column}"'


def names(columns: Iterable[str]) -> str:
    """Several columns, with commas."""
    return ", ".join(map(name, columns))


def text(value: object) -> str:
    """A text, or what is written as one."""
    return "'" + str(value).replace("'", "''") + "'"


def paths(files: Iterable[object]) -> str:
    """A list of files, for DuckDB's readers."""
    return f"[{', '.join(map(text, files))}]"
