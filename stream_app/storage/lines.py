"""Files of text: a header if there is one, then a record a line. Nothing here knows their columns."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from stream_app.storage.filesystem import Hadoop
from stream_app.storage.form import WritePart
from stream_app.storage.row_counts import count_rows

LINE = "line"
"""The column of what a task writes: records with their line separators."""
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Lines:
    """Records that are lines, as JSON's; storage/form.py has what it is asked for."""

    extension: str
    header: bytes = b""
    """That of a new file, with its line separator; older ones may have fewer columns in theirs."""
    lifts: bool = False

    def part_writer(self, columns: pa.Schema) -> WritePart:  # noqa: ARG002 - they have one, LINE
        """Return what writes one record a row, without the header."""
        return _write

    def join(self, hadoop: Hadoop, parts: Sequence[Path], target: Path) -> Path:  # noqa: ARG002 - no Parquet
        """Write the header, then the records of all parts."""
        _concat(parts, target, self.header, 0)
        return target

    def merge(self, hadoop: Hadoop, files: Sequence[Path], target: Path) -> None:  # noqa: ARG002 - no Parquet
        """Write the header, which all of them have, then the records of all files."""
        header = self._header_of(files[0])
        _concat(files, target, header, len(header))

    def holds(self, merged: Path, files: Sequence[Path]) -> bool:
        """Return whether the last records of a merged file are those of the files, in order."""
        size = len(self._header_of(merged))
        sizes = [file.stat().st_size - size for file in files]
        with merged.open("rb") as whole:
            whole.seek(max(size, merged.stat().st_size - sum(sizes)))
            for file in files:
                with file.open("rb") as source:
                    source.seek(size)
                    while chunk := source.read(_CHUNK):
                        if whole.read(len(chunk)) != chunk:
                            return False
        return True

    def flaw(self, path: Path, columns: Collection[str]) -> str:  # noqa: ARG002 - a line says them itself
        """Return nothing: there is no header."""
        return ""

    def rows(self, path: Path) -> int:
        """Return how many lines a file has beside the header."""
        with path.open("rb") as file:
            lines = sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(_CHUNK), b""))
        return lines - self.header.count(b"\n")

    def _header_of(self, path: Path) -> bytes:
        """Return a file's header; no name of a column has a line break."""
        if not self.header:
            return b""
        with path.open("rb") as file:
            return file.readline()


@dataclass(frozen=True)
class Csv(Lines):
    """RFC 4180: a record may have line breaks, in quotes."""

    extension: str = "csv"

    def flaw(self, path: Path, columns: Collection[str]) -> str:
        """Return whether a file lacks the header with those of the columns that a CSV of today has."""
        shown = self.header.decode().rstrip().split(",")
        header = ",".join(column for column in columns if column in shown) + "\r\n"
        return "" if self._header_of(path) == header.encode() else "does not begin with its header"

    def rows(self, path: Path) -> int:
        """Return how many records a file has beside the header."""
        return count_rows(path)


def _write(batches: Iterable[pa.RecordBatch], target: Path) -> int:
    rows = 0
    with target.open("wb") as file:
        for batch in batches:
            file.write(_text(batch[LINE]))
            rows += batch.num_rows
    return rows


def _concat(files: Sequence[Path], target: Path, header: bytes, skipped: int) -> None:
    with target.open("wb") as out:
        out.write(header)
        for file in files:
            with file.open("rb") as source:
                source.seek(skipped)
                shutil.copyfileobj(source, out, _CHUNK)


def _text(lines: pa.StringArray) -> memoryview:
    """Return all lines, one after the other, which is how Arrow has them in memory."""
    _, offsets, data = lines.buffers()
    bounds = pa.Array.from_buffers(pa.int32(), len(lines) + 1, [None, offsets], offset=lines.offset)
    return memoryview(data)[bounds[0].as_py() : bounds[-1].as_py()]
