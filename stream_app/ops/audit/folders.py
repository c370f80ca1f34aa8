"""What readers of the plain folders see and no checkpoint accounts for; files that are not what their names say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, islice
from pathlib import Path

import duckdb

from stream_app.admission import ownership
from stream_app.errors import ConfigError
from stream_app.flows.flow import Flow, Layer
from stream_app.layers import raw_csv
from stream_app.ops import views
from stream_app.ops.sql import name, text
from stream_app.sinks import dates
from stream_app.storage.batch_files import BatchFile

_EXAMPLES = 20


def strays(flow: Flow) -> Iterator[str]:
    """Yield a line for each of the first paths in the flow's folders that the flow has not written."""
    try:
        ownership.is_new(flow)
    except ConfigError as error:
        yield str(error)
    else:
        yield from map(str, islice(ownership.strays(flow), _EXAMPLES))


def uncommitted(flow: Flow) -> str:
    """Return which batches the checkpoint no longer has as committed, though a later one was planned; else "".

    A power cut may do it, for Spark flushes no commit. Their files are not looked at.
    """
    planned = flow.checkpoint.last_planned()
    committed = flow.checkpoint.last_committed()  # after the plan: it is never more than one behind
    first, last = (committed.batch_id if committed else -1) + 1, planned.batch_id - 1 if planned else -1
    return f"{flow.sink}: its checkpoint has no commit of batches {first} to {last}" if first <= last else ""


def strange(flow: Flow, files: Sequence[BatchFile], opened: views.Opened, *, late: bool) -> dict[Path, str]:
    """Return what is wrong with files of what follows silver, or of its late rows.

    Only what a file says of its columns is looked at, none of its rows.
    """
    if flow.layer is Layer.RAW_CSV:
        header = raw_csv.header(flow.feed).encode()
        return {file.path: "does not begin with its header" for file in files if not _begins(opened(file.path), header)}
    read, found = views.read_late if late else views.read, {}
    with views.database() as database:
        expected = _columns(database, read(flow, [], opened))
        for file in files:
            try:
                actual = _columns(database, read(flow, [file], opened))
            except duckdb.Error as error:
                found[file.path] = f"cannot be read: {views.one_line(error)}"
            else:
                if lacking := [column for column in expected if column not in actual]:
                    found[file.path] = f"lacks {', '.join(lacking)}"
    return found


def misplaced(flow: Flow, files: Sequence[BatchFile], opened: views.Opened) -> str:
    """Return the SQL for the rows of a lake that are in the folder of another date: the folder's name, and their date.

    Dates that are far from their batch's share a folder, in which any may be.
    """
    found, date = ["SELECT NULL, NULL WHERE false"], f"CAST({name(flow.feed.event_time.field)} AS DATE)"
    for folder, own in groupby(sorted(files, key=_folder), key=_folder):
        if folder.name != dates.SHARED:
            rows, label = views.read(flow, list(own), opened), text(folder.name)
            found.append(f"SELECT {label}, {date} FROM ({rows}) WHERE 'event_date=' || {date} <> {label}")
    return " UNION ALL ".join(found)


def _folder(file: BatchFile) -> Path:
    return file.path.parent


def _columns(database: duckdb.DuckDBPyConnection, sql: str) -> list[str]:
    return [str(row[0]) for row in database.sql(f"DESCRIBE {sql}").fetchall()]


def _begins(path: Path, header: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(header)) == header
