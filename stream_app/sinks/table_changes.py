"""How one task brings the rows of a table up to date that a batch may change: it writes anew only the files with them.

Of windows and sessions these are the open ones, whatever the table holds of final ones. Of totals they are those of the
partitions that the batch touches, or all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from stream_app.feeds.footers import statistics_of
from stream_app.layers.aggregate import FINAL, Aggregate
from stream_app.sinks.kept_by_key import Fresh, Totalled
from stream_app.sinks.table_parts import OPEN, PartWriter, kind_of
from stream_app.sources.split_rows import Batches
from stream_app.storage.tables.place import Place
from stream_app.storage.tables.table import File, Part


@dataclass(frozen=True)
class Changed:
    """What a task did beside the parts that it wrote."""

    rows: int
    replaced: frozenset[str]
    """The paths of the files whose rows are in the parts, as far as they still stand."""


Told = Iterator[Part | Changed]


class Changes(Protocol):
    """What a batch does to a table whose rows it may change."""

    def apply(self, writer: PartWriter, live: Sequence[File], batches: Batches, watermark_ms: int) -> Told:
        """Write what the batch's rows make of the live files, in a task; what was written is named by no commit yet."""


def changes(kind: Aggregate, columns: pa.Schema) -> Changes:
    """Return what batches of that dataset do to a table of those rows."""
    if kind.running:
        return _OfTotals(Totalled.of(columns, kind.running))
    assert kind.stateful  # noqa: S101 - no other aggregates are kept by key
    return _OfOpenRows(Fresh.of(columns, kind.stateful))


@dataclass(frozen=True)
class _OfOpenRows:
    fresh: Fresh

    def apply(self, writer: PartWriter, live: Sequence[File], batches: Batches, watermark_ms: int) -> Told:
        columns = self.fresh.columns
        changed = _table(batches, columns)
        replaced = [file for file in live if _is_open(writer.root, file)]
        held = _held(writer, replaced, columns)
        settled = held.filter(held[FINAL])  # of a file that somebody else has written again
        final, still_open = self.fresh.as_of(held.filter(pc.invert(held[FINAL])), changed, watermark_ms)
        if changed.num_rows or final.num_rows or settled.num_rows:
            yield Changed(changed.num_rows, frozenset(file.path for file in replaced))
            yield from writer.write(iter(pa.concat_tables([settled, final]).to_batches()))
            yield from writer.write(iter(still_open.to_batches()), OPEN)


@dataclass(frozen=True)
class _OfTotals:
    totals: Totalled

    def apply(self, writer: PartWriter, live: Sequence[File], batches: Batches, watermark_ms: int) -> Told:  # noqa: ARG002
        changed = _table(batches, self.totals.columns)
        if not changed.num_rows:
            return
        touched = [partition for partition, _ in writer.divide(iter(changed.to_batches()))]
        replaced = [file for file in live if self.totals.most or file.partition in touched]
        rows = self.totals.merged(_held(writer, replaced, self.totals.columns), changed)
        yield Changed(changed.num_rows, frozenset(file.path for file in replaced))
        yield from writer.write(iter(rows.to_batches()), OPEN)


def _held(writer: PartWriter, files: Sequence[File], columns: pa.Schema) -> pa.Table:
    return pa.concat_tables([columns.empty_table(), *(writer.read(file, columns) for file in files)])


def _table(batches: Batches, columns: pa.Schema) -> pa.Table:
    """Return the rows of batches in those columns; `final` may not have come with them."""
    found = [
        batch.append_column(FINAL, pa.repeat(False, batch.num_rows))
        if FINAL in columns.names and FINAL not in batch.schema.names
        else batch
        for batch in batches
    ]
    return pa.Table.from_batches([batch.select(columns.names).cast(columns) for batch in found], columns)


def _is_open(root: Place, file: File) -> bool:
    """Return whether rows of a file may change yet: by its name, or by its footer where no batch has named it."""
    if kind := kind_of(file):
        return kind == OPEN
    footer = root.look(file.path).footer
    return not all(one is not None and one.has_min_max and one.min for one in statistics_of(footer, FINAL))
