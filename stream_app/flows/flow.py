"""A flow is one streaming query: a feed, a dataset and where that goes. Every name and path derives from it, once."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from stream_app.feeds.feed import Feed
from stream_app.layers.aggregate import Aggregate, Stateful
from stream_app.layers.kind import Kind
from stream_app.object_stores import TableRoot
from stream_app.storage.batch_files import REPLAY, BatchFile, batch_files, partitions, standing
from stream_app.storage.checkpoint import Checkpoint
from stream_app.storage.form import Form
from stream_app.storage.layout import Layout
from stream_app.storage.offsets import LayerOffset, Offset, in_layer
from stream_app.storage.parquet import Parquet

_LATE_FORM = Parquet()


class Destination(Protocol):
    """What a flow itself asks of where its rows go; sinks/protocol.py has the rest."""

    @property
    def is_divided(self) -> bool:
        """Whether its files are in folders `name=value`. People may delete the oldest files."""

    @property
    def needs_database(self) -> bool:
        """Whether it is in the database at DATABASE_URL."""

    @property
    def is_table(self) -> bool:
        """Whether a log in its folder says which files hold its rows."""

    def divided_by(self, kind: Kind) -> str:
        """Return the time by whose date its rows are divided, where they are."""

    def derives(self, kind: Kind) -> bool:
        """Return whether its query makes the dataset's rows itself, and does not follow the dataset's files."""

    def archives(self, kind: Kind) -> bool:
        """Return whether it keeps beside each row which file of the dataset that is from, and what the file says."""

    def form(self, kind: Kind) -> Form | None:
        """Return what its files are; None where it has none."""

    def drop(self, flow: Flow) -> None:
        """Let go of what it holds outside of the flow's folder."""


@dataclass(frozen=True)
class Flow:
    """One query, its output folder and its checkpoint: `<root>/<feed>/<sink>` and `<root>/<feed>/_chk/<sink>`.

    sinks/registry.py makes them.
    """

    feed: Feed = field(hash=False, repr=False)
    kind: Kind = field(hash=False)
    """The dataset that it makes or follows."""
    to: Destination = field(hash=False)
    root: Path
    sink: str
    """The folder, the prefix of its files, and what people type: the dataset's name, or a sink's of the feed file."""
    upstream: Flow | None = field(default=None, repr=False)
    """The flow whose files this one follows; None for one that reads the topic."""
    downstream: list[Flow] = field(default_factory=list, compare=False, repr=False)
    """The flows that follow this one's files, upstream first."""
    table_root: TableRoot | None = field(default=None, hash=False, compare=False, repr=False)
    """Where tables lie, if elsewhere than under `root`."""

    @property
    def name(self) -> str:
        """The query's name, in logs, metrics and the Spark UI."""
        return f"{self.feed.name}.{self.sink}"

    @property
    def is_own(self) -> bool:
        """Whether it makes the folder of its dataset, which the others of that follow."""
        return self.sink == self.kind.name

    @property
    def derives(self) -> bool:
        """Whether its query makes the dataset's rows itself."""
        return self.to.derives(self.kind)

    @property
    def aggregate(self) -> Aggregate | None:
        """Its dataset as an aggregate, where its query keeps the state of that."""
        return self.kind.aggregate if self.derives else None

    @property
    def stateful(self) -> Stateful | None:
        """The same where the query has a watermark: rows may come too late for it (sinks/late.py)."""
        return self.kind.stateful if self.derives else None

    @property
    def form(self) -> Form | None:
        """What its files are; None where it has none."""
        return self.to.form(self.kind)

    @property
    def is_divided(self) -> bool:
        """Whether its files are in folders of their own by a value."""
        return self.to.is_divided

    def form_of(self, prefix: str) -> Form | None:
        """Return what the files of one of its `folders` are; those of late rows are always Parquet."""
        return self.form if prefix == self.sink else _LATE_FORM

    @property
    def extension(self) -> str:
        """What the names of its own files end with; "" where it has none."""
        return self.form.extension if self.form else ""

    @property
    def layout(self) -> Layout:
        """Every path of the query."""
        return Layout(self.root, self.feed.name, self.sink)

    @property
    def tables(self) -> TableRoot:
        """Where its table lies if it has one, in a folder of its name, unless the sink says otherwise."""
        return self.table_root or TableRoot(str(self.root), named_by="OUTPUT_PATH")

    @property
    def data_folders(self) -> list[Path]:
        """Where the output's batch files lie: in the output itself, or in folders by a value. A table has none."""
        if self.to.is_table:
            return []
        return partitions(self.layout.output) if self.is_divided else [self.layout.output]

    @property
    def folders(self) -> tuple[tuple[Path, str], ...]:
        """Every folder that the query writes files to, with their prefix."""
        late = [(self.layout.late, self.layout.late_name)] if self.stateful else []
        return (*((folder, self.sink) for folder in self.data_folders), *late)

    @property
    def checkpoint(self) -> Checkpoint:
        """Spark's checkpoint of the query."""
        return Checkpoint(self.layout.checkpoint)

    @property
    def archives(self) -> list[Flow]:
        """The flows that follow this one's files and keep enough of them to make them again."""
        return [flow for flow in self.downstream if flow.to.archives(flow.kind)]

    def with_downstream(self) -> tuple[Flow, ...]:
        """Return the flow itself and all that follow it, directly or not, upstream first."""
        return (self, *(flow for follower in self.downstream for flow in follower.with_downstream()))

    def of_feed(self) -> tuple[Flow, ...]:
        """Return all flows of the feed, bronze first."""
        return self.upstream.of_feed() if self.upstream else self.with_downstream()

    def files(self, after: int = -1, up_to: float = math.inf) -> list[BatchFile]:
        """Return the output's files of the batches after `after` up to `up_to`, oldest first, each batch once."""
        found = (batch_files(folder, self.sink, after, up_to) for folder in self.data_folders)
        return sorted(file for files in found for file in standing(files))

    def files_of(self, batch_id: int) -> list[BatchFile]:
        """Return the output's files that hold that batch.

        There is one, there are several if the output is divided, and none for a batch without rows.
        """
        return self.files(batch_id - 1, batch_id)

    def start(self, batch_id: int) -> Offset:
        """Return the offset that the batch begins with, which is the end of the one before."""
        if batch_id:
            return self.checkpoint.planned(batch_id - 1).end
        return LayerOffset() if self.upstream else self.checkpoint.first_offsets()

    def inputs(self, start: LayerOffset, end: LayerOffset) -> tuple[list[BatchFile], list[BatchFile]]:
        """Return the files that the query reads between two offsets: of the layer before, and of replayed records."""
        replayed, taken = list[BatchFile](), list[BatchFile]()
        if self.derives and self.kind.takes_replayed:
            replayed = batch_files(self.layout.replay, REPLAY, start.replay, end.replay)
        if self.upstream:
            taken = self.upstream.files(start.batch, end.batch)
        return taken, replayed

    def taken_up_to(self) -> int:
        """Return the newest batch of the layer before that the query has committed.

        It is -1 before the first, and for bronze.
        """
        committed = self.checkpoint.last_committed()
        return in_layer(committed.end).batch if committed and self.upstream else -1

    def untaken(self) -> list[BatchFile]:
        """Return the files of the layer before that no committed batch of this query has read."""
        return self.upstream.files(self.taken_up_to()) if self.upstream else []
