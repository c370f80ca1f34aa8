"""How many rows a data file holds."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from functools import cache, lru_cache
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from stream_app.feeds.sql import text

_SMALLEST_BUFFER = 32 << 20
_LARGEST_BUFFER = 1 << 30
_REMEMBERED = 50_000
"""Of how many files the count is kept: more than 50 feeds have, each with ten outputs. One less than there are would
have each look at them count all anew."""


def csv_dialect(paths: Iterable[Path]) -> str:
    """Return the options by which DuckDB reads these CSV files.

    Left to itself, DuckDB guesses from the first rows and fails at the first quote after those.
    No line is longer than its file, so a buffer that holds the file reads any. It is allocated for each thread.
    """
    longest = max(path.stat().st_size for path in paths)
    buffer = min(max(longest, _SMALLEST_BUFFER), _LARGEST_BUFFER)
    # a thread that begins in the middle of a file may take what is in a long text's quotes for records
    parallel = "true" if longest <= buffer else "false"
    limits = f"max_line_size = {buffer}, buffer_size = {buffer + 1}, parallel = {parallel}"
    return f"""header = true, delim = ',', quote = '"', escape = '"', {limits}"""


def literal(path: Path) -> str:
    """Return the path as DuckDB's readers take it.

    No sign of it is a pattern, and its first part is neither a home nor a scheme.
    """
    return re.sub(r"[*?[]", r"[\g<0>]", str(path.absolute()))


def paths(files: Iterable[Path | str]) -> str:
    """Return a list of files as SQL, for DuckDB's readers; URLs are texts, and have no sign of a pattern."""
    return f"[{', '.join(text(file if isinstance(file, str) else literal(file)) for file in files)}]"


def read_parquet(files: Iterable[Path | str]) -> str:
    """Return the SQL for the rows of those files, whatever the folders above them are: `env=prod` is no column.

    It has the columns of all files, by name: older ones may lack some, or have narrower types.
    """
    return f"read_parquet({paths(files)}, hive_partitioning = false, union_by_name = true)"


@lru_cache(maxsize=_REMEMBERED)  # each batch asks, for months
def count_rows(path: Path) -> int:
    """Return how many rows a Parquet or CSV file has.

    Files never change, so each is counted once in a while.
    """
    if path.suffix == ".parquet":
        return int(pq.read_metadata(path).num_rows)
    sql = f"SELECT count(*) FROM read_csv(?, all_varchar = true, hive_partitioning = false, {csv_dialect([path])})"  # noqa: S608 - our own text
    with _database(os.getpid()).cursor() as database:
        (rows,) = database.execute(sql, [literal(path)]).fetchall()[0]
    return int(rows)


@cache
def _database(_: int) -> duckdb.DuckDBPyConnection:
    """Return a process's own DuckDB. Each thread needs a cursor of it; a database of its own costs ten times that."""
    return duckdb.connect()
