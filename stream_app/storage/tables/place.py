"""Where the files of a table lie: what its writers, its readers and its log's library ask of a folder or of a store.

A place is chosen once, from its location (places.py), and nobody asks which kind it is. It is a value: tasks get one
with what they write. Files are named from the table's folder on. A file never changes, and no name is used again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import duckdb
import pyarrow.parquet as pq

from stream_app.storage.opened import Opened


@dataclass(frozen=True)
class Stored:
    """A Parquet file that is where it belongs."""

    size: int
    footer: pq.FileMetaData


class Place(Protocol):
    """The folder of one table."""

    @property
    def location(self) -> str:
        """The folder as people and the log's library call it: a path from the root on, or a URL."""

    @property
    def options(self) -> Mapping[str, str]:
        """What the log's library needs to reach it; of these some are secret."""

    def told(self) -> AbstractContextManager[None]:
        """Have what goes wrong in the block told as a StreamAppError, one line without a secret.

        UnavailableError is for what may be well again by itself.
        """

    def mend(self) -> None:
        """Delete what a task or a command that died has left in the making."""

    def probe(self) -> None:
        """Try whether commits are safe there. Raises ConfigError where they are not, or nothing can be put."""

    def write(self, path: str, fill: Callable[[Path], object]) -> Stored:
        """Have a Parquet file written by `fill`, which gets where. When this returns, no power cut takes it back."""

    def abandon(self, paths: Iterable[str]) -> None:
        """Delete files that were written, and that no commit can name any more, where that is sure."""

    def settle(self, sizes: Mapping[str, int]) -> None:
        """Have the names of files that tasks wrote on the disk, too. Raises StreamAppError where one is not so."""

    def size(self, path: str) -> int | None:
        """Return how large a file is, in bytes; None where it is not there."""

    def look(self, path: str) -> Stored:
        """Return what there is of a Parquet file. Raises FileNotFoundError, pyarrow.ArrowInvalid."""

    def fetched(self, paths: Sequence[str]) -> AbstractContextManager[list[Path]]:
        """Yield files on this machine that hold the same as those. Raises FileNotFoundError."""

    def foreign(self) -> str | None:
        """Return one file that a reader of the plain folder would take for data; None where there is none."""

    def source(self, path: str, opened: Opened) -> Path | str:
        """Return a file as DuckDB's readers take it: a path, or a URL."""

    def attach(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Have that connection read what `source` returns."""
