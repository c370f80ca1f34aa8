"""What a sink asks of a table, whatever its format: parts that tasks wrote, commits, live files, versions.

No name of a format is in this file. The driver alone opens a table; tasks write parts and know no log.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa

from stream_app import logs
from stream_app.errors import StreamAppError, UnavailableError
from stream_app.storage.tables.place import Place

_MANY_EXPIRED = 100
"""Each vacuum is two versions, so one is made for so many files at once."""
Partition = Mapping[str, str | None]
"""The partition column and its value as text; empty of a table that is not partitioned."""


class ConflictError(UnavailableError):
    """Somebody else removed files meanwhile that a commit was to replace, or owns the table. The batch is run again."""


class DamagedError(StreamAppError):
    """The log of a table cannot be read, and nothing can mend it."""


@dataclass(frozen=True)
class File:
    """A data file of a table. Its path is from the table's folder on."""

    path: str
    size: int
    rows: int
    partition: Partition = field(default_factory=dict)


@dataclass(frozen=True)
class Part(File):
    """A file that a task has written and flushed, and no commit has named yet."""

    statistics: str = ""
    """What the format's log says of its columns."""


@dataclass(frozen=True)
class Mark:
    """Whose batch a commit brings in. A table holds each batch of a query at most once."""

    query_id: str
    batch: int
    says: Mapping[str, str] = field(default_factory=dict)
    """What the version says beside that: times and offsets, by which a checkpoint can be made again."""


@dataclass(frozen=True)
class Version:
    """One version of a table, as its log has it."""

    number: int
    time_ms: int
    what: str
    """What the commit did, in the format's words."""
    batch: int | None = None
    """The batch that it brought in, if it is one of a query."""
    query_id: str = ""
    says: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Look:
    """What a table held when it was looked at."""

    newest: Version
    files: tuple[File, ...]


class Table(Protocol):
    """One table, opened on the driver. It shows one version until it is refreshed."""

    location: str
    place: Place

    def exists(self) -> bool:
        """Return whether there is a table at its location."""

    def mend(self) -> list[str]:
        """Take away what a power cut left torn of its log; return a line for each file that went.

        Raises DamagedError where rows would go with it.
        """

    def create(
        self, columns: pa.Schema, partitioned_by: Sequence[str], owner: Mapping[str, str], kept_hours: int
    ) -> None:
        """Make an empty table of those columns. What a table there held is removed by the same commit.

        Versions are kept for so many hours, as far as nobody asks for less.
        """

    def refresh(self) -> None:
        """Look at the newest version."""

    @property
    def version(self) -> int:
        """The number of the version that is looked at."""

    @property
    def newest(self) -> Version:
        """That version, as the log has it."""

    @property
    def columns(self) -> pa.Schema:
        """Its columns, with those by which it is partitioned."""

    @property
    def partitioned_by(self) -> tuple[str, ...]:
        """The columns by which it is."""

    @property
    def owner(self) -> Mapping[str, str]:
        """What `create` or `own` has noted of who writes it."""

    @property
    def kept_hours(self) -> int | None:
        """For how long its versions are kept."""

    def own(self, owner: Mapping[str, str], kept_hours: int) -> None:
        """Note another owner, and how long versions are kept from now on."""

    def as_stored(self, columns: pa.Schema) -> pa.Schema:
        """Return columns in the types that the format has for them."""

    def foreign_features(self) -> tuple[str, ...]:
        """Return what the table has switched on that we do not write."""

    def add_columns(self, columns: pa.Schema) -> None:
        """Add columns, which are null in the rows that there are."""

    def widen(self, columns: pa.Schema, added: Sequence[Part], removed: Sequence[File], says: str) -> bool:
        """Have wider types, and files with the same rows in them in the place of all, at once.

        `says` is what the version says of it. Return whether nobody came between; else nothing is changed.
        """

    def written(self, query_id: str) -> int | None:
        """Return the newest batch of a query that is in; None before the first."""

    def commit(self, mark: Mark, added: Sequence[Part], removed: Sequence[File] = ()) -> None:
        """Bring a batch in, and take files out, at once. A batch that is in by then changes nothing.

        The batch is flushed when it returns. Raises ConflictError where a file to be removed has gone, or the table has
        another owner than when it was looked at.
        """

    def rewrite(self, added: Sequence[Part], removed: Sequence[File]) -> bool:
        """Put files in the place of others that hold the same rows; return whether nobody came between."""

    def live(self, version: int | None = None) -> list[File]:
        """Return the files that hold the rows of a version, of the newest without one."""

    def versions(self, most: int | None = None) -> Iterator[Version]:
        """Yield what the log has kept of its versions, newest first."""

    def expired(self, hours: int, *, orphans: bool) -> list[str]:
        """Return the paths of files that no version of the last hours needs, from the table's folder on.

        With `orphans` also those that no version has named, as what died has left, if they are that old.
        """

    def vacuum(self, hours: int, *, orphans: bool) -> None:
        """Delete what is `expired`. Versions that needed it can no longer be read."""


def take_expired(name: str, table: Table, hours: int) -> None:
    """Delete replaced files that no version of the last hours needs, once these are many."""
    if len(found := table.expired(hours, orphans=False)) >= _MANY_EXPIRED:
        table.vacuum(hours, orphans=False)
        logs.info(f"{name} deleted files that no version of the last {hours} hours needs", files=len(found))
