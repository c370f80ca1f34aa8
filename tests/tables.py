"""A Delta table as the service writes it, without Spark: parts by the tasks' own code, commits by the driver's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stream_app.flows.batch import Batch
from stream_app.flows.flow import Flow
from stream_app.sinks.protocol import rows_of, sink_of
from stream_app.sinks.table_parts import PART, PartWriter, whole
from stream_app.sinks.tables import TableSink
from stream_app.sources.split import Split, encoded
from stream_app.storage.batch_files import BatchFile
from stream_app.storage.offsets import LayerOffset
from stream_app.storage.tables.delta import Delta
from stream_app.storage.tables.delta_on_disk import DeltaOnDisk
from stream_app.storage.tables.delta_statistics import statistics
from stream_app.storage.tables.on_disk import OnDisk
from stream_app.storage.tables.table import Mark, Part
from tests.helpers import START_MS

COLUMNS = pa.schema([("number", pa.int64()), ("text", pa.string())])
OWNER = {"sink": "transactions.x", "query": "q"}


def new(root: Path, columns: pa.Schema = COLUMNS, owner: Mapping[str, str] = OWNER) -> DeltaOnDisk:
    """An empty table."""
    table = DeltaOnDisk(OnDisk(root))
    table.create(columns, (), owner, 168)
    return table


def part(table: Delta, batch: int, rows: Sequence[Mapping[str, Any]], columns: pa.Schema = COLUMNS) -> Part:
    """A part with those rows, which no commit names yet."""
    writer = PartWriter(table.place, "q", batch, columns, statistics, whole)
    (written,) = writer.write(iter(pa.Table.from_pylist([*rows], columns).to_batches()), PART)
    return written


def numbered(table: Delta, batch: int, *numbers: int) -> Part:
    """A part with rows of those numbers."""
    return part(table, batch, [{"number": number, "text": f"t{number}"} for number in numbers])


def mark(batch: int, query_id: str = "q") -> Mark:
    return Mark(query_id, batch, {"end": f'{{"batch": {batch}}}'})


def numbers(table: Delta, version: int | None = None) -> list[int]:
    """What a version holds, as deltalake's own reader finds it."""
    from deltalake import DeltaTable  # noqa: PLC0415

    found = pa.table(DeltaTable(table.location, version=version).scan(columns=["number"]).read_all())
    return sorted(found["number"].to_pylist())


def append(
    flow: Flow,
    batch: int,
    rows: Sequence[Mapping[str, Any]],
    query_id: str = "q",
    upstream: str = "",
    *,
    replace: bool = False,
) -> None:
    """Bring a batch of rows into a flow's table, as its query does; with `replace` in the place of all others."""
    sink = sink_of(flow)
    assert isinstance(sink, TableSink)
    made = pa.Table.from_pylist([*rows], sink.rows_of(flow.kind))
    _append(flow, batch, made, query_id, upstream, replace=replace)


def follow(flow: Flow, files: Sequence[BatchFile]) -> None:
    """Bring files of the layer before into a flow's table, each as a batch, with all that its tasks keep of them."""
    assert flow.upstream
    query_id, upstream = flow.checkpoint.query_id() or "", flow.upstream.checkpoint.query_id() or ""
    for batch, file in enumerate(files):
        groups = [*range(pq.read_metadata(file.path).num_row_groups)]
        split = encoded([Split([(str(file.path), groups)], 0)])
        _append(flow, batch, pa.Table.from_batches(rows_of(flow).read(iter([split]))), query_id, upstream)


def _append(flow: Flow, batch: int, rows: pa.Table, query_id: str, upstream: str, *, replace: bool = False) -> None:
    sink = sink_of(flow)
    assert isinstance(sink, TableSink)
    table, columns = sink.table(flow), sink.rows_of(flow.kind)
    if not table.exists():
        added = pa.schema([*columns, *sink.partitioning.added])
        table.create(added, sink.partitioning.columns, {"sink": flow.name, "query": query_id}, 168)
    planned = Batch(batch, START_MS, 0, 0, LayerOffset(batch - 1), LayerOffset(batch), ())
    in_files = pa.schema([field for field in columns if field.name not in sink.partitioning.columns])
    divide = sink.partitioning.divide(flow.kind, planned, sink.dates)
    writer = PartWriter(sink.root(flow), query_id, batch, in_files, statistics, divide)
    parts = [*writer.write(iter(rows.to_batches()))]
    table.refresh()
    offsets = {"start": f'{{"batch": {batch - 1}}}', "end": f'{{"batch": {batch}}}', "upstream": upstream}
    times = {"time_ms": str(START_MS + batch * 1000), "watermark_ms": "0", "rows": str(rows.num_rows)}
    table.commit(Mark(query_id, batch, {**offsets, **times}), parts, table.live() if replace else ())
