"""The many records of one session ahead of the watermark, kept so that a batch costs what its own records do.

An end may still come between any two of them, so each has its place. But few of them need looking at: a run is a piece
of one session, known by its first and last record and their number, while the times lie in a chunk of their own. A
chunk is read when a record falls into its run. An end divides a run.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, cast

import numpy as np
from pyspark.sql.streaming.stateful_processor import MapState

Record = tuple[int, bool]
"""The time of a record, and whether it ends a session."""

_NUMBER = np.dtype("<i8")


class Run(NamedTuple):
    """Records that follow each other in one session; only the last of them may end it."""

    first: int
    last: int
    events: int


def to_bytes(rows: Sequence[Sequence[int]]) -> bytes:
    """Return rows of as many numbers each."""
    return np.array(rows, _NUMBER).tobytes()


def from_bytes(rows: bytes) -> list[Run]:
    """Return the runs that were made bytes of."""
    return [Run(*row) for row in np.frombuffer(rows, _NUMBER).reshape(-1, len(Run._fields)).tolist()]


class Chunks(Protocol):
    """Where the times of runs are kept, each run's by its first."""

    def __getitem__(self, first: int) -> bytes: ...
    def __setitem__(self, first: int, times: bytes) -> None: ...
    def __delitem__(self, first: int) -> None: ...


class ChunksInState:
    """The chunks of the key at hand, in Spark's state."""

    def __init__(self, state: MapState) -> None:
        self._state = state

    def __getitem__(self, first: int) -> bytes:
        return bytes(cast("tuple[bytes]", self._state.getValue((first,)))[0])

    def __setitem__(self, first: int, times: bytes) -> None:
        self._state.updateValue((first,), (times,))

    def __delitem__(self, first: int) -> None:
        self._state.removeKey((first,))


@dataclass(frozen=True)
class Runs:
    """What is done with the runs of a key; no time outside of them lies between the first and the last of one."""

    chunks: Chunks
    most_alone: int = 2_000
    """How many records stay outside of runs, as no chunk is needed for them."""
    size: int = 1_000
    """How many times a chunk has; one of more than twice as many is divided."""
    least: int = 64
    """Fewer records are no run of their own."""

    def place(self, runs: Sequence[Run], records: Iterable[Record]) -> tuple[list[Run], list[Record]]:
        """Add the records that fall into runs to them; return the runs and the records outside.

        A divided run ends with the record that divides it, whose time the caller knows to be an end.
        """
        firsts = [run.first for run in runs]
        inside: dict[int, list[Record]] = {}
        outside: list[Record] = []
        for record in records:
            at = bisect_right(firsts, record[0]) - 1
            is_inside = at >= 0 and record[0] <= runs[at].last
            (inside.setdefault(at, []) if is_inside else outside).append(record)
        placed = list[Run]()
        for at, run in enumerate(runs):
            if own := inside.get(at):
                ends = {time for time, is_end in own if is_end}
                kept, alone = self._add(run, Counter(time for time, _ in own), ends)
                placed += kept
                outside += ((time, False) for time in alone)
            else:
                placed.append(run)
        return placed, outside

    def gather(
        self, runs: Sequence[Run], times: Sequence[int], ends: Collection[int], gap: int
    ) -> tuple[list[Run], list[int]]:
        """Make runs of times, unless these are few; return the runs and the times outside, those of short sessions."""
        if len(times) <= self.most_alone:
            return list(runs), list(times)
        line, last_ends = np.array(times, _NUMBER), set(ends)
        begins = np.searchsorted(line, [run.first for run in runs])
        # the time line in pieces: where an end or a pause may divide sessions, and where a run is
        ended, paused = np.searchsorted(line, sorted(last_ends), "right"), np.flatnonzero(np.diff(line) > gap) + 1
        bounds = np.unique(np.concatenate([[0, len(line)], begins, ended, paused]).astype(int))
        joined = {
            begin: run
            for begin, run in dict(zip(begins.tolist(), runs, strict=True)).items()
            if begin < len(line) and run.last not in last_ends and times[begin] - run.last <= gap
        }
        lengths = np.diff(bounds)
        is_taken = (lengths >= self.least) | np.isin(bounds[:-1], list(joined))
        gathered, outside = [*({*runs} - {*joined.values()})], line[~np.repeat(is_taken, lengths)].tolist()
        for begin, end in zip(bounds[:-1][is_taken].tolist(), bounds[1:][is_taken].tolist(), strict=True):
            kept, alone = self._add(joined.get(begin), Counter(times[begin:end]))
            gathered += kept
            outside += alone
        return sorted(gathered), sorted(outside)

    def forget(self, before: Iterable[Run], after: Iterable[Run]) -> None:
        """Delete the chunks of runs that are no more."""
        for first in {run.first for run in before} - {run.first for run in after}:
            del self.chunks[first]

    def _add(
        self, run: Run | None, times: Mapping[int, int], ends: Collection[int] = ()
    ) -> tuple[list[Run], list[int]]:
        """Add times (and how often each is there) to a run, or begin one, and divide it after those ends."""
        counts = Counter(times)
        if run:
            kept_times, events = np.frombuffer(self.chunks[run.first], _NUMBER).reshape(2, -1).tolist()
            counts.update(dict(zip(kept_times, events, strict=True)))
        kept, alone = list[Run](), list[int]()
        for part in self._divided(sorted(counts), ends):
            often = [counts[time] for time in part]
            if (number := sum(often)) < self.least:
                alone += (time for time in part for _ in range(counts[time]))
            else:
                self.chunks[part[0]] = to_bytes([part, often])
                kept.append(Run(part[0], part[-1], number))
        if run:
            self.forget([run], kept)
        return kept, alone

    def _divided(self, times: Sequence[int], ends: Collection[int]) -> Iterator[Sequence[int]]:
        begin = 0
        for end in [*(bisect_right(times, time) for time in sorted(ends)), len(times)]:
            length = end - begin
            parts = length // self.size if length > 2 * self.size else 1
            step = max(1, -(-length // parts))
            yield from (times[at : min(at + step, end)] for at in range(begin, end, step))
            begin = end
