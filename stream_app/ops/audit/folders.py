"""What readers of the plain folders see and no checkpoint accounts for; files that are not what their names say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import duckdb

from stream_app.admission import ownership
from stream_app.flows.flow import Flow
from stream_app.ops import views
from stream_app.sinks.protocol import Opened
from stream_app.storage.batch_files import BatchFile

_EXAMPLES = 20


def strays(flow: Flow) -> Iterator[str]:
    """Yield a line for each of the first paths in the flow's folders that the flow has not written."""
    if lost := ownership.checkpoint_lost(flow):
        yield lost.sentence
    else:
        yield from (stray.sentence for stray in islice(ownership.strays(flow), _EXAMPLES))


def uncommitted(flow: Flow) -> str:
    """Return which batches the checkpoint no longer has as committed, though a later one was planned; else "".

    A power cut may do it, for Spark flushes no commit. Their files are not looked at.
    """
    planned = flow.checkpoint.last_planned()
    committed = flow.checkpoint.last_committed()  # after the plan: it is never more than one behind
    first, last = (committed.batch_id if committed else -1) + 1, planned.batch_id - 1 if planned else -1
    return f"{flow.sink}: its checkpoint has no commit of batches {first} to {last}" if first <= last else ""


def strange(
    database: duckdb.DuckDBPyConnection, flow: Flow, files: Sequence[BatchFile], opened: Opened, *, late: bool
) -> dict[Path, str]:
    """Return what is wrong with files of what follows silver, or of its late rows; any database will do.

    Only what a file says of its columns is looked at, none of its rows.
    """
    form = flow.form_of(flow.layout.late_name if late else flow.sink)
    found = {file.path: flaw for file in files if form and (flaw := form.flaw(opened(file.path)))}
    if form is None or not form.says_columns:
        return found
    read = views.read_late if late else views.read
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


def _columns(database: duckdb.DuckDBPyConnection, sql: str) -> list[str]:
    return [str(row[0]) for row in database.sql(f"DESCRIBE {sql}").fetchall()]
