"""The outputs as DuckDB views: `<feed>.<layer>`, and `<layer>` alone for the first feed. Times are shown in UTC."""

from __future__ import annotations

import math
import os
import resource
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from itertools import takewhile
from pathlib import Path
from types import TracebackType
from typing import Literal, TypeVar

import duckdb

from stream_app.errors import StreamAppError
from stream_app.feeds.sql import name, text, view
from stream_app.flows.flow import Flow
from stream_app.sinks.files import no_rows
from stream_app.sinks.protocol import sink_of
from stream_app.storage.batch_files import BatchFile, batch_files, standing
from stream_app.storage.opened import Opened
from stream_app.storage.row_counts import read_parquet

_DESCRIPTORS = Path("/proc/self/fd")
_ATTEMPTS = 5
T = TypeVar("T")


class FilesChangedError(Exception):
    """Retention has merged files since the position up to which they were to be read."""


@contextmanager
def connected(flows: Sequence[Flow]) -> Iterator[duckdb.DuckDBPyConnection]:
    """As `connect`; what retention deletes meanwhile can be read until the end."""
    with OpenFiles() as files:
        yield _connect_to_all(flows, files)


def _connect_to_all(flows: Sequence[Flow], files: OpenFiles) -> duckdb.DuckDBPyConnection:
    gone = ""
    for _ in range(_ATTEMPTS):
        try:
            return connect(flows, files.path)
        except FileNotFoundError as error:  # it went between the listing and the opening
            gone = error.filename
    problem = f"{gone} is missing, and was {_ATTEMPTS} times while the files were looked up; if it stays so: make audit"
    raise StreamAppError(problem)


def connect(flows: Sequence[Flow], opened: Opened = Path) -> duckdb.DuckDBPyConnection:
    """Return an in-memory database with a view for each flow that writes files.

    The views are over the files that are there now. Files that a compacted file has taken the place of are left out, so
    each batch counts once. A stateful flow has a view of its late rows, too.
    """
    connection = database()
    for flow in flows:
        feed = flow.feed.name
        sink_of(flow).attach(connection, flow)
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {name(feed)}")
        if rows := sink_of(flow).select(flow, flow.files(), opened):
            connection.execute(f"CREATE VIEW {view(feed, flow.sink)} AS {rows}")
        if flow.stateful and flow.is_own:
            connection.execute(f"CREATE VIEW {view(feed, flow.layout.late_name)} AS {select_late(flow, opened=opened)}")
    connection.execute(f"SET search_path = '{flows[0].feed.name},main'")
    return connection


def database() -> duckdb.DuckDBPyConnection:
    """Return an empty in-memory database that shows times in UTC.

    What memory does not hold goes to the temporary folder.
    """
    connection = duckdb.connect()
    # by default it would be the working folder, which a container may not write
    connection.execute(f"SET TimeZone = 'UTC'; SET temp_directory = {text(_spill().name)}")
    return connection


class OpenFiles(ExitStack):
    """Files that can be read until this is closed, even if somebody deletes them.

    On Linux, and as many as half of what a process may open; others are read where they are. An error of DuckDB that
    ends the block names their real paths.
    """

    def __init__(self) -> None:
        super().__init__()
        self._opened: dict[Path, Path] = {}
        self._room = 0.0
        if _DESCRIPTORS.is_dir():
            _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
            self._room = math.inf if most == resource.RLIM_INFINITY else most / 2

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> Literal[False]:
        """Close them."""
        super().__exit__(kind, error, trace)
        if isinstance(error, duckdb.Error) and (said := self.named(str(error))) != str(error):
            raise type(error)(said) from None
        return False

    def path(self, path: Path) -> Path:
        """By which path the file is read. Raises FileNotFoundError where it has gone already."""
        if path not in self._opened and len(self._opened) < self._room:
            descriptor = os.open(path, os.O_RDONLY)
            self.callback(os.close, descriptor)
            # by the process's number, so that processes that it starts can read the file, too
            self._opened[path] = Path(f"/proc/{os.getpid()}/fd/{descriptor}")
        return self._opened.get(path, path)

    def named(self, error: str) -> str:
        """Return what was said of the files as of their real paths."""
        for path, opened in sorted(self._opened.items(), key=lambda item: len(str(item[1])), reverse=True):
            error = error.replace(str(opened), str(path))
        return error


def steadily(flow: Flow, ask: Callable[[Opened], T]) -> T:
    """Return what is asked of a flow's files, which stay open meanwhile; again where one went while it was opened.

    Raises StreamAppError where they change too often.
    """
    for _ in range(_ATTEMPTS):
        with suppress(FileNotFoundError), OpenFiles() as files:
            return ask(files.path)
    raise StreamAppError(f"the files of {flow.name} changed {_ATTEMPTS} times while they were looked up; try again")


def one_line(error: duckdb.Error) -> str:
    """Return what is wrong, without DuckDB's advice and the SQL."""
    lines = takewhile(lambda line: line and not line.startswith(("LINE ", "Possible ")), str(error).splitlines())
    return " ".join(" ".join(lines).split())


@cache
def _spill() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="duckdb-")


def select(flow: Flow, opened: Opened = Path) -> str:
    """Return the SQL that reads the flow's files as they are now."""
    return read(flow, flow.files(), opened)


def select_late(flow: Flow, opened: Opened = Path) -> str:
    """Return the same for the rows that came after their window or session was final."""
    return read_late(flow, standing(batch_files(flow.layout.late, flow.layout.late_name)), opened)


def up_to(found: Sequence[BatchFile], batch: float) -> list[BatchFile]:
    """Return the files of the batches up to one. Raises FilesChangedError where one was merged across it."""
    files = [file for file in found if file.first <= batch]
    for file in files:
        if file.last > batch:
            msg = f"{file.path} holds batches on both sides of the committed one, {batch}"
            raise FilesChangedError(msg)
    return files


def read(flow: Flow, files: Sequence[BatchFile], opened: Opened = Path) -> str:
    """Return the SQL that reads those files of a flow that has files."""
    rows = sink_of(flow).select(flow, files, opened)
    assert rows is not None  # noqa: S101 - it has files
    return rows


def read_late(flow: Flow, files: Sequence[BatchFile], opened: Opened = Path) -> str:
    """Return the same for files of the rows that came after their window or session was final."""
    assert flow.stateful and flow.upstream  # noqa: S101 - rows can come too late for it
    none = no_rows(dict(flow.stateful.late_columns) | flow.upstream.kind.sql_columns)
    if not files:
        return none
    return f"{none} UNION ALL BY NAME FROM {read_parquet(opened(file.path) for file in files)}"
