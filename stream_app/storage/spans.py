"""What a file of bronze says of runs of its rows, in its Parquet metadata, for ever.

Each key has a JSON list of [rows, value], in the order of the rows. Where `rows` is null the value is that of all rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow.parquet as pq

Span = tuple[int, Any]
"""So many rows, and the value that they have."""


def of_all_rows(key: bytes, value: object) -> dict[bytes, bytes]:
    """Return the metadata of a file whose rows have that value."""
    return {key: json.dumps([[None, value]]).encode()}


def of_spans(key: bytes, spans: Iterable[Span]) -> dict[bytes, bytes]:
    """Return the metadata of a file whose rows have those values; neighbours with one value become one span."""
    together = [[sum(rows for rows, _ in own), value] for value, own in groupby(spans, lambda span: span[1])]
    return {key: json.dumps(together).encode()}


def read(metadata: pq.FileMetaData, key: bytes, default: object) -> list[Span]:
    """Return the spans of a file; one with the default where the file says nothing."""
    return said(metadata.metadata or {}, metadata.num_rows, key, default)


def said(says: Mapping[bytes, bytes], all_rows: int, key: bytes, default: object) -> list[Span]:
    """Return the same of a file of so many rows that says that of itself."""
    written = says.get(key)
    spans: list[list[Any]] = [[None, default]] if written is None else json.loads(written)
    return [(all_rows if rows is None else rows, value) for rows, value in spans]


def ends(spans: Sequence[Span]) -> np.ndarray:
    """Return the row after the last of each span."""
    return np.cumsum([rows for rows, _ in spans])


def number_of(ends_: np.ndarray, first: int, number: int) -> np.ndarray:
    """Return the number of the span of each of so many rows from row `first` on."""
    return np.searchsorted(ends_, np.arange(first, first + number), side="right")
