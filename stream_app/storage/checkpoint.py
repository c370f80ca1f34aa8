"""What Spark has written to a query's checkpoint: read and flushed from outside of Spark, and mended before a start.

Batch N's line in `offsets/` is written before the batch runs, its file in `commits/` after it succeeded
(Spark's structured streaming guide; measured on 4.2.0). So a batch that is planned and not committed will be
run again, with the same offsets, the same batch time and the same watermark.

Spark does not flush these files, so a power cut may leave the newest ones empty. Where a batch's output is there, its
entry in `offsets/` is whole (`flush`). An empty entry is of a batch that never ran, or that ran and may run again.
"""

from __future__ import annotations

import json
import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path, PurePath

from stream_app.errors import StreamAppError
from stream_app.storage import offsets
from stream_app.storage.batch_files import sync
from stream_app.storage.layout import Layout
from stream_app.storage.offsets import LayerOffset, Offset, TopicOffsets

_METADATA, _OFFSETS, _COMMITS, _STATE, _FIRST_OFFSETS = (
    place.under(Layout.checkpoint)
    for place in (Layout.metadata, Layout.offsets, Layout.commits, Layout.state, Layout.first_offsets)
)

_SCHEMA_FILE = re.compile(r'"file:[^"]*(/state/\d+/_stateSchema/[^"/]+/[^"/]+)"')


class DamagedError(StreamAppError):
    """A file of a checkpoint is not there, or not what was written."""

    def __init__(self, path: Path) -> None:
        """Tell what a person does who only has the line; who knows the sink can say more."""
        super().__init__(f"{path} cannot be read; reset its sink with: make reset")
        self.path = path


@dataclass(frozen=True)
class PlannedBatch:
    """One entry of the offset log; times in milliseconds since the epoch, the watermark 0 where there is none."""

    batch_id: int
    time_ms: int
    watermark_ms: int
    end: Offset


