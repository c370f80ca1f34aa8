"""A whole output as the service writes it, made in a moment without Spark: every layer, every kind of sink with files.

Each batch of bronze is one of every flow. It follows the rules of docs/guarantees.md, with the layers' own functions
where these need no Spark; windows are added up here.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql.pandas.types import to_arrow_schema

from stream_app.admission import ownership
from stream_app.contract.contract import Contract
from stream_app.contract.references import Snapshots
from stream_app.contract.times import microseconds
from stream_app.feeds import schema
from stream_app.feeds.feed import Feed
from stream_app.feeds.parts import Window
from stream_app.flows import chain
from stream_app.flows.flow import Flow
from stream_app.layers.quarantine import invalid_records
from stream_app.layers.session_state import OpenSessions, settle
from stream_app.layers.silver import valid_rows
from stream_app.sinks.csv import CsvSink, header
from stream_app.sinks.registry import flows
from stream_app.storage import began, pins
from stream_app.storage.batch_files import BatchFile, batch_file
from stream_app.storage.lines import LINE
from stream_app.storage.planned import Planned, pinned
from tests.helpers import Row, agree, claim, commit, plan

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND = 1_000_000
TIME = pa.timestamp("us", "UTC")


@dataclass(frozen=True)
class Record:
    """A record of the topic."""

    value: bytes | None
    time: datetime
    """Kafka's."""
    partition: int = 0
    key: str | None = "k"


