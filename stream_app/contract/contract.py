"""The contract of a feed: (value bytes, Kafka timestamp, time planned) -> a typed row, or all reasons why not. Pure.

`check` is the definition. `check_all` judges a batch of records: msgspec decodes and checks each in one strict pass,
Arrow finishes whole columns, and only what these refuse is judged by the definition, which names every reason. The
first may refuse what the second accepts, never the other way round, and their rows are identical.

Numbers are judged by value, not by spelling: 5.0 and 5e0 are the long 5, 12.340 fits two decimals. A number that
its column cannot hold exactly (12.345, the long 5.5) or at all (1e400) is out_of_range; a double is rounded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import attrgetter
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from stream_app.contract.columns import Value, column_of, typed
from stream_app.contract.times import microseconds
from stream_app.contract.wire import is_too_deep, is_whole, json_of, may_not_be_whole
from stream_app.errors import ConfigError
from stream_app.feeds.feed import Feed

Row = tuple[Value, ...]

FORGIVABLE = "late"


@dataclass(frozen=True, slots=True)
class Rejected:
    """Why a record is no row: at least one reason, by field in the feed's order, then late and future."""

    reasons: tuple[str, ...]


# What msgspec raises for bytes of any kind; it recurses, too.
_UNDECODED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

# Microseconds further off than any span from any event; with either, a difference does not overflow.
_FAR_OFF = 2**62

_EMPTY = Rejected(("empty",))
_NOT_JSON = Rejected(("not_json",))
_NOT_OBJECT = Rejected(("not_object",))


@dataclass(frozen=True)
class Judged:
    """The verdicts on a batch. Places are those of the records in it, from 0."""

    rejected: list[tuple[int, Rejected]]
    """In the order of their places."""
    _decoded: Sequence[Any]
    """What msgspec made of the other records."""
    _getters: Sequence[attrgetter[Any]]
    """The columns of those."""
    _finished: dict[int, pa.Array]
    """The columns that there was more to do for."""
    _places: pa.Array
    _is_row: pa.Array
    """Which of the decoded are rows indeed."""
    _explained: list[tuple[int, Row]]
    """Rows that only the definition took."""

    def rows(self, types: Sequence[pa.DataType]) -> tuple[pa.Array, list[pa.Array]]:
        """The places of the rows, in order, and their columns in those types."""
        places = pa.concat_arrays(
            [self._places.filter(self._is_row), pa.array([place for place, _ in self._explained], pa.int64())]
        )
        order = pc.sort_indices(places) if self._explained else None
        columns = []
        for i, kind in enumerate(types):
            if i in self._finished:
                values = self._finished[i].view(kind)
            else:
                values = pa.array(list(map(self._getters[i], self._decoded)), kind)
            values = values.filter(self._is_row)
            if order is not None:
                values = pa.concat_arrays([values, typed([row[i] for _, row in self._explained], kind)]).take(order)
            columns.append(values)
        return places if order is None else places.take(order), columns


