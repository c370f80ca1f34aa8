"""The outputs as DuckDB views: `<feed>.<layer>`, and `<layer>` alone for the first feed. Times are shown in UTC."""

from __future__ import annotations

import math
import os
import resource
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from itertools import takewhile
from pathlib import Path

import duckdb

from stream_app.errors import StreamAppError
from stream_app.feeds.feed import Feed
from stream_app.feeds.parts import Measure
from stream_app.flows.flow import Flow, Layer
from stream_app.ops.sql import name, paths, read_parquet, text, view
from stream_app.storage.batch_files import BatchFile, batch_files, standing
from stream_app.storage.row_counts import csv_dialect

COORDINATES = {"kafka_ts": "TIMESTAMPTZ", "topic": "VARCHAR", "partition": "INTEGER", "offset": "BIGINT"}
Opened = Callable[[Path], Path]
_DESCRIPTORS = Path("/proc/self/fd")
_ATTEMPTS = 5


class FilesChangedError(Exception):
    """Retention has merged files since the position up to which they were to be read."""


@contextmanager
def connected(flows: Sequence[Flow]) -> Iterator[duckdb.DuckDBPyConnection]:
    """As `connect`; what retention deletes meanwhile can be read until the end."""
    with OpenFiles() as files:
        yield _connect_to_all(flows, files)


def _connect_to_all(flows: Sequence[Flow], files: OpenFiles) -> duckdb.DuckDBPyConnection:
    for _ in range(_ATTEMPTS):
        with suppress(FileNotFoundError):  # a file went between the listing and the opening
            return connect(flows, files.path)
    problem = f"the files changed {_ATTEMPTS} times while they were looked up; try again"
    raise StreamAppError(problem)


def connect(flows: Sequence[Flow], opened: Opened = Path) -> duckdb.DuckDBPyConnection:
    """An in-memory database with a view for each flow that writes files, over those that stand now.

    Files that a compacted file has taken the place of are left out, so each batch counts once.
    """
    connection = database()
    for flow in flows:
        feed = flow.feed.name
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {name(feed)}")
        if flow.layer not in {Layer.TOPIC, Layer.TABLE}:
            connection.execute(f"CREATE VIEW {view(feed, flow.sink)} AS {select(flow, opened=opened)}")
        if flow.layer in {Layer.GOLD, Layer.SESSIONS}:
            connection.execute(f"CREATE VIEW {view(feed, flow.layout.late_name)} AS {select_late(flow, opened=opened)}")
    connection.execute(f"SET search_path = '{flows[0].feed.name},main'")
    return connection


def database() -> duckdb.DuckDBPyConnection:
    """An empty in-memory database that shows times in UTC; what memory does not hold goes to the temporary folder."""
    connection = duckdb.connect()
    # by default it would be the working folder, which a container may not write
    connection.execute(f"SET TimeZone = 'UTC'; SET temp_directory = {text(_spill().name)}")
    return connection


class OpenFiles(ExitStack):
    """Files that can be read until this is closed, even if somebody deletes them.

    On Linux, and as many as half of what a process may open; others are read where they are.
    """

    def __init__(self) -> None:
        super().__init__()
        self._opened: dict[Path, Path] = {}
        self._room = 0.0
        if _DESCRIPTORS.is_dir():
            _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
            self._room = math.inf if most == resource.RLIM_INFINITY else most / 2

    def path(self, path: Path) -> Path:
        """By which path the file is read. Raises FileNotFoundError where it has gone already."""
        if path not in self._opened and len(self._opened) < self._room:
            descriptor = os.open(path, os.O_RDONLY)
            self.callback(os.close, descriptor)
            # by the process's number, so that those that it starts can read the file, too
            self._opened[path] = Path(f"/proc/{os.getpid()}/fd/{descriptor}")
        return self._opened.get(path, path)

    def named(self, error: str) -> str:
        """Return what was said of the files as of their real paths."""
        for path, opened in sorted(self._opened.items(), key=lambda item: len(str(item[1])), reverse=True):
            error = error.replace(str(opened), str(path))
        return error


def one_line(error: duckdb.Error) -> str:
    """Return what is wrong, without DuckDB's advice and the SQL."""
    lines = takewhile(lambda line: line and not line.startswith(("LINE ", "Possible ")), str(error).splitlines())
    return " ".join(" ".join(lines).split())


@cache
def _spill() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="duckdb-")


def select(flow: Flow, opened: Opened = Path) -> str:
    """The SQL that reads the flow's files that stand now."""
    return read(flow, flow.files(), opened)


