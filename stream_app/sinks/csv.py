"""How the CSV files are written: the records that layers/raw_csv.py made, under one header."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from stream_app.layers import raw_csv


def write(batches: Iterable[pa.RecordBatch], target: Path) -> int:
    """Write one record a row, without a header; their number."""
    rows = 0
    with target.open("wb") as file:
        for batch in batches:
            file.write(_text(batch[raw_csv.LINE]))
            rows += batch.num_rows
    return rows


def _text(lines: pa.StringArray) -> memoryview:
    """All lines, one after the other, which is how Arrow has them in memory."""
    _, offsets, data = lines.buffers()
    bounds = pa.Array.from_buffers(pa.int32(), len(lines) + 1, [None, offsets], offset=lines.offset)
    return memoryview(data)[bounds[0].as_py() : bounds[-1].as_py()]
