"""Which rows of silver were one batch, and the clock with which it began, as silver's own files say for ever.

Spark keeps the newest entries of a query's offset log alone, and merged files hold many batches. The audit needs both:
whether a record repeats another is measured by that clock (layers/silver.py).

`began` in a file's metadata is a JSON list of [batch, rows, microseconds], in the order of the rows; a batch that is
null is for several batches: the first of them began then. Files of older versions have none.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import pyarrow.parquet as pq

_KEY = b"began"
# Some 40 bytes each; of more batches in one file, neighbours are joined.
_MOST = 4_000


@dataclass(frozen=True)
class Began:
    """Rows that follow each other in a file: one batch, or None for several; and its clock, None if that is unknown."""

    batch: int | None
    rows: int
    clock: int | None


def pinned(batch: int, clock: int) -> dict[bytes, bytes]:
    """Return what the file of a batch says of the clock that it began with."""
    return {_KEY: json.dumps([[batch, None, clock]]).encode()}


def of(metadata: pq.FileMetaData) -> list[Began]:
    """Return what a file says; what somebody else has written there says nothing."""
    try:
        written = json.loads((metadata.metadata or {}).get(_KEY, b"[[null, null, null]]"))
        return [Began(batch, metadata.num_rows if rows is None else rows, clock) for batch, rows, clock in written]
    except (ValueError, TypeError):
        return [Began(None, metadata.num_rows, None)]


def merged(parts: Sequence[pq.FileMetaData]) -> dict[bytes, bytes]:
    """Return what a file says that holds the rows of those files; nothing if none of them says anything."""
    if not any(_KEY in (metadata.metadata or {}) for metadata in parts):
        return {}
    every = [began for metadata in parts for began in of(metadata)]
    found = []
    for batch, group in groupby(every, lambda began: began.batch):
        own = list(group)
        # rows of unknown batches stay apart from each other: their clocks differ
        found += own if batch is None else [Began(batch, sum(one.rows for one in own), own[0].clock)]
    while len(found) > _MOST:
        found = [_joined(found[place : place + 2]) for place in range(0, len(found), 2)]
    return {_KEY: json.dumps([[one.batch, one.rows, one.clock] for one in found]).encode()}


def _joined(pair: Sequence[Began]) -> Began:
    return pair[0] if len(pair) == 1 else Began(None, sum(one.rows for one in pair), pair[0].clock)
