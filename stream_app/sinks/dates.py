"""The folders of a lake: one a date, but for dates that are too far from the batch's own time, which share one.

Records choose their dates, and a folder costs more than a record. The span of dates with folders of their own is
measured from the time at which the batch was planned, so a batch that is run again divides its rows the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

import pyarrow as pa
import pyarrow.compute as pc

from stream_app.flows.batch import Batch
from stream_app.flows.flow import Flow
from stream_app.sources.split_rows import Batches

# A date, so that every reader takes the folders' names for dates; pandas cannot read Hive's name for none among them.
_OTHER = "0001-01-01"
_FOLDER = "event_date="
SHARED = f"{_FOLDER}{_OTHER}"
"""The folder of the dates that have none of their own."""
_DAY = timedelta(days=1)
_MICROS = 86_400_000_000


def by_date(flow: Flow, planned: Batch) -> Callable[[Batches], Iterator[tuple[str, Batches]]]:
    """Return what divides the rows of a batch of that lake, as (folder, rows)."""
    declared, time = flow.feed.lakes[flow.sink], flow.feed.event_time.field
    ahead = min(flow.feed.event_time.future_tolerance, declared.dates)
    at = timedelta(milliseconds=planned.time_ms)
    # a day more, for what a clock that was set back has let through
    first, end = (at - declared.dates) // _DAY * _MICROS, ((at + ahead) // _DAY + 2) * _MICROS

    def divided(batches: Batches) -> Iterator[tuple[str, Batches]]:
        """The rows of each UTC date. A batch of the stream is bounded, so a task may hold its share at once."""
        held: dict[str, list[pa.RecordBatch]] = {}
        for batch in batches:
            micros = batch[time].cast(pa.int64())
            is_near = pc.and_(pc.greater_equal(micros, first), pc.less(micros, end))
            dates = pc.if_else(is_near, pc.strftime(batch[time], "%Y-%m-%d"), _OTHER)
            for date in sorted(dates.unique().to_pylist()):
                held.setdefault(f"{_FOLDER}{date}", []).append(batch.filter(pc.equal(dates, date)))
        yield from ((folder, iter(rows)) for folder, rows in sorted(held.items()))

    return divided
