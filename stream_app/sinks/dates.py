"""Rows divided by the UTC date of a time, as lakes and tables have them.

Records choose their dates, and a folder or a file for each costs more than a record. So dates that are too far from the
batch's own time have none of their own. The span is measured from the time at which the batch was planned, so a batch
that is run again divides its rows the same way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import pyarrow as pa
import pyarrow.compute as pc

from stream_app.feeds.types import Type, scalar
from stream_app.flows.batch import Batch
from stream_app.layers.kind import Kind
from stream_app.layers.origin import How, Origin, Origins
from stream_app.sources.split_rows import Batches

DATE = "event_date"
"""What the date is called, as a column."""
_DAY = timedelta(days=1)
_MICROS = 86_400_000_000


@dataclass(frozen=True)
class Near:
    """The dates that have a place of their own, as microseconds since the epoch."""

    first: int
    end: int

    @classmethod
    def of(cls, kind: Kind, batch: Batch, dates: timedelta) -> Near:
        """Return those from `dates` before the batch until what its feed lets through of the future."""
        ahead = min(kind.feed.event_time.future_tolerance, dates)
        at = timedelta(milliseconds=batch.time_ms)
        # a day more, for what a clock that was set back has let through
        return cls((at - dates) // _DAY * _MICROS, ((at + ahead) // _DAY + 2) * _MICROS)

    def divide(self, batches: Batches, time: str) -> Iterator[tuple[str | None, Batches]]:
        """Yield the rows of each date of a column, as ISO has it, in order; those of dates that are far under None.

        A batch of the stream is bounded, so a task may hold its share.
        """
        held: dict[str, list[pa.RecordBatch]] = {}
        for rows in batches:
            micros = rows[time].cast(pa.int64())
            is_near = pc.and_(pc.greater_equal(micros, self.first), pc.less(micros, self.end))
            dates = pc.if_else(is_near, pc.strftime(rows[time], "%Y-%m-%d"), "").fill_null("")
            for date in dates.unique().to_pylist():
                held.setdefault(date, []).append(rows.filter(pc.equal(dates, date)))
        yield from ((date or None, iter(own)) for date, own in sorted(held.items()))


def dated(time: str) -> dict[str, tuple[Type, Origins]]:
    """Return DATE as lineage has it: its type, and the column that it is the date of."""
    return {DATE: (scalar("date"), (Origin(time, How.TRANSFORMATION, by="its date in UTC"),))}
