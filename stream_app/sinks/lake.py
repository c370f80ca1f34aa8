"""A dataset as Parquet in folders `event_date=YYYY-MM-DD`, by the UTC date of its time, or of another one.

Guarantee: exactly once, as sinks/batch.py. There is one folder a date, but for dates that are too far from the batch's
own time, which share one (sinks/dates.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import groupby
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import WithJsonSchema

from stream_app.feeds.growth import Columns
from stream_app.feeds.parts import Duration, quoted
from stream_app.feeds.sql import name, text
from stream_app.feeds.types import Type
from stream_app.flows.batch import Batch
from stream_app.flows.flow import Flow
from stream_app.layers.kind import Kind
from stream_app.layers.origin import Origins
from stream_app.sinks.dates import DATE, Near, dated
from stream_app.sinks.files import Divided, FileSink
from stream_app.sinks.partitioning import BY_DATE, Partitioning
from stream_app.sources.split_rows import Batches
from stream_app.storage.batch_files import BatchFile
from stream_app.storage.opened import Opened
from stream_app.storage.parquet import Parquet
from stream_app.storage.row_counts import read_parquet

# A date, so that every reader takes the folders' names for dates; pandas cannot read Hive's name for none among them.
_OTHER = "0001-01-01"
_FOLDER = f"{DATE}="
SHARED = f"{_FOLDER}{_OTHER}"
"""The folder of the dates that have none of their own."""


class LakeSink(FileSink):
    """The dataset as Parquet in folders `event_date=YYYY-MM-DD`, by the UTC date of its time."""

    to: Literal["lake"]
    """The kind of sink."""
    partition_by: Annotated[str, WithJsonSchema({"type": "string", "pattern": BY_DATE})] | None = None
    """`date(<column>)`: the time by whose UTC date the folders are. Without it that of the dataset."""
    dates: Duration = timedelta(days=400)
    """How old a date may be, when its batch is written, to have a folder of its own; without it 400 days."""

    is_divided: ClassVar[bool] = True

    def form(self, kind: Kind) -> Parquet:  # noqa: ARG002 - of every dataset
        """Return Parquet."""
        return Parquet()

    def problems(self, kind: Kind) -> Iterator[tuple[str, str]]:
        """Yield that the time is none, or that the dataset has a column which the folders' names would be."""
        by = Partitioning(self.partition_by)
        if self.partition_by and not by.time:
            yield "partition_by", f"{quoted(self.partition_by)} is not date(<a time>); a table of delta takes a column"
        elif DATE not in kind.columns.names and (problem := by.problem(kind)):
            yield "partition_by", problem
        if DATE in kind.columns.names:
            yield "of", f"{kind.name} has a column {DATE}, and so has the lake, the date of its folders; rename it"

    def reader_columns(self, kind: Kind) -> dict[str, tuple[Type, Origins]]:
        """Return the dataset's columns, and the date of its folders."""
        return super().reader_columns(kind) | dated(self.divided_by(kind))

    def divided_by(self, kind: Kind) -> str:
        """Return the time of `partition_by`, or the dataset's own."""
        return Partitioning(self.partition_by).time or kind.time

    def _date(self, kind: Kind) -> str:
        return f"CAST({name(self.divided_by(kind))} AT TIME ZONE 'UTC' AS DATE)"

    def divided(self, kind: Kind, batch: Batch) -> Divided:
        """Return what divides the rows of a batch, as (folder, rows)."""
        time, near = self.divided_by(kind), Near.of(kind, batch, self.dates)

        def divide(batches: Batches) -> Iterator[tuple[str, Batches]]:
            """Yield the rows of each UTC date."""
            yield from ((f"{_FOLDER}{date or _OTHER}", own) for date, own in near.divide(batches, time))

        return divide

    def read(self, kind: Kind, columns: Columns, files: Sequence[Path]) -> str:  # noqa: ARG002 - of every dataset
        """Return the SQL for the rows."""
        return f"FROM {read_parquet(files)}"

    def select(self, flow: Flow, files: Sequence[BatchFile], opened: Opened) -> str:
        """Return the SQL for the rows and their date."""
        # the folders' names say it too, but DuckDB would take every `name=value` on the way to them for a column
        return f"SELECT *, {self._date(flow.kind)} AS {DATE} FROM ({super().select(flow, files, opened)})"

    def misplaced(self, flow: Flow, files: Sequence[BatchFile], opened: Opened) -> str:
        """Return the SQL for the rows in the folder of another date: the folder's name, and their date.

        Dates that are far from their batch's share a folder, in which any may be.
        """
        found, date = ["SELECT NULL, NULL WHERE false"], f"CAST({name(self.divided_by(flow.kind))} AS DATE)"
        for folder, own in groupby(sorted(files, key=_folder), key=_folder):
            if folder.name != SHARED:
                rows, label = self.select(flow, list(own), opened), text(folder.name)
                found.append(
                    f"SELECT {label}, {date} FROM ({rows}) WHERE '{_FOLDER}' || {date} IS DISTINCT FROM {label}"
                )
        return " UNION ALL ".join(found)


def _folder(file: BatchFile) -> Path:
    return file.path.parent
