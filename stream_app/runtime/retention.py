"""Keeps the folders small: micro-batch files are merged into larger ones, or deleted, as RETENTION says.

Guarantee: no file is touched before its own query and every query that follows it have committed its batches. So no
reader ever sees an offset inside a merged file. A merged file appears by one rename, and then takes the place of the
files that it covers. A death in between leaves both: `batch_files.standing` reads them as one, and the next run deletes
the rest. Rows and the order of batches stay. Who reads the plain folder just then may see the rows of a merge twice.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from stream_app import logs
from stream_app.admission.superseded import covered
from stream_app.failpoints import reach
from stream_app.flows import chain, columns
from stream_app.flows.flow import Flow
from stream_app.sinks.protocol import sink_of
from stream_app.storage.batch_files import BatchFile, batch_file, batch_files, standing
from stream_app.storage.filesystem import Hadoop
from stream_app.storage.layout import merge_staging
from stream_app.storage.merging import bounded, dominated

_INTERVAL_SECONDS = 2.0
_PATIENCE_SECONDS = 10.0
# How long ago a folder must have changed for its time to tell of every change: a file system's clock has ticks.
_TICK_NS = 3_000_000_000


class Retention:
    """The RETENTION setting, carried out for all flows beside their batches."""

    def __init__(self, flows: Sequence[Flow], hadoop: Hadoop, mode: str, max_files: int) -> None:
        """Have each folder hold at most `max_files` micro-batch files; `mode` is RETENTION's."""
        self._flows = flows
        self._hadoop = hadoop
        self._mode = mode
        self._most = max_files
        self._ended = threading.Event()
        self._tidy_since: dict[Path, int] = {}
        """When each folder changed last, where there was nothing to do then: a lake has hundreds."""
        self._emptied: set[Path] = set()
        """The folders whose merges that died were taken away: a sink empties its own folder alone at a start."""
        self._tables: dict[Flow, int] = {}
        """The newest batch of each table that was looked at."""
        self._tidying = {
            flow: sink_of(flow).tidying(flow, hadoop, max_files)
            for flow in flows
            if flow.to.is_table and mode != "keep"
        }

    @contextmanager
    def running(self) -> Iterator[None]:
        """Look every two seconds, in a thread of its own, and once more at the end."""
        thread = threading.Thread(target=self._loop, daemon=True, name="retention")
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join(_PATIENCE_SECONDS)
            if not thread.is_alive():  # a merge that does not end is as safe as a killed one
                self.run_once()

    def run_once(self) -> None:
        """Tidy every folder and table. One that fails is logged, left as it is and tried again the next time."""
        for flow in self._flows:
            for folder, prefix in flow.folders:
                with _logged(flow, folder):
                    self._tidy(flow, folder, prefix)
            if flow in self._tidying:
                with _logged(flow, flow.layout.output):
                    self._tidy_table(flow)

    def _loop(self) -> None:
        while not self._ended.wait(_INTERVAL_SECONDS):
            self.run_once()

    def _tidy(self, flow: Flow, folder: Path, prefix: str) -> None:
        self._empty(folder)
        changed = folder.stat().st_mtime_ns if folder.is_dir() else 0
        if self._tidy_since.get(folder) == changed:
            return
        files = batch_files(folder, prefix)
        kept = standing(files)
        if len(kept) < len(files):
            self._delete(flow, covered(flow, prefix, files))
        if self._mode == "keep" or len(kept) <= self._most:
            if changed < time.time_ns() - _TICK_NS:
                self._tidy_since[folder] = changed
            return
        free_up_to = _committed_by_all(flow)
        free = list(itertools.takewhile(lambda file: file.last <= free_up_to, kept))
        micro = [file for file in free if not file.is_compacted]
        standing_micro = sum(not file.is_compacted for file in kept)
        if self._mode == "compact" and standing_micro <= self._most:
            return
        for each in (flow, *flow.downstream):  # a power cut must not take back what is relied on here
            each.checkpoint.flush_last_commit()
        if self._mode == "prune":
            self._prune(flow, free[: len(kept) - self._most], prefix)
        else:
            # not over a gap: what a merged file says of itself would no longer tell of it
            for run in _mergeable(flow, prefix, micro[: standing_micro - self._most // 2]):
                for group in bounded(run, _size):
                    self._merge(flow, prefix, group)
            merged = [file for file in standing(batch_files(folder, prefix)) if file.last <= free_up_to]
            for newest in list(_mergeable(flow, prefix, [file for file in merged if file.is_compacted]))[-1:]:
                self._merge(flow, prefix, dominated(newest, _size))

    def _empty(self, folder: Path) -> None:
        """Take a merge away that an earlier start has left in the making."""
        if folder not in self._emptied and merge_staging(folder).is_dir():
            self._hadoop.delete(merge_staging(folder))
        self._emptied.add(folder)

    def _tidy_table(self, flow: Flow) -> None:
        committed = flow.checkpoint.last_committed()
        newest = committed.batch_id if committed else -1
        if self._tables.get(flow, -1) != newest:
            self._tidying[flow]()
            self._tables[flow] = newest

    def _merge(self, flow: Flow, prefix: str, files: Sequence[BatchFile]) -> None:
        if len(files) < 2:
            return
        folder, first, last = files[0].path.parent, files[0], files[-1]
        time_ms = int(first.time.timestamp() * 1000)
        target = batch_file(folder, prefix, first.path.suffix[1:], time_ms, first.first, last.last)
        staged = merge_staging(folder) / target.path.name
        staged.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._concat(flow, prefix, [file.path for file in files], staged)
        except BaseException:  # a disk that is full must not be filled by attempts
            self._hadoop.delete(staged)
            raise
        reach(flow.name, "merged")
        self._hadoop.publish(staged, target.path)
        reach(flow.name, "swapped")
        self._delete(flow, files)
        logs.info(f"{flow.name} compacted", files=len(files), file=target.path.name, bytes=target.path.stat().st_size)

    def _prune(self, flow: Flow, files: Sequence[BatchFile], prefix: str) -> None:
        if files and prefix == flow.sink:
            try:
                chain.let_go(flow, files[-1].last)
            except OSError:  # a full disk, for which the oldest makes room
                self._delete(flow, files[:1])
                chain.let_go(flow, files[-1].last)
        self._delete(flow, files)

    def _delete(self, flow: Flow, files: Sequence[BatchFile]) -> None:
        for i, file in enumerate(files):
            if i == len(files) // 2 and len(files) > 1:
                reach(flow.name, "half_deleted")
            self._hadoop.delete(file.path)

    def _concat(self, flow: Flow, prefix: str, parts: Sequence[Path], target: Path) -> None:
        form = flow.form_of(prefix)
        assert form is not None  # noqa: S101 - there are files
        form.merge(self._hadoop, parts, target)


def _mergeable(flow: Flow, prefix: str, files: Sequence[BatchFile]) -> Iterator[list[BatchFile]]:
    """Yield the files in runs that may be merged: without a gap, and of text those of one version of its columns."""
    form = flow.form_of(prefix)
    for run in chain.unbroken(files):
        if form and form.lifts:
            yield run
        else:
            yield from (own for _, own in columns.divided(flow, run))


@contextmanager
def _logged(flow: Flow, folder: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # whatever it was: the batches must go on
        logs.warning(f"{flow.name} retention failed", folder=folder, error=f"{type(error).__name__}: {error}")


def _committed_by_all(flow: Flow) -> int:
    """Return the newest batch that the flow and all that follow it have committed; -1 for none."""
    own = flow.checkpoint.last_committed()
    taken = [own.batch_id if own else -1]
    for follower in flow.downstream:
        taken.append(follower.taken_up_to())
    return min(taken)


def _size(file: BatchFile) -> int:
    return file.path.stat().st_size
