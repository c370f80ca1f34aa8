"""The status of each sink: its state, last batch, rows, lag, newest file and last error.

It comes from the files and from what the service last wrote of itself. So it is there beside a running service, in
Docker or not, and after it has stopped.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow as pa

from stream_app.errors import UnavailableError
from stream_app.flows.completeness import complete_up_to, newest_taken
from stream_app.flows.flow import Flow
from stream_app.observe.monitor import State
from stream_app.sinks.protocol import Holding, sink_of
from stream_app.sources.lookups import newest_pin
from stream_app.storage import lock, service_status, snapshots
from stream_app.storage.pins import hashes_of
from stream_app.storage.row_counts import count_rows
from stream_app.storage.tables.table import DamagedError


@dataclass(frozen=True)
class LookupStatus:
    """The snapshot of a lookup that is in use. Its age is in seconds since it was last taken."""

    lookup: str
    snapshot: str
    rows: int
    age: float


@dataclass(frozen=True)
class SinkStatus:
    """How a sink is. Ages are in seconds; None where there is nothing to tell the age of."""

    feed: str
    sink: str
    state: str
    restarts: int
    last_batch: int | None
    last_batch_age: float | None
    files: int
    rows: int
    bytes: int
    behind: int | None
    refused: int
    newest_file: str | None
    newest_file_age: float | None
    last_error: str
    held: int | None = None
    """Records of the topic that wait for open transactions."""
    state_rows: int | None = None
    """Of a dataset that any batch may change: how many keys its state holds, as the service last said."""
    lookups: tuple[LookupStatus, ...] = ()
    """Of bronze: the snapshots of reference data that its newest batch is judged by."""
    guarantee: str = ""
    """How often a row is there after crashes and replays: exactly once, or at least once."""
    complete_up_to: datetime | None = None
    """Of windows and sessions: all that end by then are final and in the output. UTC."""
    newest_taken: Mapping[int, datetime] = field(default_factory=dict)
    """Of silver: the newest Kafka timestamp taken of each partition. UTC."""


@dataclass(frozen=True)
class StatusReport:
    """The status of every sink that was asked for."""

    root: Path
    is_running: bool
    """Whether a service runs on it."""
    sinks: tuple[SinkStatus, ...]


def status(root: Path, flows: Sequence[Flow]) -> StatusReport:
    """Return the status of every flow, from the files under `root` and the service's last word."""
    snap = service_status.read(root)
    running = lock.is_held(root)
    sinks = tuple(_status(flow, snap["flows"].get(flow.name, {}), running) for flow in flows)
    return StatusReport(root, running, sinks)


def _status(flow: Flow, told: dict[str, object], running: bool) -> SinkStatus:
    files = [(file, size) for file in flow.files() if (size := _size(file.path)) is not None]
    newest = max(files, default=None, key=lambda pair: pair[0].last)
    committed = flow.checkpoint.last_committed()
    now = time.time()
    behind = _records_behind(flow, told, running)
    table, away = _held_by_table(flow)
    held = table or Holding(
        len(files),
        sum(_rows(file.path) for file, _ in files),
        sum(size for _, size in files),
        newest[0].path.name if newest else None,
        int(newest[0].path.stat().st_mtime * 1000) if newest else 0,
    )
    return SinkStatus(
        feed=flow.feed.name,
        sink=flow.sink,
        state=_state(told, running),
        restarts=int(str(told.get("restarts", 0))),
        last_batch=committed.batch_id if committed else None,
        last_batch_age=round(now - committed.time_ms / 1000, 1) if committed else None,
        files=held.files,
        rows=held.rows,
        bytes=held.bytes,
        behind=behind,
        refused=int(str(told.get("refused", 0))),
        newest_file=held.newest,
        newest_file_age=round(now - held.newest_ms / 1000, 1) if held.newest else None,
        last_error=away or str(told.get("last_error", "")),
        held=_held(told) if running and flow.upstream is None else None,
        state_rows=int(str(told.get("state_rows", 0))) if flow.kind.running else None,
        lookups=tuple(_lookups(flow, now)) if flow.upstream is None else (),
        guarantee=sink_of(flow).guarantee,
        complete_up_to=complete_up_to(flow),
        newest_taken=_newest_taken(flow),
    )


def _held_by_table(flow: Flow) -> tuple[Holding | None, str]:
    """Return what a table holds, and why nothing is known of it: its store may be away, or its log damaged."""
    try:
        return sink_of(flow).holding(flow), ""
    except (UnavailableError, DamagedError) as error:
        return Holding(), str(error)


def _newest_taken(flow: Flow) -> Mapping[int, datetime]:
    try:
        return newest_taken(flow)
    except (OSError, pa.ArrowInvalid):  # a damaged file, as the audit will say of it
        return {}


def _state(told: dict[str, object], running: bool) -> str:
    last = str(told.get("state", "unknown"))
    if running:
        return last
    # a service that ends in order says so last
    ended: dict[str, str] = {State.FAILED: "failed", State.RUNNING: "killed", State.RESTARTING: "killed"}
    return ended.get(last, "stopped")


def _records_behind(flow: Flow, told: dict[str, object], running: bool) -> int | None:
    """Return how many rows of the layer before are not taken.

    For the topic it is what the running service says, else None.
    """
    if flow.upstream:
        return sum(_rows(file.path) for file in flow.untaken())
    behind = told.get("behind") if running else None
    return behind if isinstance(behind, int) else None


def _lookups(bronze: Flow, now: float) -> Iterator[LookupStatus]:
    hashes = hashes_of(newest_pin(bronze)) if bronze.feed.lookups else {}
    for name, identity in bronze.feed.pinned.items():
        of = hashes.get(identity, "")
        if of and (found := snapshots.taken(bronze.layout.lookups, name, of)):
            yield LookupStatus(name, of, found[0], round(now - found[1], 1))


def _held(told: dict[str, object]) -> int | None:
    held = told.get("held")
    return held if isinstance(held, int) else None


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # retention took it a moment ago
        return None


def _rows(path: Path) -> int:
    """Return how many rows the file has; 0 if it cannot be read, as the audit will say of it."""
    try:
        return count_rows(path)
    except (OSError, pa.ArrowInvalid, duckdb.Error):
        return 0
