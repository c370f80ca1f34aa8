"""What answers depend on: which rows a dataset has by now, asked of the file system only where something changed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

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


@dataclass
class Versions:
    """The versions of datasets, each asked for by one thread at a time."""

    _known: dict[str, _Known] = field(default_factory=dict)
    _asking: dict[str, threading.Lock] = field(default_factory=dict)

    def of(self, flow: Flow) -> str:
        """Return what changes when the rows of a dataset do: its query and what its files hold, merged or not.

        Of a table it is its version.
        """
        return self._noted(flow, flow.name, sink_of(flow).place(flow), _version)

    def of_late(self, flow: Flow) -> str:
        """Return the same for the rows that came too late for it."""
        return self._noted(flow, f"{flow.name} late", str(flow.layout.late), _late_version)

    def _noted(self, flow: Flow, key: str, place: str, ask: Callable[[Flow], str]) -> str:
        if known := self._held(flow, key, place):
            return known.version
        with self._asking.setdefault(key, threading.Lock()):
            if known := self._held(flow, key, place):  # by another thread meanwhile
                return known.version
            stamp, now_ns = _stamp(place), time.time_ns()  # before it is asked: what comes after that is another stamp
            version = blake2b(ask(flow).encode(), digest_size=16).hexdigest()
            self._known[key] = _Known(flow, stamp, now_ns, version)
            return version

    def _held(self, flow: Flow, key: str, place: str) -> _Known | None:
        known = self._known.get(key)
        return known if known and known.holds(flow, _stamp(place), time.time_ns()) else None


def _stamp(place: str) -> _Stamp:
    """Return what changes with a file in a folder, or with a commit to a table; each second for one elsewhere."""
    if not place.startswith("/"):
        return ((0, int(time.monotonic()) // _REMOTE_SECONDS),)
    folder = Path(place)
    return tuple(map(_changed, (folder, folder / "_delta_log")))


def _changed(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
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
