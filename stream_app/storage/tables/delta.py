"""A Delta table by delta-rs, on the driver alone: it commits files that tasks have written, and rewrites no row.

delta-rs takes a second commit of one application transaction as gladly as the first, and only refuses one whose handle
is older than the first. So: refresh, ask for the newest batch, commit on that handle, and after any error ask again.
Never use it in a process that forks: a child panics. A table on a disk is delta_on_disk.py's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Schema, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction

from stream_app.errors import ConfigError
from stream_app.storage.tables.delta_told import files_of, kept, kept_of, named, own_of, version_of
from stream_app.storage.tables.place import Place
from stream_app.storage.tables.table import ConflictError, File, Mark, Part, Version

_TRIES = 5
_FEW_VERSIONS = 100
_REOPENED = 100
"""A handle keeps what it has read; so often it is made anew, which costs three times a look at what is new."""
_PROTOCOL = (1, 2)
"""What every reader can read and every writer write."""
_P = ParamSpec("_P")
_R = TypeVar("_R")


def _told(method: Callable[Concatenate[Delta, _P], _R]) -> Callable[Concatenate[Delta, _P], _R]:
    """Have what goes wrong told as the table's place tells it."""

    @wraps(method)
    def told(self: Delta, *args: _P.args, **named: _P.kwargs) -> _R:
        with self.place.told():
            return method(self, *args, **named)

    return cast("Callable[Concatenate[Delta, _P], _R]", told)


