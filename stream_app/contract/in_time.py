"""May a record be dated so? `late` and `future`, for one record and for a batch at once. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from stream_app.contract.times import microseconds
from stream_app.feeds.parts import EventTime

LATE, FUTURE = "late", "future"
# Microseconds further off than any span from any event; with either, a difference does not overflow.
_FAR_OFF = 2**62


class InTime:
    """Compares event times with the Kafka timestamp and the time planned, all in microseconds since the epoch.

    `late` is measured by the Kafka timestamp, which is the client's own; `future` by the earlier of both
    (storage/planned.py), so that no client moves the watermark ahead of our clock.
    """

    def __init__(self, declared: EventTime, *, forgives_late: bool) -> None:
        self._lateness = math.inf if forgives_late else microseconds(declared.lateness)
        self._tolerance = microseconds(declared.future_tolerance)

    def reasons(self, event_us: int, kafka_us: int, planned_us: int) -> Iterator[str]:
        """Yield why a record may not be dated so. This is the definition."""
        if event_us - kafka_us < -self._lateness:
            yield LATE
        if event_us - min(kafka_us, planned_us) > self._tolerance:
            yield FUTURE

    def all(self, event_us: pa.Array | None, kafka_us: pa.Array, planned_us: pa.Array) -> pa.Array:
        """Return which records may be dated so; false where that is not known.

        Without event times of their own they are dated by Kafka, and never late.
        """
        if event_us is None:
            return pc.less_equal(kafka_us, pc.add(pc.min_element_wise(planned_us, _FAR_OFF), self._tolerance))
        in_time = pc.less_equal(_after(event_us, pc.min_element_wise(kafka_us, planned_us)), self._tolerance)
        if self._lateness < math.inf:
            in_time = pc.and_(in_time, pc.greater_equal(_after(event_us, kafka_us), -self._lateness))
        return in_time.fill_null(False)


def _after(event_us: pa.Array, other_us: pa.Array) -> pa.Array:
    """How much later events are than other times, which may be any: where it changes no verdict, these are cut.

    Row by row: by a check of whole columns for overflow, a client's clock would decide how its neighbours are judged.
    """
    return pc.subtract(event_us, pc.max_element_wise(pc.min_element_wise(other_us, _FAR_OFF), -_FAR_OFF))