@dataclass
class Output:
    """The outputs of one feed, to which batches are added."""

    feed: Feed
    root: Path
    says_batches: bool = True
    """Whether silver's files say what older versions did not (storage/began.py)."""
    pin: str = pins.NOTHING
    """By which snapshots of reference data the next batches are judged."""
    flows: dict[str, Flow] = field(init=False)
    silver: list[Row] = field(default_factory=list)
    tables: dict[str, list[Row]] = field(default_factory=dict)
    """The rows that PostgreSQL would hold."""
    _batch: int = 0
    _replayed: int = -1
    _offsets: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    _clock: int = 0
    _seen: dict[object, int] = field(default_factory=dict)
    _watermarks: dict[str, list[int]] = field(default_factory=dict)
    _newest: int = 0
    _counted: dict[str, list[Row]] = field(default_factory=lambda: defaultdict(list))
    _open: dict[tuple[str, tuple[object, ...]], OpenSessions | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.flows = {flow.sink: flow for flow in flows([self.feed], self.root)}
        for flow in self.flows.values():
            flow.checkpoint.path.mkdir(parents=True)
            (flow.checkpoint.path / "metadata").write_text(f'{{"id": "query of {flow.sink}"}}')
        agree(self.flows["bronze"])

    def take(self, records: Sequence[Record], at: datetime) -> None:
        """Have a batch that was planned at that time go through every flow."""
        time_ms = int(at.timestamp() * 1000)
        says = pinned(time_ms) | pins.pinned(self.pin)
        bronze = self._write(self.flows["bronze"], time_ms, self._bronze(records), says)
        planned = Planned.of(pq.read_metadata(bronze)) if bronze else None
        rows: list[Row] = []
        if bronze and planned:
            (batch,) = pq.read_table(bronze).combine_chunks().to_batches()
            batch = batch.append_column(schema.PLANNED, planned.of_rows(0, batch.num_rows))
            batch = batch.append_column(schema.PINS, pins.Pins(pq.read_metadata(bronze)).of_rows(0, batch.num_rows))
            contract = Contract(self.feed, Snapshots.of(self.feed, self.root))
            quarantine = to_arrow_schema(schema.QUARANTINE, timezone="UTC")
            refused = invalid_records(contract, quarantine)(batch)
            self._write(self.flows["quarantine"], time_ms, pa.Table.from_batches([refused]))
            clocked = pa.schema([*self._columns, ("_clock", TIME)])
            rows = self._kept(valid_rows(contract, clocked, self._clock)(batch).to_pylist())
        self._silver(rows, time_ms)
        if records:
            newest = max(microseconds(record.time - EPOCH) for record in records)
            self._clock = max(self._clock, min(newest, (time_ms // 1000 + 1) * SECOND))
        self._derive(rows, time_ms)

    def replay(self, ledger: BatchFile, at: datetime) -> None:
        """Have silver take a file of replayed records, in a batch without others."""
        rows, time_ms = pq.read_table(ledger.path).to_pylist(), int(at.timestamp() * 1000)
        self._replayed = ledger.last
        self._silver(rows, time_ms)
        self._derive(rows, time_ms)

    def _silver(self, rows: Sequence[Row], time_ms: int) -> None:
        says = began.pinned(self._batch, self._clock) if self.says_batches else {}
        self._write(self.flows["silver"], time_ms, pa.Table.from_pylist(list(rows), self._columns), says)

    def _derive(self, rows: list[Row], time_ms: int) -> None:
        self.silver += rows
        for flow in self.flows.values():
            self._follow(flow, rows, time_ms)
        self._newest = max([self._newest, *(_us(row[self.feed.event_time.field]) for row in rows)])
        self._batch += 1

    def end(self, at: datetime) -> None:
        """Have the last windows come out, as Spark does by a batch without records."""
        self.take([], at)

    def copied(self, root: Path) -> Output:
        """The same in another folder."""
        shutil.copytree(self.root, root, dirs_exist_ok=True)
        other = copy.deepcopy(self)
        other.root, other.flows = root, {flow.sink: flow for flow in flows([self.feed], root)}
        return other

    def grow(self, feed: Feed) -> None:
        """Have the feed file changed, as a start of the service takes it; ConfigError where that refuses it."""
        self.declare()
        self.feed, self.flows = feed, {flow.sink: flow for flow in flows([feed], self.root)}
        for flow in self.flows.values():
            claim(flow)
        agree(self.flows["bronze"])

    def declare(self) -> None:
        """Note what the outputs are declared as, as the start that made them."""
        for flow in self.flows.values():
            if not flow.layout.owner.exists():
                upstream = flow.upstream.checkpoint.query_id() if flow.upstream else None
                flow.layout.output.mkdir(parents=True, exist_ok=True)
                owner = ownership.owner(flow, None, flow.checkpoint.query_id() or "", upstream)
                flow.layout.owner.write_text(json.dumps(owner))
            if flow.is_own and flow.kind.drops_repeats:
                flow.layout.seen.mkdir(exist_ok=True)

    def paths(self, sink: str) -> list[Path]:
        """The files of a flow."""
        return [file.path for file in self.flows[sink].files()]

    @property
    def _columns(self) -> pa.Schema:
        return to_arrow_schema(schema.silver(self.feed), timezone="UTC")

    def _bronze(self, records: Sequence[Record]) -> pa.Table:
        rows = []
        for record in records:
            offset = self._offsets[record.partition]
            self._offsets[record.partition] += 1
            place = {"topic": self.feed.topic, "partition": record.partition, "offset": offset}
            rows.append({"key": record.key, "value": record.value, "headers": None, "kafka_ts": record.time, **place})
        return pa.Table.from_pylist(rows, to_arrow_schema(schema.BRONZE, timezone="UTC"))

    def _kept(self, rows: Sequence[Row]) -> list[Row]:
        """The rows that are no repeats; the first of a batch is one only of earlier batches."""
        kept, new = [], {}
        dedupe = self.feed.dedupe
        if dedupe is None:
            return [{column: value for column, value in row.items() if column != "_clock"} for row in rows]
        horizon = self._clock - microseconds(dedupe.within)
        for row in rows:
            clock, key = _us(row.pop("_clock")), tuple(row[key] for key in dedupe.keys)
            if key not in new and self._seen.get(key, horizon - 1) < horizon:
                new[key] = clock
                kept.append(row)
        self._seen |= new
        return kept

    def _follow(self, flow: Flow, rows: list[Row], time_ms: int) -> None:
        end: Mapping[str, Any] = {"batch": self._batch, "clock": self._clock, "replay": self._replayed}
        if flow.sink == "bronze":
            end = {self.feed.topic: {str(partition): offset for partition, offset in self._offsets.items()}}
        watermark = 0
        if flow.stateful:
            watermark = self._gold(flow, rows, time_ms)
        elif flow.extension == "csv":
            self._csv(flow, rows, time_ms)
        elif flow.is_divided:
            for date in sorted({f"{row[self.feed.event_time.field]:%Y-%m-%d}" for row in rows}):
                own = [row for row in rows if f"{row[self.feed.event_time.field]:%Y-%m-%d}" == date]
                table = pa.Table.from_pylist(own, self._columns)
                self._write(flow, time_ms, table, folder=flow.layout.output / f"event_date={date}")
        self._log(flow, end, time_ms, watermark)

    def _gold(self, flow: Flow, rows: list[Row], time_ms: int) -> int:
        """Write what becomes final, and what is late; the batch's watermark in milliseconds."""
        assert flow.stateful
        before = self._watermarks.setdefault(flow.sink, [0])
        late_by, watermark = (
            before[-1],
            max(before[-1], self._newest // 1000 - microseconds(flow.stateful.watermark) // 1000),
        )
        before.append(watermark)
        place = self._count_windows if flow.kind.name in flow.feed.windows else self._count_sessions
        final, late = place(flow, rows, late_by * 1000, watermark * 1000)
        columns = self._columns
        if flow.kind.name in flow.feed.windows:
            columns = pa.schema([("window_start", TIME), ("window_end", TIME), *columns])
        if not flow.is_own:
            self.tables.setdefault(flow.sink, []).extend(row | {"final": True} for row in final)
        else:
            self._write(flow, time_ms, pa.Table.from_pylist(final, self.gold_columns(flow)))
        self._write(
            flow, time_ms, pa.Table.from_pylist(late, columns), folder=flow.layout.late, prefix=flow.layout.late_name
        )
        return watermark

    def _count_windows(self, flow: Flow, rows: list[Row], late_by: int, watermark: int) -> tuple[list[Row], list[Row]]:
        declared, time = flow.feed.windows[flow.kind.name], self.feed.event_time.field
        late: list[Row] = []
        held = self._counted[flow.sink]
        for row in rows:
            if any(row[column] != value for column, value in declared.where.items()):
                continue
            newest = _us(row[time]) // microseconds(declared.every) * microseconds(declared.every)
            for start in range(newest, newest - microseconds(declared.window), -microseconds(declared.every)):
                window = {"window_start": _at(start), "window_end": _at(start + microseconds(declared.window))}
                (late if _us(window["window_end"]) <= late_by else held).append({**window, **row})
        final = [row for row in held if _us(row["window_end"]) <= watermark]
        self._counted[flow.sink] = [row for row in held if _us(row["window_end"]) > watermark]
        groups = defaultdict(list)
        for row in final:
            groups[tuple(row[key] for key in ("window_start", "window_end", *declared.keys))].append(row)
        return [self._aggregated(declared, key, own) for key, own in groups.items()], late

    def _aggregated(self, declared: Window, key: tuple[object, ...], rows: list[Row]) -> Row:
        found: Row = dict(zip(("window_start", "window_end", *declared.keys), key, strict=True))
        for name, measure in declared.measures.items():
            values = [row[measure.field] for row in rows] if measure.field else []
            match measure.function:
                case "count":
                    found[name] = len(rows)
                case "distinct":
                    found[name] = len({*values})
                case "avg":
                    mean = Decimal(sum(values)) / len(values)
                    found[name] = mean.quantize(Decimal("1e-6"), ROUND_HALF_UP)
                case "sum":
                    found[name] = sum(values)
                case _:
                    found[name] = max(values) if measure.function == "max" else min(values)
        return found

    def _count_sessions(self, flow: Flow, rows: list[Row], late_by: int, watermark: int) -> tuple[list[Row], list[Row]]:
        declared, time = flow.feed.sessions[flow.kind.name], self.feed.event_time.field
        late = [row for row in rows if _us(row[time]) <= late_by] if late_by else []
        new: dict[tuple[object, ...], list[tuple[int, bool]]] = defaultdict(list)
        for row in rows:
            if row not in late:
                ends = all(row[column] == value for column, value in declared.ends.items())
                new[tuple(row[key] for key in declared.keys)].append((_us(row[time]), ends))
        found: list[Row] = []
        for key in {key for sink, key in self._open if sink == flow.sink} | {*new}:
            final, _, kept = settle(self._open.get((flow.sink, key)), new[key], watermark, microseconds(declared.gap))
            self._open[flow.sink, key] = kept
            for one in final:
                row = dict(zip(declared.keys, key, strict=True))
                times = {"session_start": _at(one.first), "session_end": _at(one.last)}
                rest = {"duration_seconds": (one.last - one.first) / 1e6, "events": one.events}
                found.append(row | times | rest | {"outcome": "ended" if one.ended else "timed_out"})
        return found, late

    def gold_columns(self, flow: Flow) -> pa.Schema:
        """The columns of a window or a session."""
        if flow.kind.name not in flow.feed.windows:
            keys = [(key, pa.string()) for key in flow.feed.sessions[flow.kind.name].keys]
            rest = [("duration_seconds", pa.float64()), ("events", pa.int64()), ("outcome", pa.string())]
            return pa.schema([*keys, ("session_start", TIME), ("session_end", TIME), *rest])
        keys = [(key, pa.string()) for key in flow.feed.windows[flow.kind.name].keys]
        measured = []
        for name, measure in flow.feed.windows[flow.kind.name].measures.items():
            decimal = self.feed.values[measure.field].precision_scale if measure.field else None
            more = {"sum": (10, 0), "avg": (4, 4)}.get(measure.function, (0, 0))
            kind = pa.int64()
            if decimal and measure.function != "distinct":
                kind = pa.decimal128(decimal[0] + more[0], decimal[1] + more[1])
            measured.append((name, kind))
        return pa.schema([("window_start", TIME), ("window_end", TIME), *keys, *measured])

    def _csv(self, flow: Flow, rows: list[Row], time_ms: int) -> None:
        if not rows:
            return
        (batch,) = pa.Table.from_pylist(rows, self._columns).to_batches()
        path = batch_file(flow.layout.output, flow.sink, "csv", time_ms, self._batch).path
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = CsvSink.model_validate(flow.to).reading(flow.kind).function(batch)[LINE].to_pylist()
        path.write_bytes(header(flow.kind) + "".join(lines).encode())

    def _write(
        self,
        flow: Flow,
        time_ms: int,
        rows: pa.Table,
        says: Mapping[bytes, bytes] | None = None,
        folder: Path | None = None,
        prefix: str = "",
    ) -> Path | None:
        if not rows.num_rows:
            return None
        path = batch_file(folder or flow.layout.output, prefix or flow.sink, "parquet", time_ms, self._batch).path
        path.parent.mkdir(parents=True, exist_ok=True)
        link = chain.signature(flow) if prefix else chain.link(flow)
        pq.write_table(rows.replace_schema_metadata({**link, **(says or {})}), path)
        if not prefix:
            chain.remember(flow, path)
        return path

    def _log(self, flow: Flow, end: Mapping[str, Any], time_ms: int, watermark: int) -> None:
        plan(flow, self._batch, end, watermark, time_ms)
        commit(flow, self._batch)


def _us(time: datetime) -> int:
    return microseconds(time - EPOCH)


def _at(us: int) -> datetime:
    return EPOCH + timedelta(microseconds=us)
