"""A table's folder in a POSIX file system: what is written there is flushed by us, for delta-rs flushes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from stream_app.errors import StreamAppError
from stream_app.storage.batch_files import data_paths, sync
from stream_app.storage.opened import Opened
from stream_app.storage.tables.place import Stored


@dataclass(frozen=True)
class OnDisk:
    """A folder (storage/tables/place.py has what is promised)."""

    folder: Path

    @property
    def location(self) -> str:
        """The folder, from the root on."""
        return str(self.folder)

    @property
    def options(self) -> Mapping[str, str]:
        """None: a path says it all."""
        return {}

    def told(self) -> AbstractContextManager[None]:
        """Leave errors as they are: a full disk is told of for all outputs alike."""
        return nullcontext()

    def mend(self) -> None:
        """Do nothing: parts are made where they belong, and `vacuum` deletes what no version names."""

    def probe(self) -> None:
        """Do nothing: a file system has one winner of each name."""

    def write(self, path: str, fill: Callable[[Path], object]) -> Stored:
        """Have the file written where it belongs: no reader sees it before a commit names it."""
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            fill(target)
            sync(target)
        except BaseException:  # a disk that is full must not be filled by attempts
            target.unlink(missing_ok=True)
            raise
        return self.look(path)

    def abandon(self, paths: Iterable[str]) -> None:
        """Delete them: a disk that is full must not be filled by attempts."""
        for path in paths:
            (self.folder / path).unlink(missing_ok=True)

    def settle(self, sizes: Mapping[str, int]) -> None:
        """Flush the folders; the tasks have flushed what is in the files."""
        for name, size in sizes.items():
            path = self.folder / name
            if not path.exists() or path.stat().st_size != size:
                problem = f"{path} was written by a task, and is not so here; driver and workers must share the folder"
                raise StreamAppError(problem)
        for folder in sorted({(self.folder / name).parent for name in sizes} | {self.folder}):
            sync(folder)

    def size(self, path: str) -> int | None:
        """Return it as the file system has it."""
        try:
            return (self.folder / path).stat().st_size
        except FileNotFoundError:
            return None

    def look(self, path: str) -> Stored:
        """Read its footer."""
        target = self.folder / path
        return Stored(target.stat().st_size, pq.read_metadata(target))

    @contextmanager
    def fetched(self, paths: Sequence[str]) -> Iterator[list[Path]]:
        """Yield the files themselves."""
        yield [self.folder / path for path in paths]

    def foreign(self) -> str | None:
        """Return the first one by name."""
        return next(map(str, data_paths(self.folder)), None)

    def source(self, path: str, opened: Opened) -> Path | str:
        """Return the path by which it is held open."""
        return opened(self.folder / path)

    def attach(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Do nothing: DuckDB reads disks."""
