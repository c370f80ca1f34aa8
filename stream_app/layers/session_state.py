"""The state of sessions: what the records of the same keys add up to, from the first one to an end or a long pause.

On the time line of its keys a session goes on until a pause longer than `gap`, or until a record that matches `ends`.
It is final when the watermark has reached its end, or `gap` after its last record. The watermark is the newest event
time less `watermark`. Records at or behind it are dropped, so what comes later can no longer belong to the session. So
the sessions are a function of the records that were not dropped, whatever their order and their batches. sinks/late.py
keeps the dropped ones, and the audit computes the same from silver's files.

A record later than an end begins a new session, even where it comes before that end is final. A record of the same time
counts to the session that ended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import reduce
from operator import and_
from typing import Any, NamedTuple, cast

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F
from pyspark.sql.streaming.stateful_processor import (
    ExpiredTimerInfo,
    StatefulProcessor,
    StatefulProcessorHandle,
    TimerValues,
)
from pyspark.sql.types import BooleanType, LongType, StructField, StructType

from stream_app.feeds import schema
from stream_app.feeds.feed import Feed
from stream_app.feeds.parts import Session
from stream_app.layers import idle_clock
from stream_app.layers.runs import ChunksInState, Record, Run, Runs, from_bytes, to_bytes
from stream_app.layers.state_keys import state_key

# Columns of our own beside a feed's, whose names never begin so.
_TIME, _ENDS = "_time", "_ends"
_FIRST, _LAST, _EVENTS, _ENDED, _FINAL = _FOUND = ("_first", "_last", "_events", "_ended", "_final")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Found(NamedTuple):
    """A session as far as its records are known; times in microseconds since the epoch."""

    first: int
    last: int
    events: int
    ended: bool

    def final_at(self, gap: int) -> int:
        """Return the watermark from which on no record can belong to it, in microseconds since the epoch."""
        return self.last if self.ended else self.last + gap


class OpenSessions(NamedTuple):
    """The open sessions of one key, which are its state.

    Records behind the watermark are added up, because no end will ever come between them. Those ahead of it are kept
    one by one, or where they are many as runs (layers/runs.py); there are as many as come within `watermark`.
    """

    settled: Found | None
    times: list[int]
    ends: list[int]
    wake_ms: int
    """When the first of the sessions will be final: the key's only timer."""
    runs: Sequence[Run] = ()