class Contract:
    """The function of one feed.

    columns: silver's declared columns, in the order of a row's values.
    forgive: reasons that do not keep a record out (replay); ConfigError for any but late: the others leave no whole
    row, and a record of the future would move every watermark.
    """

    def __init__(self, feed: Feed, forgive: frozenset[str] = frozenset()) -> None:
        if stern := sorted(forgive - {FORGIVABLE}):
            raise ConfigError(f"{', '.join(stern)} cannot be forgiven, only {FORGIVABLE}")
        self.columns = tuple(feed.fields)
        self._columns = tuple(map(column_of, feed.fields.values()))
        self._wires = tuple(feed.path_of(column)[0] for column in feed.fields)
        # Of a key that comes twice, msgspec skips the first value of such a column without a look at depth and text.
        self._skips = any(column.decoded is msgspec.Raw for column in self._columns)
        self._clock = self.columns.index(feed.event_time.field)
        self._lateness = math.inf if FORGIVABLE in forgive else microseconds(feed.event_time.lateness)
        self._tolerance = microseconds(feed.event_time.future_tolerance)
        # Attributes are numbered, since a column may have a name that no attribute can have.
        names = [f"f{i}" for i in range(len(self.columns))]
        record = msgspec.defstruct(
            "Record",
            [(name, column.decoded) for name, column in zip(names, self._columns, strict=True)],
            rename=dict(zip(names, self._wires, strict=True)),
            gc=False,
        )
        known = msgspec.defstruct("Known", [], bases=(record,), forbid_unknown_fields=True, gc=False)
        self._decode_known = msgspec.json.Decoder(known).decode
        self._decode = msgspec.json.Decoder(record).decode
        # faster than tuples, which the garbage collector would look through
        self._getters = tuple(map(attrgetter, names))

    def check(self, value: bytes | None, kafka_ts: int, planned: int) -> Row | Rejected:
        """Judge one record by its value, its Kafka timestamp and the time at which its batch of bronze was planned.

        Times are microseconds since the epoch. `late` is measured by the Kafka timestamp, which is the client's own;
        `future` by the earlier of both (storage/planned.py), so that no client moves the watermark ahead of our clock.
        Return the row, in the order of `columns`: str, int, float, bool, Decimal of the declared scale, timestamps
        as int microseconds since the epoch; or Rejected. Never raises, and depends on nothing but its arguments.
        """
        if not value:
            return _EMPTY
        if is_too_deep(value):
            return _NOT_JSON
        return self._explain(value, kafka_ts, planned)

    def check_all(self, binary: pa.Array, kafka_ts: pa.Array, planned: pa.Array) -> Judged:
        """Judge records as `check` does, by values as binary and times as int64; several times as fast."""
        values: list[bytes | None] = binary.to_numpy(zero_copy_only=False).tolist()  # a tenth of to_pylist()'s time
        decode_known = self._decode_known
        records, places, doubtful = [], [], []
        for place, value in enumerate(values):
            try:
                record = decode_known(value or b"")
            except _UNDECODED:
                record = self._decoded(value)
                if record is None:
                    doubtful.append(place)
                    continue
            records.append(record)
            places.append(place)
        finished = {
            i: column.finish_all(list(map(get, records)))
            for i, (column, get) in enumerate(zip(self._columns, self._getters, strict=True))
            if column.finish_all
        }
        placed = pa.array(places, pa.int64())
        is_row = self._in_time(finished[self._clock], kafka_ts.take(placed), planned.take(placed))
        is_row = reduce(pc.and_, (array.is_valid() for array in finished.values()), is_row)
        if self._skips and may_not_be_whole(binary, len(records)):
            is_row = pc.and_(is_row, pa.array([is_whole(values[place] or b"") for place in places], pa.bool_()))
        doubtful += placed.filter(pc.invert(is_row)).to_pylist()
        explained: list[tuple[int, Row]] = []
        rejected: list[tuple[int, Rejected]] = []
        for place in sorted(doubtful):
            verdict = self.check(values[place], kafka_ts[place].as_py(), planned[place].as_py())
            if isinstance(verdict, Rejected):
                rejected.append((place, verdict))
            else:
                explained.append((place, verdict))
        return Judged(rejected, records, self._getters, finished, placed, is_row, explained)

    def _decoded(self, value: bytes | None) -> Any:
        """A record with fields that are not declared, which msgspec skips without a look at their depth and text."""
        try:
            return self._decode(value) if value and is_whole(value) else None
        except _UNDECODED:
            return None

    def _in_time(self, event_us: pa.Array, kafka_us: pa.Array, planned_us: pa.Array) -> pa.Array:
        """Which records are neither late nor future; false where that is not known."""
        in_time = pc.less_equal(_after(event_us, pc.min_element_wise(kafka_us, planned_us)), self._tolerance)
        if self._lateness < math.inf:
            in_time = pc.and_(in_time, pc.greater_equal(_after(event_us, kafka_us), -self._lateness))
        return in_time.fill_null(False)

    def _explain(self, value: bytes, kafka_ts: int, planned: int) -> Row | Rejected:
        try:
            record = json_of(value)
        except ValueError:
            return _NOT_JSON
        if not isinstance(record, dict):
            return _NOT_OBJECT
        row: list[Any] = []
        reasons: list[str] = []
        for wire, column in zip(self._wires, self._columns, strict=True):
            given = record.get(wire)
            judged = (
                column.judge(given) if type(given) is column.kind else ("missing" if given is None else "bad_type",)
            )
            row.append(judged)
            if isinstance(judged, tuple):
                reasons += [f"{reason}:{wire}" for reason in judged]
        if isinstance(time := row[self._clock], int):
            if time - kafka_ts < -self._lateness:
                reasons.append("late")
            if time - min(kafka_ts, planned) > self._tolerance:
                reasons.append("future")
        return Rejected(tuple(reasons)) if reasons else tuple(row)


def _after(event_us: pa.Array, other_us: pa.Array) -> pa.Array:
    """How much later events are than other times, which may be any: where it changes no verdict, these are cut.

    Row by row: by a check of whole columns for overflow, a client's clock would decide how its neighbours are judged.
    """
    return pc.subtract(event_us, pc.max_element_wise(pc.min_element_wise(other_us, _FAR_OFF), -_FAR_OFF))