def select_late(flow: Flow, opened: Opened = Path) -> str:
    """The same for the rows that came after their window or session was final."""
    return read_late(flow, standing(batch_files(flow.layout.late, flow.layout.late_name)), opened)


def up_to(found: Sequence[BatchFile], batch: float) -> list[BatchFile]:
    """The files of the batches up to one. Raises FilesChangedError where one was merged across it."""
    files = [file for file in found if file.first <= batch]
    for file in files:
        if file.last > batch:
            msg = f"{file.path} holds batches on both sides of the committed one, {batch}"
            raise FilesChangedError(msg)
    return files


def read(flow: Flow, files: Sequence[BatchFile], opened: Opened = Path) -> str:
    """The SQL that reads those files of the flow; no rows, but all columns, where there are none."""
    rows = _read(files, _columns(flow), opened)
    if flow.layer is not Layer.LAKE:
        return rows
    # the folders' names say it too, but DuckDB would take every `name=value` on the way to them for a column
    utc = f"{name(flow.feed.event_time.field)} AT TIME ZONE 'UTC'"
    return f"SELECT *, CAST({utc} AS DATE) AS event_date FROM ({rows})"


def read_late(flow: Flow, files: Sequence[BatchFile], opened: Opened = Path) -> str:
    """The same for files of the rows that came after their window or session was final."""
    windows = {"window_start": "TIMESTAMPTZ", "window_end": "TIMESTAMPTZ"} if flow.is_windowed else {}
    return _read(files, windows | declared(flow.feed) | COORDINATES, opened)


def _read(files: Sequence[BatchFile], columns: Mapping[str, str], opened: Opened) -> str:
    if not files:
        nulls = (f"NULL::{kind} AS {name(column)}" for column, kind in columns.items())
        return f"SELECT {', '.join(nulls)} WHERE false"
    read = [opened(file.path) for file in files]
    if files[0].path.suffix == f".{Layer.RAW_CSV.extension}":
        typed = ", ".join(f"{text(column)}: {text(kind)}" for column, kind in columns.items())
        given = f"hive_partitioning = false, columns = {{{typed}}}, {csv_dialect(read)}"
        return f"SELECT * FROM read_csv({paths(read)}, {given})"
    return f"SELECT * FROM {read_parquet(read)}"


def declared(feed: Feed) -> dict[str, str]:
    """The feed's columns and their types."""
    return {column: field.as_type.duckdb for column, field in feed.fields.items()}


def _columns(flow: Flow) -> dict[str, str]:
    fields = declared(flow.feed)
    match flow.layer:
        case Layer.BRONZE:
            return {
                "key": "VARCHAR",
                "value": "BLOB",
                "headers": "STRUCT(key VARCHAR, value BLOB)[]",
            } | COORDINATES
        case Layer.QUARANTINE:
            texts = {"key": "VARCHAR", "value": "BLOB", "value_text": "VARCHAR", "reasons": "VARCHAR[]"}
            return texts | COORDINATES
        case Layer.SILVER | Layer.LAKE:
            return fields | COORDINATES
        case Layer.GOLD:
            keys = {key: fields[key] for key in flow.window.keys}
            windows = {"window_start": "TIMESTAMPTZ", "window_end": "TIMESTAMPTZ"} | keys
            return windows | {column: _measured(flow.feed, m) for column, m in flow.window.measures.items()}
        case Layer.SESSIONS:
            keys = {key: fields[key] for key in flow.session.keys}
            times = {"session_start": "TIMESTAMPTZ", "session_end": "TIMESTAMPTZ"}
            return keys | times | {"duration_seconds": "DOUBLE", "events": "BIGINT", "outcome": "VARCHAR"}
        case _:
            return fields


def _measured(feed: Feed, measure: Measure) -> str:
    if measure.field is None or measure.function == "distinct":
        return "BIGINT"
    if feed.fields[measure.field].sum_is_wide(measure.function):
        return "DECIMAL(38,0)"
    decimal = feed.fields[measure.field].precision_scale
    if decimal is None:
        return feed.fields[measure.field].as_type.duckdb if measure.function != "avg" else "DOUBLE"
    # as Spark: ten more digits for a sum, four more and four more decimals for an average
    more, finer = {"sum": (10, 0), "avg": (4, 4)}.get(measure.function, (0, 0))
    return f"DECIMAL({min(38, decimal[0] + more)},{decimal[1] + finer})"
