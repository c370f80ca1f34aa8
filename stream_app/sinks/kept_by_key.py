"""Rows that are kept by key: what a batch changed takes the place of what a table held of the same keys.

Pure functions of Arrow tables, run in a task. DuckDB compares the keys: a null equals a null, as nowhere in Arrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from stream_app.feeds.sql import name
from stream_app.layers.aggregate import FINAL, Running, Stateful


@dataclass(frozen=True)
class KeptByKey:
    """How the rows that a batch changed become those of a table."""

    columns: pa.Schema
    """What both have."""
    keys: tuple[str, ...]
    """What tells rows apart."""

    def merged(self, held: pa.Table, changed: pa.Table) -> pa.Table:
        """Return the changed rows, and those held whose keys none of them has."""
        return self._query(f"FROM changed UNION ALL BY NAME {self._not_changed(self.keys)}", held, changed)

    def _not_changed(self, keys: Sequence[str]) -> str:
        """Return the SQL for the rows held whose keys none of the changed ones has."""
        same = " AND ".join(f"h.{name(key)} IS NOT DISTINCT FROM c.{name(key)}" for key in keys)
        return f"SELECT h.* FROM held h WHERE NOT EXISTS (FROM changed c WHERE {same})"

    def _query(self, sql: str, held: pa.Table, changed: pa.Table) -> pa.Table:
        with duckdb.connect(config={"threads": "1"}) as database:
            database.execute("SET TimeZone = 'UTC'")
            database.register("held", held)
            database.register("changed", changed)
            return database.sql(sql).to_arrow_table().select(self.columns.names).cast(self.columns)


@dataclass(frozen=True)
class Totalled(KeptByKey):
    """Totals, each by its keys, or the first of them."""

    order: str
    """In SQL, by which they are the first."""
    most: int | None
    """How many these are; None for all."""

    @classmethod
    def of(cls, columns: pa.Schema, running: Running) -> Totalled:
        """Return how rows of that dataset are kept."""
        return cls(columns, running.keys, running.newest_first, running.most)

    def merged(self, held: pa.Table, changed: pa.Table) -> pa.Table:
        """Return the changed rows and those held whose keys none of them has, of these the first."""
        rows = super().merged(held, changed)
        return self._query(f"FROM changed ORDER BY {self.order} LIMIT {self.most}", held, rows) if self.most else rows


@dataclass(frozen=True)
class Fresh(KeptByKey):
    """Windows and sessions as they are by now, marked `final` once they are. What is final is never changed."""

    replaces_open: bool
    """Whether all open rows of a key make way for the rows that come, as sessions do."""
    opened: str
    """When the window or the session began."""

    @classmethod
    def of(cls, columns: pa.Schema, stateful: Stateful) -> Fresh:
        """Return how rows of that dataset are kept, `final` among their columns."""
        keys = (stateful.opened, *stateful.keys)
        return cls(columns, keys, stateful.replaces_open, stateful.opened)

    def as_of(self, held: pa.Table, changed: pa.Table, watermark_ms: int) -> tuple[pa.Table, pa.Table]:
        """Return what is final at a watermark, and what is still open; `held` are rows that were open before."""
        if self.replaces_open:
            # one that became final in the batch that changed it comes twice, the second time as final
            keys = ", ".join(map(name, self.keys))
            latest = f"SELECT DISTINCT ON ({keys}) * FROM changed ORDER BY {keys}, {name(FINAL)} DESC"
            kept = self._not_changed([key for key in self.keys if key != self.opened])
            rows = self._query(f"(FROM ({latest})) UNION ALL BY NAME ({kept})", held, changed)
        else:
            rows = self.merged(held, changed)
            is_past = pc.less_equal(rows["window_end"].cast(pa.int64()), watermark_ms * 1000)
            place = rows.schema.get_field_index(FINAL)
            rows = rows.set_column(place, self.columns.field(FINAL), pc.and_(is_past, bool(watermark_ms)))
        return rows.filter(rows[FINAL]), rows.filter(pc.invert(rows[FINAL]))
