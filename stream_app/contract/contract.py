"""The contract of a feed: (value bytes, Kafka timestamp, time planned) -> a typed row, or all reasons why not. Pure.

`check` is the definition. `check_all` judges a batch of records: msgspec decodes and checks each in one strict pass,
and Arrow finishes whole columns. Only what these refuse is judged by the definition, which names every reason. The fast
pass may refuse what the definition accepts, never the other way round, and their rows are identical.

Numbers are judged by value, not by spelling: 5.0 and 5e0 are the long 5, 12.340 fits two decimals. A number that
its column cannot hold exactly (12.345, the long 5.5) or at all (1e400) is out_of_range; a double is rounded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial, reduce
from itertools import compress, islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stream_app.contract.codecs.codec import Codec, Record
from stream_app.contract.codecs.json_codec import JsonCodec
from stream_app.contract.in_time import LATE, InTime
from stream_app.contract.judgement import Judgement
from stream_app.contract.node import Reasons, union
from stream_app.contract.nodes import record_of
from stream_app.contract.references import References, SnapshotOf
from stream_app.contract.rules import Rules
from stream_app.contract.undeclared import UNKNOWN, Undeclared, short
from stream_app.contract.verdict import Judged, Rejected, Row
from stream_app.contract.wire import Places
from stream_app.errors import ConfigError
from stream_app.feeds.feed import Feed
from stream_app.feeds.parts import KAFKA_TIME
from stream_app.feeds.rules import WARNINGS, WARNINGS_TYPE
from stream_app.storage.pins import NOTHING

FORGIVABLE = LATE


_MOST_UNKNOWN = 20
"""How many fields that are not declared a record is told of."""


class Contract:
    """The function of one feed.

    columns: silver's columns that a row has values for, in their order. They are the feed's fields, what its lookups
    join, and `warnings` if a rule warns.
    snapshot_of: the snapshots of a feed with lookups (references.py).
    forgive: reasons that do not keep a record out (replay). ConfigError for any but late: of the others some leave no
    whole row, and a record of the future would move every watermark.
    """

    def __init__(
        self, feed: Feed, snapshot_of: SnapshotOf | None = None, forgive: frozenset[str] = frozenset()
    ) -> None:
        if stern := sorted(forgive - {FORGIVABLE}):
            raise ConfigError(f"{', '.join(stern)} cannot be forgiven, only {FORGIVABLE}")
        self.columns = tuple(feed.columns)
        self._record = record_of(feed)
        self._types = {name: field.as_type.arrow for name, field in feed.values.items()}
        self._codec: Codec = JsonCodec(
            self._record.struct(strict=True),
            None if feed.wire.unknown == "quarantine" else self._record.struct(strict=False),
            self._record.shape,
            skips=self._record.has_raw,
        )
        self._unknown = feed.wire.unknown
        time = feed.event_time.field
        self._clock = None if time == KAFKA_TIME else self.columns.index(time)
        self._in_time = InTime(feed.event_time, forgives_late=FORGIVABLE in forgive)
        types = {name: field.as_type.duckdb for name, field in feed.values.items()}
        self._rules = Rules(feed.rules, types) if feed.rules else None
        assert snapshot_of or not feed.lookups, feed.name  # noqa: S101 - who makes it knows where they are
        self._references = References(feed, snapshot_of) if snapshot_of and feed.lookups else None
        self._read = frozenset[str]().union(*self._rules.reads.values()) if self._rules else frozenset[str]()
        self._nodes = dict(self._record.named())
        # of the others msgspec alone refuses what breaks them
        looked_at = self._read.union(feed.references)
        self._open = [name for name, node in self._nodes.items() if not node.is_final or name in looked_at]
        self._warns = [name for name, rule in feed.rules.items() if rule.severity == "warn"]

    def check(self, value: bytes | None, kafka_ts: int, planned: int, pin: str = NOTHING) -> Row | Rejected:
        """Judge one record by its value, its Kafka timestamp, and the time and the pin of its batch of bronze.

        Times are microseconds since the epoch; in_time.py has what they decide. The pin says by which snapshots of
        reference data it is judged (storage/pins.py).
        Return the row, its values in the order of `columns`, or Rejected. Values are str, int, float, bool, bytes, and
        Decimal of the declared scale. Timestamps are microseconds and dates are days since the epoch. Arrays are lists,
        maps are lists of pairs, structs are dicts. Never raises, and depends on nothing but its arguments.
        """
        return self.check_each([value], [kafka_ts], [planned], [pin])[0]

    def check_each(
        self,
        values: Sequence[bytes | None],
        kafka_ts: Sequence[int],
        planned: Sequence[int],
        by: Sequence[str] | None = None,
    ) -> list[Row | Rejected]:
        """Judge records, each as `check` does. Lookups and rules take all at once, in a hundredth of the time."""
        judged = list(map(self._judge, values, kafka_ts, planned))
        if self._references:
            self._references.judge(self._record, judged, [NOTHING] * len(values) if by is None else by)
        if self._rules:
            self._judge_by_rules(self._rules, judged)
        return [
            Rejected(tuple(one.reasons)) if one.reasons else (*one.row, one.warnings) if self._warns else tuple(one.row)
            for one in judged
        ]

    def _judge(self, value: bytes | None, kafka_ts: int, planned: int) -> Judgement:
        """Judge one record by all but the rules."""
        if not value:
            return Judgement([], {"empty": None})
        record = self._codec.record(value)
        if isinstance(record, str):
            return Judgement([], {record: None})
        reasons: Reasons = {}
        row = self._record.judge(record, reasons)
        if self._unknown == "quarantine":
            found = islice(self._undeclared(record), _MOST_UNKNOWN)
            reasons.update(dict.fromkeys(f"{UNKNOWN}:{short(path)}" for path in found))
        invalid = self._record.invalid(record) if reasons and (self._rules or self._references) else frozenset()
        if isinstance(time := kafka_ts if self._clock is None else row[self._clock], int):
            reasons.update(dict.fromkeys(self._in_time.reasons(time, kafka_ts, planned)))
        return Judgement(row, reasons, invalid)

    def _judge_by_rules(self, rules: Rules, judged: Sequence[Judgement]) -> None:
        """Add the rules that are broken to the reasons, or to the warnings. Values that are not valid break none."""
        found = [one for one in judged if one.row]
        kinds = {name: (i, kind) for i, (name, kind) in enumerate(self._types.items())}
        columns = {name: pa.array([one.row[i] for one in found], kind) for name, (i, kind) in kinds.items()}
        valid = {name: pa.array([name not in one.invalid for one in found], pa.bool_()) for name in kinds}
        for name, broken in rules.broken(columns, valid).items():
            for one in compress(found, broken.to_pylist()):
                if name in self._warns:
                    one.warnings.append(name)
                else:
                    one.reasons[f"rule:{name}"] = None

    def check_all(
        self,
        binary: pa.Array,
        kafka_ts: pa.Array,
        planned: pa.Array,
        by: pa.Array | None = None,
        *,
        rows: bool = True,
    ) -> Judged:
        """Judge records as `check` does, by values as binary, times as int64, and pins; several times as fast.

        Without `rows`, which the verdicts cannot be asked for then, it looks at what may be refused alone.
        """
        names = self._record.names if rows else self._open
        decoded = self._codec.records(binary, partial(self._record.hold, names=names))
        columns, unsure = dict[str, pa.Array](), list[Places]()
        for name, held in zip(names, decoded.columns, strict=True):
            columns[name], doubtful = self._nodes[name].finish(held)
            unsure.append(doubtful)
        placed = pa.array(decoded.places)
        event_us = None if self._clock is None else columns[self.columns[self._clock]].cast(pa.int64())
        is_row = self._in_time.all(event_us, kafka_ts.take(placed), planned.take(placed))
        if len(doubtful := union(unsure)):
            known = np.ones(len(placed), bool)
            known[doubtful] = False
            is_row = pc.and_(is_row, pa.array(known))
        if self._references:
            by = pa.array([NOTHING] * len(binary), pa.string()) if by is None else by
            keys = {name: columns[name] for name in self._references.fields}
            unknown, joined = self._references.join(keys, by.take(placed))
            is_row = pc.and_not(is_row, reduce(pc.or_, unknown.values()))
            columns |= joined
        if self._rules:
            broken = self._rules.broken({name: columns[name] for name in self._read}, dict.fromkeys(self._read, is_row))
            for name, flags in broken.items():
                is_row = is_row if name in self._warns else pc.and_not(is_row, flags)
            if self._warns:
                columns[WARNINGS] = _warnings({name: broken[name] for name in self._warns}, len(placed))
        unexplained = sorted(decoded.doubtful + placed.filter(pc.invert(is_row)).to_pylist())
        explained: list[tuple[int, Row]] = []
        rejected: list[tuple[int, Rejected]] = []
        given = (binary, kafka_ts, planned, *([] if by is None else [by]))
        doubted = (array.take(pa.array(unexplained, pa.int64())).to_pylist() for array in given)
        for place, verdict in zip(unexplained, self.check_each(*doubted), strict=True):
            if isinstance(verdict, Rejected):
                rejected.append((place, verdict))
            else:
                explained.append((place, verdict))
        return Judged(rejected, decoded, list(columns.values()), is_row, explained)

    def undeclared(self, binary: pa.Array, judged: Judged) -> Undeclared:
        """Count the members that no field is declared for in the records of a batch; none where they are ignored."""
        total = Undeclared()
        if self._unknown != "ignore":
            for place in judged.others:
                total.add(self._undeclared(self._codec.outline(binary[place].as_py() or b"")))
        return total

    def undeclared_in(self, value: bytes) -> dict[str, Any]:
        """Return the path and the value of each member of a record that no field is declared for. The definition."""
        return {} if self._unknown == "ignore" else self._undeclared(self._codec.record(value))

    def _undeclared(self, record: Record | str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        self._record.undeclared(record, found)
        return found


def _warnings(broken: Mapping[str, pa.Array], count: int) -> pa.Array:
    """Return the names of the rules that each row breaks."""
    found: list[list[str]] = [[] for _ in range(count)]
    for name, flags in broken.items():
        for one in compress(found, flags.to_pylist()):
            one.append(name)
    return pa.array(found, WARNINGS_TYPE.arrow)
