"""May a query go on with its table? Looked at before each start, and the owner again before each batch.

Which query writes a table is in the table itself, so that a second service, or one with another checkpoint, is refused
wherever its folder is. A table that is let go, as by a reset, is made again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from stream_app import logs
from stream_app.admission.verdict import reset_command, restore_command
from stream_app.errors import ConfigError
from stream_app.feeds.growth import holds
from stream_app.flows.flow import Flow
from stream_app.sinks.partitioning import Partitioning
from stream_app.sinks.table_widening import widen
from stream_app.storage.tables.table import Table

_BEFORE_ALL = -1


def prepare(
    flow: Flow,
    table: Table,
    columns: pa.Schema,
    partitioning: Partitioning,
    kept_hours: int,
    statistics: Callable[[pq.FileMetaData], str],
) -> int:
    """Make the table, or check it, widen the columns that hold less and add the columns that it lacks; return how many.

    Raises ConfigError, one line with the command to type, where the query may not go on with it.
    """
    for line in table.mend():
        logs.warning(f"{flow.name}: {line}")
    owner = {"sink": flow.name, "query": flow.checkpoint.query_id() or ""}
    if not table.exists():
        if found := table.place.foreign():
            raise ConfigError(f"{found} is in the way of the table of {flow.name}; move it out of the folder")
        _check_batches(flow, table, None)
        table.create(columns, partitioning.columns, owner, kept_hours)
        return 0
    table.refresh()
    if table.owner.get("sink") == flow.name and (not table.owner["query"] or table.version == 0):
        _check_batches(flow, table, None)
        table.create(columns, partitioning.columns, owner, kept_hours)
        return 0
    check_owner(flow, table)
    _check_batches(flow, table, table.written(owner["query"]))
    for problem in _differences(table, columns, partitioning):
        raise ConfigError(f"the table {table.location} {problem}; reset it with: {reset_command(flow)}")
    if table.kept_hours != kept_hours:
        table.own(owner, kept_hours)
    wider = _own_columns(table, columns)
    widened = len([one for one in wider if one.type != table.columns.field(one.name).type])
    if widened:
        widen(flow.name, table, wider, statistics)
    added = pa.schema([field for field in columns if field.name not in table.columns.names])
    if added:
        table.add_columns(added)
        logs.info(f"{flow.name} added columns to its table", columns=",".join(added.names), version=table.version)
    return widened + len(added)


def check_owner(flow: Flow, table: Table) -> None:
    """Raise ConfigError where another query writes the table, or nobody of ours has made it."""
    owner = table.owner
    if "sink" not in owner:
        problem = f"{table.location} is a table that {flow.name} has not made"
        raise ConfigError(f"{problem}; move it away, or name another location")
    if owner["sink"] != flow.name:
        raise ConfigError(f"{table.location} is the table of {owner['sink']}; name another location for {flow.name}")
    if owner["query"] != flow.checkpoint.query_id():
        problem = f"the table {table.location} is written by another query of {flow.name}, of another checkpoint"
        go_on = "" if flow.aggregate else f"take it over with: {restore_command(flow)}, or "
        raise ConfigError(f"{problem}; if no other service runs, {go_on}empty it with: {reset_command(flow)}")


def _check_batches(flow: Flow, table: Table, written: int | None) -> None:
    """Raise ConfigError where the table, written up to that batch, and the checkpoint have not the same batches."""
    committed, planned = flow.checkpoint.last_committed(), flow.checkpoint.last_planned()
    if committed and (written is None or written < committed.batch_id):
        problem = f"the table {table.location} lacks batches of {flow.name} that its checkpoint has"
        raise ConfigError(f"{problem}; put it back, or reset it with: {reset_command(flow)}")
    if written is not None and written > (planned.batch_id if planned else _BEFORE_ALL):
        problem = f"the table {table.location} has batches of {flow.name} that its checkpoint lacks"
        go_on = "" if flow.aggregate else f"go on from what it has with: {restore_command(flow)}, or "
        raise ConfigError(f"{problem}; {go_on}reset it with: {reset_command(flow)}")


def _differences(table: Table, columns: pa.Schema, partitioning: Partitioning) -> Iterator[str]:
    """Yield how the table differs from what is to be written, but for columns that it lacks."""
    if features := table.foreign_features():
        yield f"has features that this service does not write ({', '.join(features)})"
    if table.partitioned_by != partitioning.columns:
        by = [", ".join(one) or "nothing" for one in (table.partitioned_by, partitioning.columns)]
        yield f"is partitioned by {by[0]}, and by the feed file by {by[1]}"
    has, wanted = table.columns, table.as_stored(columns)
    if foreign := [name for name in has.names if name not in wanted.names]:
        yield f"has columns that the feed no longer has ({', '.join(foreign)})"
    changed = [
        field for field in wanted if field.name in has.names and not holds(field.type, has.field(field.name).type)
    ]
    if changed:
        one = changed[0]
        yield f"has {has.field(one.name).type} in its column {one.name}, where the feed has {one.type}"


def _own_columns(table: Table, columns: pa.Schema) -> pa.Schema:
    """Return the columns of the table in the types of those columns."""
    wanted = table.as_stored(columns)
    return pa.schema([wanted.field(name) for name in table.columns.names])
