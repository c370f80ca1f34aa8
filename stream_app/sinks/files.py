"""Sinks that write files of their own: what their writers share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import ClassVar

from pyspark.sql import DataFrame

from stream_app.feeds.sql import name
from stream_app.flows.batch import Batch
from stream_app.flows.flow import Flow
from stream_app.layers.kind import Kind
from stream_app.sinks.batch import BatchSink
from stream_app.sinks.parts import Parts, Step, write_parts
from stream_app.sinks.protocol import Guarantee, Opened, Sink, Tools, Writer
from stream_app.sources.split_rows import Batches, Rows
from stream_app.storage.batch_files import BatchFile
from stream_app.storage.form import Form

Divided = Callable[[Batches], Iterable[tuple[str, Batches]]]
"""Divides rows into the folders that they are for, as (folder, rows)."""


class FileSink(Sink):
    """A file a batch, or one for each folder of it: sinks/batch.py has how it is made exactly once."""

    guarantee: ClassVar[Guarantee] = Guarantee.EXACTLY_ONCE

    @abstractmethod
    def form(self, kind: Kind) -> Form:
        """Return what its files are."""

    @abstractmethod
    def read(self, kind: Kind, files: Sequence[Path]) -> str:
        """Return the SQL that reads files, of which there is one at least."""

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
        """Return the SQL that reads those files; no rows, but all columns, where there are none."""
        if files:
            return self.read(flow.kind, [opened(file.path) for file in files])
        nulls = (f"NULL::{kind} AS {name(column)}" for column, kind in self.sql_columns(flow.kind).items())
        return f"SELECT {', '.join(nulls)} WHERE false"

    def sql_columns(self, kind: Kind) -> dict[str, str]:
        """Return the columns that its files have, as DuckDB's types."""
        return kind.sql_columns
