"""How many rows a data file holds."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

# Said rather than left to DuckDB, which guesses it from the first rows and fails at the first quote after those.
# It takes sixteen times the longest line as a buffer: with 1 GiB an audit was out of memory.
CSV_DIALECT = """header = true, delim = ',', quote = '"', escape = '"', max_line_size = 67108864"""


def literal(path: Path) -> str:
    """The path as DuckDB's readers take it: no sign of it is a pattern, and no first part a home or a scheme."""
    return re.sub(r"[*?[]", r"[\g<0>]", str(path.absolute()))


@lru_cache(maxsize=10_000)  # each batch asks, for months
def count_rows(path: Path) -> int:
    """The rows of a Parquet or CSV file; files never change, so each is counted once in a while."""
    if path.suffix == ".parquet":
        return int(pq.read_metadata(path).num_rows)
    sql = f"SELECT count(*) FROM read_csv(?, all_varchar = true, hive_partitioning = false, {CSV_DIALECT})"  # noqa: S608 - our own text
    with duckdb.connect() as database:  # its own: the module's shared one is not for several threads
        (rows,) = database.execute(sql, [literal(path)]).fetchall()[0]
    return int(rows)
