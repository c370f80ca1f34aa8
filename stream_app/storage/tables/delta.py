"""A Delta table by delta-rs, on the driver alone: it commits files that tasks have written, and rewrites no row.

delta-rs takes a second commit of one application transaction as gladly as the first, and only refuses one whose handle
is older than the first. So: refresh, ask for the newest batch, commit on that handle, and after any error ask again.
Never use it in a process that forks: a child panics. A table on a disk is delta_on_disk.py's.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Literal

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Schema, Transaction
from deltalake.exceptions import CommitFailedError
from deltalake.transaction import AddAction, RemoveAction

from stream_app.storage.tables.delta_told import kept, named
from stream_app.storage.tables.delta_view import DeltaView, told
from stream_app.storage.tables.table import ConflictError, File, Mark, Part

_TRIES = 5


class Delta(DeltaView):
    """A Delta table (storage/tables/table.py has what is promised)."""

    _after: PostCommitHookProperties | None = None
    """What delta-rs does after a commit; by default a checkpoint now and then, and what it covers of the log goes."""

    def mend(self) -> list[str]:
        """Take away what a power cut left torn of the log; return a line for each file that went."""
        self.place.mend()
        return []

    @told
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
            post_commithook_properties=self._after,
        )
        self._opened = None
        self._flush(self.version, self.version)

    @told
    def own(self, owner: Mapping[str, str], kept_hours: int) -> None:
        """Note another owner, and how long versions are kept from now on."""
        before = self.version
        properties = {**kept(kept_hours), **named(owner)}
        self._current.alter.set_table_properties(
            properties, raise_if_not_exists=False, post_commithook_properties=self._after
        )
        self.refresh()
        self._flush(before + 1, self.version)

    @told
    def add_columns(self, columns: pa.Schema) -> None:
        """Add columns, which are null in the rows that there are."""
        before = self.version
        fields = Schema.from_arrow(columns).fields
        self._current.alter.add_columns(fields, post_commithook_properties=self._after)
        self.refresh()
        self._flush(before + 1, self.version)

    @told
    def widen(self, columns: pa.Schema, added: Sequence[Part], removed: Sequence[File], says: str) -> bool:
        """Have wider types, and files with the same rows in them in the place of all, at once.

        `says` is what the version says of it. Return whether nobody came between; else nothing is changed.
        """
        opened, before = self._current, self.version
        if {file.path for file in removed} != {file.path for file in self.live()}:
            return False
        actions: list[AddAction | RemoveAction] = [
            AddAction(one.path, one.size, one.partition, now_ms(), True, one.statistics) for one in added
        ]
        # without another try: delta-rs would remove what it has seen, and leave what came since
        properties = CommitProperties(named({"widened": says}), max_commit_retries=0)
        schema, by = Schema.from_arrow(columns), [*self.partitioned_by]
        try:
            opened.create_write_transaction(
                actions,
                "overwrite",
                schema,
                partition_by=by,
                commit_properties=properties,
                post_commithook_properties=self._after,
            )
        except CommitFailedError:  # somebody came between, or the answer of ours was lost
            self.refresh()
            return bool(self.columns == self.as_stored(columns))
        self.refresh()
        self._flush(before + 1, self.version)
        return True

    @told
    def commit(
        self, mark: Mark, added: Sequence[Part], removed: Sequence[File] = (), columns: pa.Schema | None = None
    ) -> None:
        """Bring a batch in, and take files out, at once. A batch that is in by then changes nothing.

        With `columns` the table has these from then on, and no row but the batch's. The batch is flushed when it
        returns. Raises ConflictError where a file to be removed has gone, or the table has another owner than when it
        was looked at.
        """
        owner = self.owner
        for left in reversed(range(_TRIES)):
            is_held = self._holds(removed)  # first: no version may come between the next question and ours
            if self._has(mark):
                return
            if self.owner != owner:
                raise ConflictError(f"{self.location}: somebody else owns it since batch {mark.batch} was planned")
            if not is_held:
                gone = f"{self.location}: somebody replaced files that batch {mark.batch} was to replace"
                raise ConflictError(gone)
            try:
                self._write(mark, added, removed, _saying(mark), columns)
            except Exception as error:  # whatever it was, the commit may have been made
                self.refresh()
                if self._has(mark):
                    self._flush(self.version, self.version)
                    return
                if not isinstance(error, CommitFailedError) or not left:
                    raise
            else:
                return

    @told
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

    @told
    def vacuum(self, hours: int, *, orphans: bool) -> None:
        """Delete what is `expired`. Versions that needed it can no longer be read."""
        before = self.version
        self._current.vacuum(hours, dry_run=False, enforce_retention_duration=False, full=orphans)
        self.refresh()
        self._flush(before + 1, self.version)

    def _write(
        self,
        mark: Mark | None,
        added: Sequence[Part],
        removed: Sequence[File],
        says: Mapping[str, str],
        columns: pa.Schema | None = None,
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
        mode: Literal["append", "overwrite"] = "append" if columns is None else "overwrite"
        schema = self._table.schema() if columns is None else Schema.from_arrow(columns)
        self._current.create_write_transaction(
            actions,
            mode,
            schema,
            partition_by=partitions,
            commit_properties=properties,
            post_commithook_properties=self._after,
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
