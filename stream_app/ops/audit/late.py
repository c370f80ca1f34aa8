"""The rows that are kept as late are silver's, each with windows of its own, and came too late indeed.

Spark drops a row of a window that ended by the watermark of earlier batches, and of a session if the row itself is at
or before that. The watermark is the newest event time of those batches' rows less the declared one, in milliseconds,
and never before 1970. Which rows were earlier batches is in silver's files. Where a merged file does not say so, all
rows count that are before the row itself.

How far that time went on without a record (`[event_time] idle`) is in the late rows' files (storage/idle_clocks.py).
They are not believed alone. The clock of the query is in its offset log, too, and never goes back: none was ahead of
the newest one, which is 0 of a feed that never had `idle`. Nor was one ahead of our own clock when its file was made.

So what is refused here was not late. What is let through may have been in time; then a window lacks it, and the
comparison of gold finds that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stream_app.contract.times import microseconds
from stream_app.feeds.sql import name
from stream_app.flows.flow import Flow
from stream_app.layers.aggregate import Stateful
from stream_app.ops.audit.clocks import EventTimes, read_by_us
from stream_app.ops.audit.findings import Findings
from stream_app.ops.audit.places import NOWHERE, Numbers, Places
from stream_app.storage import idle_clocks
from stream_app.storage.batch_files import BatchFile

_PLACE = 'partition, "offset"'


@dataclass(frozen=True)
class LateRows:
    """Judges the late rows of one flow."""

    database: duckdb.DuckDBPyConnection
    """Has them as `_late_<sink>`, and silver's rows that the flow has taken as `_due_<sink>`."""
    flow: Flow
    stateful: Stateful
    places: Places
    """Of silver."""
    times: EventTimes
    findings: Findings
    files: Mapping[Path, int] = field(default_factory=dict)
    """Of the late rows, and how far the clock can have gone without a record before each (`bound_of`)."""

    def check(self, *, pruned: bool) -> int:
        """Note what should not be there; return how many rows silver's own has gone of, if some were `pruned`."""
        folder, late = self.flow.layout.late_name, name(f"_late_{self.flow.sink}")
        self._note(f"{folder} holds a row that is not silver's", self._unlike_silver(late, pruned=pruned))
        key = ", ".join((_PLACE, *self.stateful.late_key))
        self._note(f"a row of {folder} is there twice", f"SELECT {key} FROM {late} GROUP BY ALL HAVING count(*) > 1")
        wrong = f"SELECT {key} FROM {late} WHERE {self.stateful.wrongly_late}"
        self._note(f"{folder} holds a row with a window that is not its own", wrong)
        self.findings.note(f"{folder} holds a row that was not late", self._early(late))
        gone = f"SELECT count(*) FROM {late} ANTI JOIN {self._due} USING ({_PLACE})"
        return int(self.database.sql(gone).fetchall()[0][0]) if pruned else 0

    @property
    def _due(self) -> str:
        return name(f"_due_{self.flow.sink}")

    def _unlike_silver(self, late: str, *, pruned: bool) -> str:
        columns = ("partition", "offset", *self.flow.feed.columns, "kafka_ts", "topic")
        # a comparison by = finds the row by a hash; what else differs may be null
        same = " AND ".join(
            f"l.{name(column)} {'=' if number < 2 else 'IS NOT DISTINCT FROM'} s.{name(column)}"
            for number, column in enumerate(columns)
        )
        known = f"SEMI JOIN {self._due} d USING ({_PLACE})" if pruned else ""
        return f"SELECT DISTINCT {_PLACE} FROM (FROM {late} {known}) l ANTI JOIN {self._due} s ON {same}"

    def _early(self, late: str) -> Iterator[tuple[int, int]]:
        """Yield the places of late rows whose window was still open by any earlier batch, in order."""
        rows = self.database.sql(f"SELECT {_PLACE}, {self.stateful.late_by} AS _end FROM {late}").to_arrow_table()
        place = [rows[column].cast(pa.int64()).to_numpy() for column in ("partition", "offset")]
        own, ends = self.places.find(*place), rows["_end"].to_numpy()
        newest = self.times.before(np.maximum(own, 0)) if len(self.places) else np.zeros(len(own), np.int64)
        newest = np.maximum(newest, self._idle_clocks(*place))
        watermark = np.maximum(newest // 1000 - microseconds(self.stateful.watermark) // 1000, 0) * 1000
        early = (own != NOWHERE) & (ends > watermark)
        yield from sorted({(int(place[0][at]), int(place[1][at])) for at in np.flatnonzero(early).tolist()})

    def _idle_clocks(self, partitions: Numbers, offsets: Numbers) -> Numbers:
        """Return how far the clock had gone without a record when each of those rows came; 0 where it had not."""
        found = dict[tuple[int, int], int]()
        for path, bound in self.files.items():
            with pq.ParquetFile(path) as file:
                if (clocks := np.minimum(idle_clocks.of_rows(file.metadata), bound)).any():
                    rows = file.read(columns=["partition", "offset"]).to_pydict()
                    found |= zip(zip(rows["partition"], rows["offset"], strict=True), clocks.tolist(), strict=True)
        places = zip(partitions.tolist(), offsets.tolist(), strict=True)
        return np.array([found.get(place, 0) for place in places] if found else np.zeros(len(offsets)), np.int64)

    def _note(self, what: str, sql: str) -> None:
        self.findings.query(self.database, what, sql)


def bound_of(file: BatchFile, went: int) -> int:
    """Return how far a clock that `went` so far can have gone before a file of late rows, in microseconds."""
    # the name of a merged file tells of its first batch alone
    return went if file.is_compacted else min(went, read_by_us(file))
