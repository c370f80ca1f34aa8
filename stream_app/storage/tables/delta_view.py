"""What a Delta table shows, as delta-rs reads it: one version, until it is refreshed. The driver alone opens it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import pyarrow as pa
from deltalake import DeltaTable, Schema
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from stream_app.errors import ConfigError
from stream_app.storage.tables.delta_told import files_of, kept_of, own_of, version_of
from stream_app.storage.tables.place import Place
from stream_app.storage.tables.table import DamagedError, File, Mark, Version

_FEW_VERSIONS = 100
_REOPENED = 100
"""A handle keeps what it has read; so often it is made again, which costs three times a look at what is new."""
_LONGEST = 200
_PROTOCOL = (1, 2)
"""What every reader can read and every writer write."""
_V = TypeVar("_V", bound="DeltaView")
_P = ParamSpec("_P")
_R = TypeVar("_R")


def told(method: Callable[Concatenate[_V, _P], _R]) -> Callable[Concatenate[_V, _P], _R]:
    """Have what goes wrong told as the table's place tells it, and a log that cannot be read as DamagedError."""

    @wraps(method)
    def told_so(self: _V, *args: _P.args, **named: _P.kwargs) -> _R:
        try:
            with self.place.told():
                return method(self, *args, **named)
        except (CommitFailedError, TableNotFoundError):
            raise
        except DeltaError as error:
            raise damaged(self.location, str(error)) from None

    return cast("Callable[Concatenate[_V, _P], _R]", told_so)


def damaged(location: str, said: str) -> DamagedError:
    """Return the error for a table of that place whose log is not as it was written."""
    what = " ".join(said.partition("   0: ")[0].split())[:_LONGEST]  # delta-rs adds a backtrace
    return DamagedError(f"{location}: its log cannot be read ({what}); put it back from a copy, or move the table away")


class DeltaView:
    """A Delta table to be read (storage/tables/table.py has what is promised)."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.location = place.location
        self._opened: DeltaTable | None = None
        self._refreshed = 0

    @told
    def exists(self) -> bool:
        """Return whether there is a table at its location."""
        try:
            self._handle()  # is_deltatable would hold all threads until a store answers
        except TableNotFoundError:
            return False
        return True

    @told
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
    def newest(self) -> Version:
        """That version, as the log has it."""
        return next(self.versions(1))

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

    def written(self, query_id: str) -> int | None:
        """Return the newest batch of a query that is in; None before the first."""
        found = self._table.transaction_version(query_id)
        return None if found is None else int(found)

    @told
    def live(self, version: int | None = None) -> list[File]:
        """Return the files that hold the rows of a version, of the newest without one."""
        if version is not None and not 0 <= version <= self.version:
            raise ConfigError(f"{self.location}: there is no version {version}; the newest is {self.version}")
        try:
            table = self._current if version is None else self._handle(version)
        except DeltaError as error:
            if version is None:
                raise
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

    @told
    def expired(self, hours: int, *, orphans: bool) -> list[str]:
        """Return the paths of files that no version of the last hours needs, or with `orphans` has ever named."""
        return list(self._current.vacuum(hours, dry_run=True, enforce_retention_duration=False, full=orphans))

    @told
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
