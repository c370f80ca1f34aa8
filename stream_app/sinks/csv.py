"""How the CSV files are written: the records that layers/raw_csv.py made, under one header."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa

from stream_app.feed import Feed
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


def merge(feed: Feed, parts: Sequence[Path], target: Path, *, headed: bool) -> None:
    """One header, then the records of all parts, in order; `headed` says whether each part has a header of its own."""
    header = raw_csv.header(feed).encode()
    with target.open("wb") as out:
        out.write(header)
        for part in parts:
            with part.open("rb") as source:
                source.seek(len(header) if headed else 0)
                shutil.copyfileobj(source, out, 1 << 20)


def ends_with(feed: Feed, merged: Path, parts: Sequence[Path]) -> bool:
    """Whether the last records of a merged file are those of the parts, in order; each has a header of its own."""
    header = len(raw_csv.header(feed).encode())
    sizes = [part.stat().st_size - header for part in parts]
    with merged.open("rb") as whole:
        whole.seek(max(header, merged.stat().st_size - sum(sizes)))
        for part in parts:
            with part.open("rb") as source:
                source.seek(header)
                while chunk := source.read(1 << 20):
                    if whole.read(len(chunk)) != chunk:
                        return False
    return True
