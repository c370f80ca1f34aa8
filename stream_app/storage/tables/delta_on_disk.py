"""A Delta table on a POSIX disk: what a commit costs is its own, however many versions there are.

delta-rs lists the whole log at each commit and each look, some 7 µs a version, and flushes nothing. So entries are read
and made here, one file each, in the protocol that every reader knows: an entry is written, flushed and linked to the
name of the next version, which takes place once. Whatever else there is to do, delta-rs does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pyarrow as pa
from deltalake import DeltaTable, PostCommitHookProperties
from deltalake.exceptions import CommitFailedError

from stream_app.errors import UnavailableError
from stream_app.storage.batch_files import sync
from stream_app.storage.tables import delta_log
from stream_app.storage.tables.delta import Delta, now_ms
from stream_app.storage.tables.delta_log import Action
from stream_app.storage.tables.delta_told import version_of
from stream_app.storage.tables.delta_view import damaged, told
from stream_app.storage.tables.on_disk import OnDisk
from stream_app.storage.tables.place import Place
from stream_app.storage.tables.table import File, Mark, Part, Version

_FEWEST, _MOST, _SHARE = 10, 100, 50
"""A checkpoint is made for a share of the versions: it costs what the log holds, and a start reads what came after."""


def table_at(place: Place) -> Delta:
    """Return the table of that place, which may not be there yet."""
    return DeltaOnDisk(place) if isinstance(place, OnDisk) else Delta(place)


class DeltaOnDisk(Delta):
    """A Delta table on a disk (storage/tables/table.py has what is promised)."""

    # a checkpoint of delta-rs is not flushed before the entries go that it covers
    _after = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._root = Path(place.location)
        self._version = -1
        """The one that is looked at. The handle of delta-rs may be older, as long as the columns are the same."""
        self._files: dict[str, File] | None = None
        """By path, what is live at that version, once it was asked for."""
        self._batches = dict[str, int]()
        """The newest by query, where an entry brought one in that was read or made here."""
        self._checkpoint = -1
        self._stamp: tuple[int, int] | None = None
        """What tells the entry of that version from one of another table at this place."""

    def exists(self) -> bool:
        """Return whether there is a table at its location."""
        return bool(DeltaTable.is_deltatable(self.location))

    def mend(self) -> list[str]:
        """Take away what a power cut left torn of the log; return a line for each file that went.

        Raises DamagedError where rows would go with it.
        """
        gone, kept = delta_log.torn(self._root)
        if kept:
            raise damaged(self.location, f"{kept} is damaged, and the entries that it covers are gone")
        return delta_log.mend(self._root, gone)

    def create(
        self, columns: pa.Schema, partitioned_by: Sequence[str], owner: Mapping[str, str], kept_hours: int
    ) -> None:
        """Make an empty table of those columns. What a table there held is removed by the same commit."""
        super().create(columns, partitioned_by, owner, kept_hours)
        sync(self._root)
        sync(self._root.parent)

    @told
    def refresh(self) -> None:
        """Look at the newest version."""
        if self._opened is None or self._is_gone():
            self._open()
        while (entry := self._read(self._version + 1)) is not None:
            if any("metaData" in one or "protocol" in one for one in entry):
                self._open()
            else:
                self._follow(entry)
        if self._is_gone():
            self._open()

    @property
    def version(self) -> int:
        """The number of the version that is looked at."""
        if self._opened is None:
            self.refresh()
        return self._version

    @property
    def newest(self) -> Version:
        """That version, as the log has it."""
        entry = self._read(self.version) or ()
        says = next((one["commitInfo"] for one in entry if "commitInfo" in one), None)
        return version_of({**says, "version": self._version}) if says else super().newest

    def written(self, query_id: str) -> int | None:
        """Return the newest batch of a query that is in; None before the first."""
        found = self._batches.get(query_id)
        return super().written(query_id) if found is None else found

    def live(self, version: int | None = None) -> list[File]:
        """Return the files that hold the rows of a version, of the newest without one."""
        if version is not None:
            return super().live(version)
        if self._files is None:
            found = super().live()  # before what is assigned to: it may look at a newer version
            self._files = {file.path: file for file in found}
        return [*self._files.values()]

    def vacuum(self, hours: int, *, orphans: bool) -> None:
        """Delete what is `expired`. Versions that needed it can no longer be read."""
        self._condense()  # delta-rs makes a checkpoint that is not flushed, and deletes older ones before it
        super().vacuum(hours, orphans=orphans)

    @property
    def _current(self) -> DeltaTable:
        if self._table.version() < self.version:
            self._table.update_incremental()
            if self._table.version() > self._version:  # somebody came between
                self._at(self._table.version())
        return self._table

    def _read(self, version: int) -> list[Action] | None:
        try:
            return delta_log.read(self._root, version)
        except ValueError as error:
            raise damaged(self.location, f"version {version}: {error}") from None

    def _open(self) -> None:
        self._opened = DeltaTable(self.location)
        self._checkpoint = delta_log.last_checkpoint(self._root)
        self._at(self._opened.version())

    def _at(self, version: int) -> None:
        """Look at a version that delta-rs has read."""
        self._version, self._files, self._batches = version, None, {}
        self._stamp = delta_log.stamp(self._root, version)

    def _is_gone(self) -> bool:
        """Return whether its entry is not that of the version that is looked at.

        It was cleaned up, as the next ones may have been; or the table was deleted, and another one made.
        """
        return self._stamp is None or delta_log.stamp(self._root, self._version) != self._stamp

    def _follow(self, entry: Sequence[Action]) -> None:
        """Look at the version that an entry makes of the one before."""
        self._version += 1
        self._stamp = delta_log.stamp(self._root, self._version)
        for action in entry:
            if one := action.get("txn"):
                self._batches[one["appId"]] = int(one["version"])
            elif self._files is not None and (one := action.get("remove")):
                self._files.pop(unquote(one["path"]), None)
            elif self._files is not None and (one := action.get("add")):
                self._files[unquote(one["path"])] = _file(one)

    def _write(
        self,
        mark: Mark | None,
        added: Sequence[Part],
        removed: Sequence[File],
        says: Mapping[str, str],
        columns: pa.Schema | None = None,
    ) -> None:
        self._check(is_removing=bool(mark and (removed or columns)))
        if columns is not None:
            super()._write(mark, added, removed, says, columns)
            return
        entry = _entry(mark, added, removed, says, self.partitioned_by)
        if not delta_log.put(self._root, self._version + 1, entry):
            raise CommitFailedError(f"{self.location}: somebody else has made version {self._version + 1}")
        self._follow(entry)
        if self._version - self._checkpoint >= min(max(_FEWEST, self._version // _SHARE), _MOST):
            self._condense()

    def _check(self, *, is_removing: bool) -> None:
        """Raise UnavailableError where somebody has switched on what the next version would break."""
        if features := self.foreign_features():
            problem = f"has features that this service does not write ({', '.join(features)})"
        elif is_removing and self._table.metadata().configuration.get("delta.appendOnly") == "true":
            problem = "may only be appended to (delta.appendOnly), and its rows are to be replaced"
        else:
            return
        raise UnavailableError(f"{self.location} {problem}")

    def _condense(self) -> None:
        """Make a checkpoint, and delete what it covers of the log and is older than what is kept."""
        self._opened = None  # what was read since the last one need not stay in memory
        self._opened = DeltaTable(self.location)
        if self._opened.version() > self._version:
            self._at(self._opened.version())
        self._opened.create_checkpoint()
        self._flush(self._version, self._version)  # before what it covers goes
        self._opened.cleanup_metadata()
        self._checkpoint = self._version

    def _flush(self, first: int, last: int) -> None:
        delta_log.flush(self._root, first, last)


def _entry(
    mark: Mark | None, added: Sequence[Part], removed: Sequence[File], says: Mapping[str, str], by: Sequence[str]
) -> list[Action]:
    """Return what the log says of a batch; without one, of files whose rows are those of others."""
    now, is_change = now_ms(), mark is not None
    written = {"operation": "WRITE", "operationParameters": {"mode": "Append", "partitionBy": json.dumps([*by])}}
    entry: list[Action] = [{"commitInfo": {"timestamp": now, **written, "engineInfo": "stream_app", **says}}]
    if mark:
        entry.append({"txn": {"appId": mark.query_id, "version": mark.batch, "lastUpdated": now}})
    for file in removed:
        gone = {"deletionTimestamp": now, "extendedFileMetadata": True, "dataChange": is_change}
        entry.append({"remove": {**_named(file), **gone}})
    for part in added:
        if part.rows:
            new = {"modificationTime": now, "dataChange": is_change, "stats": part.statistics}
            entry.append({"add": {**_named(part), **new}})
    return entry


def _named(file: File) -> dict[str, Any]:
    return {"path": quote(file.path, safe="/="), "partitionValues": dict(file.partition), "size": file.size}


def _file(add: Mapping[str, Any]) -> File:
    rows = json.loads(add.get("stats") or "{}").get("numRecords")
    partition = {key: value or None for key, value in add.get("partitionValues", {}).items()}
    return File(unquote(add["path"]), int(add["size"]), int(rows or 0), partition)
