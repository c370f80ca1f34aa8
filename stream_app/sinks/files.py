"""Sinks that write files of their own: what their writers share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from pyspark.sql import DataFrame

from stream_app.feeds.growth import Columns
from stream_app.feeds.sql import name
from stream_app.flows import columns
from stream_app.flows.batch import Batch
from stream_app.flows.flow import Flow
from stream_app.layers.kind import Kind
from stream_app.sinks.batch import BatchSink
from stream_app.sinks.parts import Parts, Step, write_parts
from stream_app.sinks.protocol import Guarantee, Sink, Tools, Writer
from stream_app.sources.split_rows import Batches, Rows
from stream_app.storage.batch_files import BatchFile
from stream_app.storage.form import Form
from stream_app.storage.opened import Opened

Divided = Callable[[Batches], Iterable[tuple[str, Batches]]]
"""Divides rows into the folders that they are for, as (folder, rows)."""


def no_rows(columns: Mapping[str, str]) -> str:
    """Return the SQL for no rows with columns of those types in DuckDB.

    In a UNION BY NAME it has the others get these columns, the wider type of each, and their order.
    """
    return f"SELECT {', '.join(f'NULL::{kind} AS {name(column)}' for column, kind in columns.items())} WHERE false"


class FileSink(Sink):
    """A file a batch, or one for each folder of it: sinks/batch.py has how it is made exactly once."""

    guarantee: ClassVar[Guarantee] = Guarantee.EXACTLY_ONCE

    @abstractmethod
    def form(self, kind: Kind) -> Form:
        """Return what its files are."""

    @abstractmethod
    def read(self, kind: Kind, columns: Columns, files: Sequence[Path]) -> str:
        """Return the SQL that reads files, one at least, that were written when the dataset had those columns."""

    def divided(self, kind: Kind, batch: Batch) -> Divided:  # noqa: ARG002 - most have one folder
        """Return what divides the rows of a batch."""
        return lambda batches: [("", batches)]

    def writer(self, flow: Flow, rows: Rows | None, tools: Tools) -> Writer:
        """Return what writes a part in each task, and makes one file of these."""
        form, step = self.form(flow.kind), Step(rows.columns, rows.read) if rows else None

        def parts(frame: DataFrame, batch: Batch, folder: Path) -> Parts:
            divided = self.divided(flow.kind, batch)
            return Parts(write_parts(flow, form, step, frame, folder, divided=divided))

        return BatchSink(flow, form, tools.hadoop, parts, tools.before_publish)

    def select(self, flow: Flow, files: Sequence[BatchFile], opened: Opened) -> str:
        """Return the SQL that reads those files in today's columns, even where all are older or there are none."""
        parts = [no_rows(self.sql_columns(flow.kind))]
        for version, own in columns.divided(flow, files):
            parts.append(self.read(flow.kind, version.columns, [opened(file.path) for file in own]))
        return " UNION ALL BY NAME ".join(parts)

    def sql_columns(self, kind: Kind) -> dict[str, str]:
        """Return the columns that its files have, as DuckDB's types."""
        return kind.sql_columns
