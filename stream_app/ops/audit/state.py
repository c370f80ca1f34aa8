"""What is audited: the files that stand, opened so that nobody can take them away, and how far each flow has come.

Committed positions are read first and files after, for what is committed has its file by then.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import duckdb
from pyspark.sql.pandas.types import to_arrow_schema

from stream_app.flows import chain, columns
from stream_app.flows.columns import Version
from stream_app.flows.flow import Flow
from stream_app.layers.kind import BRONZE, QUARANTINE, SILVER
from stream_app.ops import archive
from stream_app.ops.audit import folders
from stream_app.ops.audit.stored import Held, Stored, held, strange_columns
from stream_app.ops.views import OpenFiles, read, read_late, up_to
from stream_app.sinks.protocol import sink_of
from stream_app.storage.batch_files import REPLAY, BatchFile, batch_files, standing
from stream_app.storage.checkpoint import PlannedBatch
from stream_app.storage.offsets import LayerOffset, in_layer

JUDGED = {BRONZE, QUARANTINE, SILVER}
"""What the audit compares record by record (judge.py)."""


@dataclass(frozen=True)
class Position:
    """How far a flow has come: its newest committed batch, and what it had read by then; -1 before the first."""

    own: int = -1
    taken: int = -1
    replayed: int = -1
    """The newest file of the ledger that silver has taken."""
    watermark_ms: int = 0
    idle_clock: int = 0
    """How far its event time went without a record, in microseconds since the epoch."""

    @classmethod
    def of(cls, flow: Flow) -> Position:
        """Of that flow now."""
        committed = flow.checkpoint.last_committed()
        if committed is None:
            return cls()
        end = in_layer(committed.end) if flow.upstream else LayerOffset()
        return cls(committed.batch_id, end.batch, end.replay, committed.watermark_ms, end.idle_clock)


@dataclass
class State:
    """The feed of a bronze flow, as it is read until `files` is closed."""

    bronze: Flow
    files: OpenFiles
    sink: str = ""
    """The sink up to which it is read; empty for all."""
    copied: Mapping[str, int] = field(default_factory=dict)
    """By sink, the newest batch of silver that is in a copy of it (copies.py)."""
    flows: dict[str, Flow] = field(init=False)
    """By sink, upstream first."""
    positions: dict[str, Position] = field(init=False)
    versions: list[Version] = field(init=False)
    """What silver's columns were, oldest first."""
    strange: dict[Path, str] = field(default_factory=dict)
    """Files that are left out, and what is wrong with each: they have not the columns of their layer, say."""

    def __post_init__(self) -> None:
        self.flows = {
            flow.sink: flow
            for flow in self.bronze.with_downstream()
            if self.sink in {"", flow.sink} or flow.sink in JUDGED
        }
        self.positions = {sink: Position.of(flow) for sink, flow in self.flows.items()}
        for sink, taken in self.copied.items():
            self.positions[sink] = replace(self.positions[sink], taken=taken)
        self._standing = {sink: flow.files() for sink, flow in self.flows.items()}
        if kept := archive.of(self.bronze, self._standing[BRONZE]):
            made = kept.make(Path(self.files.enter_context(tempfile.TemporaryDirectory(prefix="audit-"))))
            self._standing[BRONZE] = [*made, *self._standing[BRONZE]]
        silver = self.flows[SILVER]
        self.versions = columns.versions(silver)
        taken = min(self.positions[layer].taken for layer in (SILVER, QUARANTINE))
        for layer in (SILVER, QUARANTINE):  # a file that was merged across what one has taken
            up_to(self._standing[BRONZE], self.positions[layer].taken)
        self.pending = [file for file in self._standing[BRONZE] if file.last > taken]
        self.records = self._stored(self.bronze, self._standing[BRONZE])
        self.silver = self._stored(silver, self._files_of(silver))
        self.quarantine = self._stored(self.flows[QUARANTINE], self._files_of(self.flows[QUARANTINE]))
        ledger = batch_files(silver.layout.replay, REPLAY, up_to=self.positions[SILVER].replayed)
        self.ledger = self._stored(silver, ledger, any_version=True)
        self._late = {
            sink: self._opened(flow, self._late_of(flow), late=True)
            for sink, flow in self.flows.items()
            if flow.stateful
        }
        for flow in self.flows.values():
            if flow.form and flow.sink not in JUDGED:
                self._opened(flow, self._files_of(flow))
        # after the files, since it is written before one is deleted
        self.gone = {sink: chain.gone(flow) for sink, flow in self.flows.items()}
        if kept:
            self.gone[BRONZE] = kept.before

    def is_pruned(self, sink: str) -> bool:
        """Whether files of the sink were pruned or given up."""
        return self.gone[sink] >= 0

    def attach(self, database: duckdb.DuckDBPyConnection) -> None:
        """Have that database read all that the SQL names."""
        for flow in self.flows.values():
            sink_of(flow).attach(database, flow)

    def sql(self, flow: Flow) -> str:
        """Return the SQL for the committed rows of the flow."""
        files, batch = self.sound_files(flow), self.positions[flow.sink].own
        rows = sink_of(flow).committed(flow, files, batch, self.files.path)
        assert rows is not None  # noqa: S101 - it is read where it is
        return rows

    def due_sql(self, flow: Flow) -> str:
        """Return the SQL for the rows of the layer before that the flow has taken."""
        assert flow.upstream  # noqa: S101 - bronze takes no rows
        files = self._sound(up_to(self._standing[flow.upstream.sink], self.positions[flow.sink].taken))
        return read(flow.upstream, files, self.files.path)

    def of_layer(self, flow: Flow) -> str:
        """Return the SQL for all rows of the layer before that are committed."""
        assert flow.upstream  # noqa: S101 - bronze follows none
        return self.sql(flow.upstream)

    def late_sql(self, flow: Flow) -> str:
        """Return the SQL for the rows that came too late for the flow."""
        return read_late(flow, self.sound_late_files(flow), self.files.path)

    def sound_late_files(self, flow: Flow) -> list[BatchFile]:
        """Return those files that have the columns of late rows."""
        return self._sound(self._late[flow.sink])

    def late_files(self, flow: Flow) -> list[BatchFile]:
        """Return the files of the rows that came too late for the flow."""
        return self._late[flow.sink]

    @property
    def number_of_files(self) -> int:
        """How many data files the flows have."""
        tables = filter(None, (sink_of(flow).holding(flow) for flow in self.flows.values()))
        return sum(map(len, self._standing.values())) + sum(table.files for table in tables)

    def planned_batches(self) -> list[PlannedBatch]:
        """Return the entries of silver's offset log, oldest first; Spark keeps some twenty."""
        return self.flows[SILVER].checkpoint.all_planned()

    def strange_files(self) -> list[str]:
        """Files that the flows have not written, or not so, as readers of the plain folders find them."""
        foreign = [line for flow in self.flows.values() for line in folders.strays(flow)]
        logs = [line for flow in self.flows.values() for line in sink_of(flow).flaws(flow)]
        return [*foreign, *logs, *(f"{path} {what}" for path, what in self.strange.items())]

    def lost_files(self) -> list[str]:
        """Files that somebody deleted, by what the others say of themselves."""
        found = []
        for flow in self.flows.values():
            if flow.form is None:
                continue
            newest = chain.last_file(flow)
            lost = list(chain.lost(flow))
            if newest and newest.last > chain.gone(flow) and not flow.files_of(newest.last):
                lost.append(newest.last)
            found += [f"{flow.layout.output} has lost the file of batch {batch}" for batch in lost]
        return found

    def sound_files(self, flow: Flow) -> list[BatchFile]:
        """Return the files of the flow's committed batches that have the columns of their layer."""
        return self._sound(self._files_of(flow))

    def _files_of(self, flow: Flow) -> list[BatchFile]:
        return up_to(self._standing[flow.sink], self.positions[flow.sink].own)

    def _sound(self, files: Sequence[BatchFile]) -> list[BatchFile]:
        return [file for file in files if file.path not in self.strange]

    def _stored(self, flow: Flow, files: Sequence[BatchFile], *, any_version: bool = False) -> Stored:
        """Return the rows of a layer's files. A file without the columns that the layer had then is strange."""
        found, versions = list[Held](), columns.versions(flow)
        for file in files:
            one = held(file, self.files.path(file.path))
            allowed = versions if any_version else [columns.of_file(versions, file)]
            strange = [strange_columns(one, version.columns) for version in allowed]
            if all(strange):
                self.strange[file.path] = f"lacks, or has of another type: {strange[-1]}"
            else:
                found.append(one)
        return Stored(found, to_arrow_schema(flow.kind.columns, timezone="UTC"))

    def _late_of(self, flow: Flow) -> list[BatchFile]:
        return up_to(standing(batch_files(flow.layout.late, flow.layout.late_name)), self.positions[flow.sink].own)

    def _opened(self, flow: Flow, files: list[BatchFile], *, late: bool = False) -> list[BatchFile]:
        for file in files:
            self.files.path(file.path)
        found = folders.strange(flow, files, self.files.path, late=late)
        self.strange |= {path: self.files.named(what) for path, what in found.items()}
        return files
