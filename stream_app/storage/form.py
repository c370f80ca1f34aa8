"""What the files of an output are, Parquet or text: how tasks write them, and how several become one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from stream_app.storage.filesystem import Hadoop

WritePart = Callable[[Iterable[pa.RecordBatch], Path], int]
"""Writes rows to a new file; returns how many."""


class Form(Protocol):
    """The form of an output's files; storage/parquet.py and storage/lines.py have one each."""

    @property
    def extension(self) -> str:
        """What their names end with."""

    @property
    def lifts(self) -> bool:
        """Whether files from before and after their output has grown may be merged."""

    def part_writer(self, columns: pa.Schema) -> WritePart:
        """Return what a task writes its part of a batch with, which no reader sees."""

    def join(self, hadoop: Hadoop, parts: Sequence[Path], target: Path) -> Path:
        """Make one file of a batch's parts, in order; return it, which may be a part."""

    def merge(self, hadoop: Hadoop, files: Sequence[Path], target: Path) -> None:
        """Make one file of several whole ones, in order."""

    def holds(self, merged: Path, files: Sequence[Path]) -> bool:
        """Return whether a merged file may be trusted to have taken the place of those, the last that it holds."""

    def flaw(self, path: Path, columns: Collection[str]) -> str:
        """Return why a file is none of this form with those columns, as far as it tells without its rows; else ""."""

    def rows(self, path: Path) -> int:
        """Return how many rows a file holds; files never change, so it may be remembered."""
