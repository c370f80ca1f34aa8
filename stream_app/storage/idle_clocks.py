"""How far the event time had gone without a record when rows came too late, as the files of late rows say for ever.

Spark keeps the newest entries of an offset log alone. The audit needs it, since no row of silver tells it.

`idle_clock` in a file's metadata are spans of rows (spans.py), each with microseconds since the epoch. It is 0 where
the clock never went by itself. A file has no list where that is so of all its rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow.parquet as pq

from stream_app.storage import spans

_KEY = b"idle_clock"


def pinned(clock: int) -> dict[bytes, bytes]:
    """Return what the file of a batch says that began with that clock."""
    return spans.of_all_rows(_KEY, clock) if clock else {}


def merged(parts: Sequence[pq.FileMetaData]) -> dict[bytes, bytes]:
    """Return what a file says that holds the rows of those files; nothing if none of them says anything."""
    if not any(_KEY in (metadata.metadata or {}) for metadata in parts):
        return {}
    return spans.of_spans(_KEY, (span for metadata in parts for span in spans.read(metadata, _KEY, 0)))


def of_rows(metadata: pq.FileMetaData) -> np.ndarray:
    """Return it for each row of a file."""
    own = spans.read(metadata, _KEY, 0)
    return np.repeat(np.array([clock for _, clock in own], np.int64), [rows for rows, _ in own])