@dataclass(frozen=True)
class Checkpoint:
    """The checkpoint folder of one query."""

    path: Path

    def query_id(self) -> str | None:
        """Return the id that Spark gave the query at its first start.

        It is None before that, and where it cannot be read.
        """
        try:
            return str(json.loads((self.path / _METADATA).read_text())["id"])
        except (FileNotFoundError, ValueError, LookupError, TypeError):
            return None

    def entry(self, batch_id: int) -> Path:
        """Return the file of the batch's entry in the offset log."""
        return self.path / _OFFSETS / str(batch_id)

    def planned(self, batch_id: int) -> PlannedBatch:
        """Return the batch's entry in the offset log.

        Raises FileNotFoundError for one never planned, or purged. Raises StreamAppError for one that cannot be read.
        """
        path = self.entry(batch_id)
        try:
            _version, metadata, *noted = path.read_text().splitlines()
            meta, end = json.loads(metadata), offsets.parse(json.loads(noted[0]))
            return PlannedBatch(batch_id, int(meta["batchTimestampMs"]), int(meta["batchWatermarkMs"]), end)
        except (ValueError, LookupError, TypeError, AttributeError):
            raise damaged(path) from None

    def first_offsets(self) -> TopicOffsets:
        """Where the first batch of a topic begins, as Spark noted it. Raises StreamAppError if that cannot be read."""
        path = self.path / _FIRST_OFFSETS
        try:
            _version, noted = path.read_text().splitlines()
            found = offsets.parse(json.loads(noted))
        except (FileNotFoundError, ValueError, LookupError, TypeError, AttributeError):
            raise damaged(path) from None
        if isinstance(found, LayerOffset):
            raise damaged(path)
        return found

    def all_planned(self) -> list[PlannedBatch]:
        """Return the entries that Spark has kept of the offset log, oldest first."""
        found = []
        for path in reversed(self._entries(_OFFSETS)):
            with suppress(FileNotFoundError):  # purged a moment ago
                if not _is_empty(path):
                    found.append(self.planned(int(path.name)))
        return found

    def last_planned(self) -> PlannedBatch | None:
        """Return the newest entry of the offset log, committed or not; None before the first."""
        return self._newest(_OFFSETS)

    def last_committed(self) -> PlannedBatch | None:
        """Return the newest batch that succeeded; None before the first."""
        return self._newest(_COMMITS)

    def watermark_due(self) -> int:
        """Return the watermark, in milliseconds, that no batch has acted on; 0 where there is none.

        After a batch that has raised it Spark plans one without data. It forgets to where the query ended in between.
        """
        newest, planned = self.last_committed(), self.last_planned()
        if newest is None or newest != planned:
            return 0
        try:
            _version, noted, *_ = (self.path / _COMMITS / str(newest.batch_id)).read_text().splitlines()
            reached = int(json.loads(noted)["nextBatchWatermarkMs"])
        except (FileNotFoundError, ValueError, LookupError, TypeError):  # the next record will do
            return 0
        return reached if reached > newest.watermark_ms else 0

    def flush(self, batch_id: int) -> None:
        """Have the batch's plan on the disk before its output is: its entry, and of the first one where it begins."""
        _sync_entry(self.entry(batch_id))
        if batch_id == 0 and (self.path / _FIRST_OFFSETS).exists():
            _sync_entry(self.path / _FIRST_OFFSETS)

    def flush_last_commit(self) -> None:
        """Have on the disk that the newest batch succeeded, before what others could read again is deleted."""
        for newest in self._entries(_COMMITS)[:1]:
            _sync_entry(newest)

    def has_commits(self) -> bool:
        """Return whether any batch has succeeded, whatever the offset log knows of it."""
        return not all(map(_is_empty, self._entries(_COMMITS)))

    def emptied(self) -> list[Path]:
        """Return the newest entries that a power cut left empty, with which Spark would not start.

        Nothing relies on one: the batch never ran, or it runs again. So all may be deleted.
        """
        empty: list[Path] = []
        for log, next_log in ((_COMMITS, None), (_OFFSETS, _COMMITS), (_FIRST_OFFSETS.parent, _OFFSETS)):
            for path in takewhile(_is_empty, self._entries(log)):
                later = self.path / next_log / path.name if next_log else None
                if later is None or later in empty or not later.exists():
                    empty.append(path)
        return empty

    def has_leftovers(self) -> bool:
        """Return whether there is anything to `clear`."""
        return any((self.path / name).exists() for name in (_OFFSETS, _COMMITS, _STATE))

    def clear(self) -> None:
        """Delete what a death left of a first batch that was not planned; where it was to begin is kept.

        Spark begins a query only where these folders are empty (STATE_STORE_CHECKPOINT_LOCATION_NOT_EMPTY, since 4.1),
        and makes the first entry there under another name: dying then, it would never start again.
        """
        for name in (_OFFSETS, _COMMITS, _STATE):
            if (self.path / name).exists():
                shutil.rmtree(self.path / name)

    def moved(self) -> dict[Path, str]:
        """Return the files of a moved checkpoint's state that name others where they were, each with its new text.

        Spark notes whole paths of the state's schemas, for transformWithState alone (measured on 4.2.0).
        """
        found = {}
        for path in (self.path / _STATE).glob("*/_metadata/v2/*"):
            text = path.read_text()
            settled = _SCHEMA_FILE.sub(lambda found: _json(f"file:{self.path.absolute()}{found[1]}"), text)
            if settled != text:
                found[path] = settled
        return found

    def _newest(self, log: PurePath) -> PlannedBatch | None:
        for path in self._entries(log):
            if _is_empty(path):
                continue
            planned = self.path / _OFFSETS / path.name
            if not planned.exists():
                raise damaged(planned)
            if not _is_empty(planned):
                return self.planned(int(path.name))
        return None

    def _entries(self, log: PurePath) -> list[Path]:
        """Newest first."""
        folder = self.path / log
        ids = [int(entry.name) for entry in folder.iterdir() if entry.name.isdigit()] if folder.is_dir() else []
        return [folder / str(i) for i in sorted(ids, reverse=True)]


def _json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def damaged(path: Path) -> DamagedError:
    """Return what to raise where a file of a checkpoint is not there, or not what we have written."""
    return DamagedError(path)


def _sync_entry(path: Path) -> None:
    sync(path)
    sync(path.parent)


def _is_empty(path: Path) -> bool:
    return path.stat().st_size == 0
