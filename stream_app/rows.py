"""How many rows a data file holds."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import duckdb
import pyarrow.parquet as pq


@cache
def count_rows(path: Path) -> int:
    """The rows of a Parquet or CSV file; files never change, so each is counted once."""
    if path.suffix == ".parquet":
        return int(pq.read_metadata(path).num_rows)
    sql = "SELECT count(*) FROM read_csv(?, header = true, all_varchar = true, max_line_size = 67108864)"
    with duckdb.connect() as database:  # its own: the module's shared one is not for several threads
        (rows,) = database.execute(sql, [str(path)]).fetchall()[0]
    return int(rows)
