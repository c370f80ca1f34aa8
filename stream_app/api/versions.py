"""What answers depend on: which rows a dataset has by now, asked of the file system only where something changed."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b

from stream_app.flows.flow import Flow
from stream_app.sinks.protocol import sink_of
from stream_app.storage.batch_files import BatchFile, batch_files, standing
from stream_app.storage.row_counts import count_rows

_Stamp = tuple[tuple[int, int], ...]
_RACY_NS = 50_000_000
"""A folder's time has steps: a change so soon after another one may not show in it."""
_REMOTE_SECONDS = 1


@dataclass(frozen=True)
class _Known:
    flow: Flow
    stamp: _Stamp
    at_ns: int
    version: str

    def holds(self, flow: Flow, stamp: _Stamp, now_ns: int) -> bool:
        """Return whether it still says how it is."""
        is_settled = self.at_ns - max(changed for changed, _ in stamp) > _RACY_NS
        return self.flow is flow and self.stamp == stamp and (is_settled or now_ns - self.at_ns < _RACY_NS)


@dataclass(frozen=True)
class Source:
    """Rows that an answer is made of: those of a dataset, or those that came too late for it."""

    flow: Flow
    is_late: bool = False

    @cached_property
    def name(self) -> str:
        """What tells it from others."""
        return f"{self.flow.name} late" if self.is_late else self.flow.name

    @cached_property
    def place(self) -> str:
        """The folder or URL that its rows are in."""
        return str(self.flow.layout.late) if self.is_late else sink_of(self.flow).place(self.flow)

    def version(self) -> str:
        """Ask what changes when the rows do: the query and what its files hold, merged or not; a table's version."""
        text = _late_version(self.flow) if self.is_late else _version(self.flow)
        return blake2b(text.encode(), digest_size=16).hexdigest()


@dataclass
class Versions:
    """The versions of sources, each asked for by one thread at a time."""

    _known: dict[str, _Known] = field(default_factory=dict)
    _asking: dict[str, threading.Lock] = field(default_factory=dict)

    def of(self, source: Source) -> str:
        """Return the version of a source."""
        if version := self.held(source):
            return version
        with self._asking.setdefault(source.name, threading.Lock()):
            if version := self.held(source):  # by another thread meanwhile
                return version
            stamp, now_ns = _stamp(source.place), time.time_ns()  # first: what comes after that is another stamp
            version = source.version()
            self._known[source.name] = _Known(source.flow, stamp, now_ns, version)
            return version

    def held(self, source: Source) -> str | None:
        """Return the version if nothing has changed since it was asked for; nobody waits for that."""
        known = self._known.get(source.name)
        return known.version if known and known.holds(source.flow, _stamp(source.place), time.time_ns()) else None


def _stamp(place: str) -> _Stamp:
    """Return what changes with a file in a folder, or with a commit to a table; each second for one elsewhere."""
    if not place.startswith("/"):
        return ((0, int(time.monotonic()) // _REMOTE_SECONDS),)
    return (_changed(place), _changed(f"{place}/_delta_log"))


def _changed(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)  # noqa: PTH116 - each request asks: a Path costs more than the answer
    except OSError:
        return (0, 0)
    return (found.st_mtime_ns, found.st_ino)


def _version(flow: Flow) -> str:
    held = sink_of(flow).holding(flow) or _rows(flow.files())
    return f"{flow.name} {flow.checkpoint.query_id()} {held} {flow.feed.model_dump_json()}"


def _late_version(flow: Flow) -> str:
    late = standing(batch_files(flow.layout.late, flow.layout.late_name))
    return f"{flow.name} {flow.checkpoint.query_id()} {_rows(late)}"


def _rows(files: Sequence[BatchFile]) -> tuple[int, int, int]:
    try:
        return (files[0].first, files[-1].last, sum(count_rows(file.path) for file in files)) if files else (0, -1, 0)
    except FileNotFoundError:  # merged a moment ago: another version for this once
        return (files[0].first, files[-1].last, -1)