def settle(
    kept: OpenSessions | None, records: Iterable[Record], watermark: int, gap: int
) -> tuple[list[Found], list[Found], OpenSessions | None]:
    """Add a batch's records, as (time, whether it ends a session), to a key's state; all in microseconds.

    Returns the sessions that are final at that watermark, the open ones, and the new state, None if nothing is open.
    No record lies in a run.
    """
    settled, times, ends, _, runs = kept or OpenSessions(None, [], [], 0)
    new = list(records)
    times = sorted([*times, *(time for time, _ in new)])
    ends = sorted({*ends, *(time for time, is_end in new if is_end)})
    steps = [(time, time, events) for time, events in Counter(times).items()]
    if runs:
        steps = sorted([*steps, *runs])
    found = _split(settled, steps, set(ends), gap)
    final = [session for session in found if session.final_at(gap) <= watermark]
    still_open = found[len(final) :]  # on the time line all final ones come first
    if not still_open:
        return final, [], None
    first = still_open[0]
    behind = [step for step in steps if first.first <= step[0] and step[1] <= watermark]
    ahead = [time for time in times if time > watermark]
    # what is behind belongs to the first open session: the next one begins after that is final
    added_up = _split(None if final else settled, behind, (), gap)
    ends_ahead = [time for time in ends if time > watermark]
    runs_ahead = [run for run in runs if run.last > watermark]
    wake_ms = -(-first.final_at(gap) // 1000)
    return final, still_open, OpenSessions(added_up[0] if added_up else None, ahead, ends_ahead, wake_ms, runs_ahead)


def _split(
    settled: Found | None, steps: Iterable[tuple[int, int, int]], ends: Collection[int], gap: int
) -> list[Found]:
    """Return the sessions of a time line that begins with `settled`, in their order.

    A step is of one time, or a run.
    """
    found = [settled] if settled else []
    for first, last, events in steps:
        latest = found[-1] if found else None
        if latest is None or latest.ended or first - latest.last > gap:
            found.append(Found(first, last, events, last in ends))
        else:
            found[-1] = Found(latest.first, last, latest.events + events, last in ends)
    return found


def advance(
    kept: OpenSessions | None, records: Sequence[Record], watermark: int, gap: int, runs: Runs
) -> tuple[list[Found], list[Found], OpenSessions | None]:
    """Do as `settle`, and look only at what of the state the records concern."""
    if kept and kept.runs:
        placed, outside = runs.place(kept.runs, records)
        ends = sorted({*kept.ends, *(time for time, is_end in records if is_end)})
        kept, records = kept._replace(runs=placed, ends=ends), outside
    final, still_open, after = settle(kept, records, watermark, gap)
    runs.forget(kept.runs if kept else (), after.runs if after else ())
    if after:
        gathered, alone = runs.gather(after.runs, after.times, after.ends, gap)
        after = after._replace(runs=gathered, times=alone)
    return final, still_open, after


def sessions(rows: DataFrame, feed: Feed, declared: Session, *, fresh: bool) -> DataFrame:
    """Silver's rows -> the keys, session_start, session_end, duration_seconds, events, outcome.

    session_start and session_end are the times of the first and the last record. outcome is `ended` or `timed_out`.
    Each session comes once, when it is final (output mode append).

    With `fresh` there is one more column, final (output mode update). A batch that changes anything of a key brings all
    sessions of the key that are open or have just become final. They take the place of the key's rows that are not
    final. An open session is shown as it would be if nothing more came.
    """
    time = feed.event_time.field
    matches = [F.col(column) == value for column, value in declared.ends.items()] or [F.lit(False)]
    keys = [state_key(schema.fields(feed)[key]) for key in declared.keys]
    records = idle_clock.clocked(rows, feed, f"{declared.watermark.total_seconds()} seconds").select(
        *(key.to_state for key in keys), F.col(time).alias(_TIME), reduce(and_, matches).alias(_ENDS)
    )
    numbers = [StructField(name, LongType()) for name in (_FIRST, _LAST, _EVENTS)]
    flags = [StructField(name, BooleanType()) for name in (_ENDED, _FINAL)]
    found = StructType([*(key.held for key in keys), *numbers, *flags])
    processor = _Sessions(declared.keys, declared.gap // _MICROSECOND, fresh)
    return (
        records.groupBy(*declared.keys)
        .transformWithState(processor, found, "Update" if fresh else "Append", "EventTime")
        .select(
            *(key.from_state for key in keys),
            F.timestamp_micros(_FIRST).alias("session_start"),
            F.timestamp_micros(_LAST).alias("session_end"),
            ((F.col(_LAST) - F.col(_FIRST)) / F.lit(1e6)).alias("duration_seconds"),
            F.col(_EVENTS).alias("events"),
            F.when(F.col(_ENDED), "ended").otherwise("timed_out").alias("outcome"),
            *([F.col(_FINAL).alias("final")] if fresh else []),
        )
    )


class _Sessions(StatefulProcessor):
    """Keeps the open sessions of each key, and wakes up when the first of them is final."""

    def __init__(self, keys: tuple[str, ...], gap: int, fresh: bool) -> None:
        self._keys = keys
        self._gap = gap
        self._fresh = fresh

    def init(self, handle: StatefulProcessorHandle) -> None:
        """Declare the state; Spark calls it before a task's first key."""
        self._handle = handle
        schema = "first long, last long, events long, times array<long>, ends array<long>, wake_ms long"
        self._state = handle.getValueState("open", schema)
        self._directory = handle.getValueState("runs", "runs binary")
        self._runs = Runs(ChunksInState(handle.getMapState("chunks", "first long", "times binary")))

    def handleInputRows(self, key: Any, rows: Iterator[Any], timerValues: TimerValues) -> Iterator[Any]:  # noqa: N802, N803
        """All records of a key in a batch; Spark drops those behind the watermark of the batch before."""
        records = [((row[_TIME] - _EPOCH) // _MICROSECOND, row[_ENDS]) for row in rows]
        return self._settle(key, records, timerValues, None)

    def handleExpiredTimer(  # noqa: N802
        self,
        key: Any,
        timerValues: TimerValues,  # noqa: N803
        expiredTimerInfo: ExpiredTimerInfo,  # noqa: N803
    ) -> Iterator[Any]:
        """Settle the sessions of a key that are final though no record of it came.

        Spark calls this after all records of a batch.
        """
        return self._settle(key, [], timerValues, expiredTimerInfo.getExpiryTimeInMs())

    def _settle(
        self, key: Any, records: list[tuple[int, bool]], timers: TimerValues, fired_ms: int | None
    ) -> Iterator[Row]:
        before = self._load()
        watermark = timers.getCurrentWatermarkInMs() * 1000
        final, still_open, after = advance(before, records, watermark, self._gap, self._runs)
        self._save(before, after)
        old_ms, new_ms = before.wake_ms if before else None, after.wake_ms if after else None
        if old_ms is not None and old_ms not in {new_ms, fired_ms}:  # Spark deletes one that has fired
            self._handle.deleteTimer(old_ms)
        if new_ms is not None and new_ms != old_ms:
            self._handle.registerTimer(new_ms)
        for session in final:
            yield self._row(key, session, True)
        for session in still_open if self._fresh else ():
            yield self._row(key, session, False)

    def _load(self) -> OpenSessions | None:
        found = self._state.get()
        if found is None:
            return None
        first, last, events, times, ends, wake_ms = found
        # the sign says that there are runs: to ask for them costs as much as all else that is done for most keys
        runs: list[Run] = []
        if events < 0:
            events, runs = -1 - events, from_bytes(cast("tuple[bytes]", self._directory.get())[0])
        settled = Found(first, last, events, False) if events else None
        return OpenSessions(settled, list(times), list(ends), wake_ms, runs)

    def _save(self, before: OpenSessions | None, kept: OpenSessions | None) -> None:
        if kept and kept.runs:
            self._directory.update((to_bytes(kept.runs),))
        elif before and before.runs:
            self._directory.clear()
        if kept is None:
            self._state.clear()
        else:
            first, last, events, _ = kept.settled or Found(0, 0, 0, False)
            events = -1 - events if kept.runs else events
            self._state.update((first, last, events, kept.times, kept.ends, kept.wake_ms))

    def _row(self, key: Any, session: Found, final: bool) -> Row:
        return Row(*self._keys, *_FOUND)(*key, *session, final)