class Delta:
    """A Delta table (storage/tables/table.py has what is promised)."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.location = place.location
        self._opened: DeltaTable | None = None
        self._refreshed = 0

    @_told
    def exists(self) -> bool:
        """Return whether there is a table at its location."""
        try:
            self._handle()  # is_deltatable would hold all threads until a store answers
        except TableNotFoundError:
            return False
        return True

    def mend(self) -> list[str]:
        """Take away what a power cut left torn of the log; return a line for each file that went."""
        return []

    @_told
    def create(
        self, columns: pa.Schema, partitioned_by: Sequence[str], owner: Mapping[str, str], kept_hours: int
    ) -> None:
        """Make an empty table of those columns. What a table there held is removed by the same commit."""
        DeltaTable.create(
            self.location,
            Schema.from_arrow(columns),
            mode="overwrite",
            partition_by=[*partitioned_by],
            configuration={**kept(kept_hours), **named(owner)},
            raise_if_key_not_exists=False,
            storage_options=dict(self.place.options),
        )
        self._opened = None
        self._flush(self.version, self.version)

    @_told
    def refresh(self) -> None:
        """Look at the newest version."""
        self._refreshed += 1
        if self._opened is None or self._refreshed % _REOPENED == 0:
            self._opened = self._handle()
        else:
            self._opened.update_incremental()

    @property
    def version(self) -> int:
        """The number of the version that is looked at."""
        return int(self._table.version())

    @property
    def columns(self) -> pa.Schema:
        """Its columns, with those by which it is partitioned."""
        return pa.schema(self._table.schema())

    @property
    def partitioned_by(self) -> tuple[str, ...]:
        """The columns by which it is."""
        return tuple(self._table.metadata().partition_columns)

    @property
    def owner(self) -> Mapping[str, str]:
        """What `create` or `own` has noted of who writes it."""
        return own_of(self._table.metadata().configuration)

    @property
    def kept_hours(self) -> int | None:
        """For how long its versions are kept."""
        return kept_of(self._table.metadata().configuration)

    @_told
    def own(self, owner: Mapping[str, str], kept_hours: int) -> None:
        """Note another owner, and how long versions are kept from now on."""
        before = self.version
        properties = {**kept(kept_hours), **named(owner)}
        self._current.alter.set_table_properties(properties, raise_if_not_exists=False)
        self.refresh()
        self._flush(before + 1, self.version)

    def as_stored(self, columns: pa.Schema) -> pa.Schema:
        """Return columns in the types that Delta has for them."""
        return pa.schema(Schema.from_arrow(columns))

    def foreign_features(self) -> tuple[str, ...]:
        """Return what the table has switched on that we do not write."""
        protocol = self._table.protocol()
        features = {*(protocol.reader_features or ()), *(protocol.writer_features or ())}
        if not features and (protocol.min_reader_version, protocol.min_writer_version) > _PROTOCOL:
            features = {f"reader version {protocol.min_reader_version}, writer version {protocol.min_writer_version}"}
        return tuple(sorted(features))

    @_told
    def add_columns(self, columns: pa.Schema) -> None:
        """Add columns, which are null in the rows that there are."""
        before = self.version
        self._current.alter.add_columns(Schema.from_arrow(columns).fields)
        self.refresh()
        self._flush(before + 1, self.version)

    @_told
    def widen(self, columns: pa.Schema, added: Sequence[Part], removed: Sequence[File], told: str) -> bool:
        """Have wider types, and files with the same rows in them in the place of all, at once.

        `told` is what the version says of it. Return whether nobody came between; else nothing is changed.
        """
        opened, before = self._current, self.version
        if {file.path for file in removed} != {file.path for file in self.live()}:
            return False
        actions: list[AddAction | RemoveAction] = [
            AddAction(one.path, one.size, one.partition, now_ms(), True, one.statistics) for one in added
        ]
        # without another try: delta-rs would remove what it has seen, and leave what came since
        properties = CommitProperties(named({"widened": told}), max_commit_retries=0)
        schema, by = Schema.from_arrow(columns), [*self.partitioned_by]
        try:
            opened.create_write_transaction(actions, "overwrite", schema, partition_by=by, commit_properties=properties)
        except CommitFailedError:  # somebody came between, or the answer of ours was lost
            self.refresh()
            return bool(self.columns == self.as_stored(columns))
        self.refresh()
        self._flush(before + 1, self.version)
        return True

    def written(self, query_id: str) -> int | None:
        """Return the newest batch of a query that is in; None before the first."""
        found = self._table.transaction_version(query_id)
        return None if found is None else int(found)

    @_told
    def commit(self, mark: Mark, added: Sequence[Part], removed: Sequence[File] = ()) -> None:
        """Bring a batch in, and take files out, at once. A batch that is in by then changes nothing.

        The batch is flushed when it returns. Raises ConflictError where a file to be removed has gone.
        """
        for left in reversed(range(_TRIES)):
            is_held = self._holds(removed)  # first: no version may come between the next question and ours
            if self._has(mark):
                return
            if not is_held:
                gone = f"{self.location}: somebody replaced files that batch {mark.batch} was to replace"
                raise ConflictError(gone)
            try:
                self._write(mark, added, removed, _saying(mark))
            except Exception as error:  # whatever it was, the commit may have been made
                self.refresh()
                if self._has(mark):
                    self._flush(self.version, self.version)
                    return
                if not isinstance(error, CommitFailedError) or not left:
                    raise
            else:
                return

    @_told
    def rewrite(self, added: Sequence[Part], removed: Sequence[File]) -> bool:
        """Put files in the place of others that hold the same rows; return whether nobody came between."""
        for _ in range(_TRIES):
            self.refresh()
            if not self._holds(removed):
                return False
            try:
                self._write(None, added, removed, named({"rewrites": str(len(removed))}))
            except CommitFailedError:  # somebody came between, or the answer of ours was lost
                self.refresh()
                if not (added and self._holds(added)):
                    continue
            return True
        return False

    @_told
    def live(self, version: int | None = None) -> list[File]:
        """Return the files that hold the rows of a version, of the newest without one."""
        try:
            table = self._current if version is None else self._handle(version)
        except DeltaError as error:
            raise ConfigError(
                f"{self.location}: its version {version} cannot be read: {' '.join(str(error).split())}"
            ) from None
        return files_of(table)

    def versions(self, most: int | None = None) -> Iterator[Version]:
        """Yield what the log has kept of its versions, newest first."""
        newest = self._history(_FEW_VERSIONS if most is None else most)
        yield from map(version_of, newest)
        if most is None and len(newest) == _FEW_VERSIONS:  # to read all entries of a log takes a while
            yield from map(version_of, self._history()[_FEW_VERSIONS:])

    @_told
    def expired(self, hours: int, *, orphans: bool) -> list[str]:
        """Return the paths of files that no version of the last hours needs, or with `orphans` has ever named."""
        return list(self._current.vacuum(hours, dry_run=True, enforce_retention_duration=False, full=orphans))

    @_told
    def vacuum(self, hours: int, *, orphans: bool) -> None:
        """Delete what is `expired`. Versions that needed it can no longer be read."""
        before = self.version
        self._current.vacuum(hours, dry_run=False, enforce_retention_duration=False, full=orphans)
        self.refresh()
        self._flush(before + 1, self.version)

    @_told
    def _history(self, most: int | None = None) -> list[dict[str, Any]]:
        return self._current.history(most)

    def _handle(self, version: int | None = None) -> DeltaTable:
        return DeltaTable(self.location, version=version, storage_options=dict(self.place.options))

    @property
    def _table(self) -> DeltaTable:
        if self._opened is None:
            self.refresh()
        assert self._opened is not None  # noqa: S101 - refresh has opened it
        return self._opened

    @property
    def _current(self) -> DeltaTable:
        """The table at the version that is looked at; `_table` may be of an older one with the same columns."""
        return self._table

    def _has(self, mark: Mark) -> bool:
        newest = self.written(mark.query_id)
        return newest is not None and newest >= mark.batch

    def _holds(self, files: Sequence[File]) -> bool:
        """Return whether all those files hold rows of the version that is looked at: delta-rs does not ask."""
        return not files or {file.path for file in files} <= {file.path for file in self.live()}

    def _write(
        self, mark: Mark | None, added: Sequence[Part], removed: Sequence[File], says: Mapping[str, str]
    ) -> None:
        """Make the version after the one that is looked at. Raises CommitFailedError where somebody else has."""
        now, before, is_change = now_ms(), self.version, mark is not None
        actions: list[AddAction | RemoveAction] = [
            RemoveAction(one.path, is_change, now, one.size, dict(one.partition)) for one in removed
        ]
        actions += [
            AddAction(one.path, one.size, one.partition, now, is_change, one.statistics) for one in added if one.rows
        ]
        partitions = [*self.partitioned_by]
        transactions = [Transaction(mark.query_id, mark.batch, now)] if mark else None
        properties = CommitProperties(dict(says), app_transactions=transactions)
        self._table.create_write_transaction(
            actions, "append", self._table.schema(), partition_by=partitions, commit_properties=properties
        )
        self.refresh()
        self._flush(before + 1, self.version)

    def _flush(self, first: int, last: int) -> None:
        """Have those versions on the disk. What an object store has answered for, it keeps."""


def _saying(mark: Mark) -> dict[str, str]:
    return named({**mark.says, "query": mark.query_id, "batch": str(mark.batch)})


def now_ms() -> int:
    """Return the time, in milliseconds since the epoch."""
    return int(time.time() * 1000)
