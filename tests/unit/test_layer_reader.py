"""The layer source without Spark: every row once, in order, whatever the limits, the restarts and the compaction."""

import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.streaming.datasource import ReadAllAvailable, ReadLimit, ReadMaxRows

from stream_app.feeds.feed import Feed
from stream_app.feeds.sinks import SinkTable
from stream_app.flows.flow import Flow
from stream_app.sinks.protocol import rows_of
from stream_app.sinks.registry import flows
from stream_app.sources import layer_reader as source
from stream_app.sources.layer_reader import LayerReader, LayerSource, Offset, Options
from stream_app.sources.split import SPLIT, encoded
from stream_app.storage.batch_files import BatchFile
from stream_app.storage.offsets import LayerOffset, parse
from tests.examples import examples
from tests.helpers import START_MS, Row, bronze_row, flow_of, silver_row, value, write_layer


def reader_of(flow: Flow, max_rows: int = 0, splits: int = 4, patience: float = 0, due: int = 0) -> LayerReader:
    """The reader as a query of the flow makes it."""
    assert flow.upstream is not None
    upstream = flow.upstream
    ledger = flow.layout.replay if flow.sink == "silver" else None
    options = Options(upstream.layout.output, upstream.sink, ledger, max_rows, splits, patience, watermark_due=due)
    return LayerSource({"reader": options.encoded()}).streamReader(SPLIT)


def read_rows(flow: Flow, start: Offset, end: Offset) -> list[Row]:
    """What the tasks of one micro-batch read, one task after the other."""
    reader, rows = reader_of(flow), rows_of(flow)
    tasks = reader.partitions(start, end)
    return [row for task in tasks for batch in rows.read(reader.read(task)) for row in batch.to_pylist()]


def walk(reader: LayerReader, start: Offset, limit: ReadLimit) -> list[tuple[Offset, Offset]]:
    """The micro-batches from `start` until there is nothing new."""
    batches = []
    while (end := reader.latestOffset(start, limit)) != start:
        batches.append((start, end))
        start = end
    return batches


@dataclass
class History:
    """Silver's micro-batches: their ids, the sizes of their row groups, and which ranges were compacted."""

    row_group: int = 1
    batches: dict[int, int] = field(default_factory=dict)
    compacted: list[tuple[int, int]] = field(default_factory=list)

    def rows(self, batch: int) -> list[Row]:
        return [silver_row(batch * 100 + n, seconds=(batch * 37) % 50) for n in range(self.batches[batch])]

    def numbers(self, after: int = -1) -> list[int]:
        return [row["offset"] for batch in self.batches if batch > after for row in self.rows(batch)]

    def write(self, silver: Flow) -> None:
        for batch in self.batches:
            if not any(first <= batch <= last for first, last in self.compacted):
                write_layer(silver, batch, self.rows(batch), row_group=self.row_group)
        for first, last in self.compacted:
            rows = [row for batch in self.batches if first <= batch <= last for row in self.rows(batch)]
            write_layer(silver, first, rows, last=last, row_group=self.row_group)


@st.composite
def histories(draw: st.DrawFn) -> History:
    ids = sorted(draw(st.sets(st.integers(0, 30), min_size=1, max_size=8)))
    cuts = sorted(draw(st.sets(st.integers(0, len(ids)), max_size=4)))
    ranges = [(ids[a], ids[b - 1]) for a, b in pairwise(cuts) if draw(st.booleans())]
    return History(draw(st.integers(1, 4)), {i: draw(st.integers(1, 9)) for i in ids}, ranges)


LIMITS = st.one_of(st.builds(ReadMaxRows, st.integers(1, 30)), st.builds(ReadAllAvailable))


@examples(60)
@given(data=st.data(), history=histories(), limit=LIMITS, splits=st.integers(1, 5))
def test_a_walk_reads_each_row_once_and_in_order(
    feed: Feed, data: st.DataObject, history: History, limit: ReadLimit, splits: int
) -> None:
    with tempfile.TemporaryDirectory() as folder, patch.object(source, "_MIN_ROWS_PER_SPLIT", 3):
        sink = SinkTable.model_validate({"of": "silver", "to": "kafka", "topic": "out"})
        own = feed.model_copy(update={"sinks": {"topic": sink}})
        silver, topic = (flow_of(own, layer, Path(folder)) for layer in ("silver", "topic"))
        history.write(silver)
        reader = reader_of(topic, splits=splits)
        # a reader's offset lies at the end of a file: retention merges nothing across one
        start = reader.initialOffset() | {
            "batch": data.draw(st.sampled_from([-1, *(file.last for file in silver.files())]))
        }
        batches = walk(reader, start, limit)
        found = [int(row["txn_id"][1:]) for a, b in batches for row in read_rows(topic, a, b)]
        assert found == history.numbers(after=start["batch"])
        for a, b in batches:
            covered = [group for task in reader.partitions(a, b) for group in task.split.row_groups]
            groups = [(path, index) for path, indexes in covered for index in indexes]
            assert len(groups) == len(set(groups))
            assert len(reader.partitions(a, b)) <= splits
            rows = sum(n for batch, n in history.batches.items() if a["batch"] < batch <= b["batch"])
            files = [file for file in silver.files() if a["batch"] < file.first and file.last <= b["batch"]]
            assert len(files) == 1 or not isinstance(limit, ReadMaxRows) or rows <= limit.max_rows


@examples(30)
@given(history=histories(), limit=LIMITS)
def test_the_clock_is_the_newest_kafka_time_so_far_that_is_not_after_its_batch(
    feed: Feed, history: History, limit: ReadLimit
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        silver = flow_of(feed, "silver", Path(folder))
        history.write(silver)
        reader = reader_of(flow_of(feed, "raw_csv", Path(folder)))
        for _, end in walk(reader, reader.initialOffset(), limit):
            clocks = [
                min(max(pq.read_table(file.path)["kafka_ts"].to_pylist()), file.time + timedelta(seconds=1))
                for file in silver.files()
                if file.last <= end["batch"]
            ]
            assert end["clock"] == int(max(clocks).timestamp() * 1_000_000)


def test_a_fast_producer_makes_no_repeat_forgotten(flow: dict[str, Flow]) -> None:
    """A record dated an hour or a thousand years ahead moves the clock to its batch's own time and no further."""
    write_layer(flow["bronze"], 0, [bronze_row(0, value(0)), bronze_row(1, b"", seconds=3e9)])
    reader = reader_of(flow["silver"])
    assert reader.latestOffset(reader.initialOffset(), ReadAllAvailable())["clock"] == (START_MS + 1000) * 1000


@pytest.fixture
def flow(feed: Feed, tmp_path: Path) -> dict[str, Flow]:
    return {flow.sink: flow for flow in flows([feed], tmp_path)}


def test_progress_tells_of_the_newest_batch_also_of_a_reader_that_is_behind(flow: dict[str, Flow]) -> None:
    for batch in range(3):
        write_layer(flow["silver"], batch, [silver_row(batch)])
    reader = reader_of(flow["gold"])
    assert reader.reportLatestOffset()["batch"] == 2, "its first batch is one that is run again"
    end = reader.latestOffset(reader.initialOffset(), ReadMaxRows(1))
    assert (end["batch"], reader.reportLatestOffset()["batch"]) == (0, 2)
    end = reader.latestOffset(end, ReadAllAvailable())
    assert (end["batch"], reader.reportLatestOffset()["batch"]) == (2, 2)


@pytest.mark.parametrize("offset", [0, 1])
def test_a_compacted_file_across_an_offset_is_an_error_not_a_skip(flow: dict[str, Flow], offset: int) -> None:
    write_layer(flow["silver"], 0, [silver_row(n) for n in range(3)], last=2)
    reader = reader_of(flow["gold"])
    with pytest.raises(ValueError, match="both sides of a reader's offset"):
        reader.latestOffset(reader.initialOffset() | {"batch": offset}, ReadAllAvailable())


def test_a_reader_that_has_read_all_sees_the_next_file_as_soon_as_it_appears(flow: dict[str, Flow]) -> None:
    reader = reader_of(flow["gold"], patience=60)
    start = reader.initialOffset()
    file = write_layer(flow["silver"], 0, [silver_row(0)]).path
    hidden = file.rename(file.with_name("_staged"))
    late = threading.Timer(0.3, hidden.rename, (file,))  # files appear whole
    late.start()
    assert reader.latestOffset(start, ReadAllAvailable())["batch"] == 0
    late.join()


def test_a_watermark_that_was_due_makes_one_batch_without_data(flow: dict[str, Flow]) -> None:
    """A batch with data acts on it, too; none follows it then."""
    gold, first = flow["gold"], LayerOffset(0).as_json()
    reader = reader_of(gold, due=START_MS)
    due = reader.latestOffset(first, ReadAllAvailable())
    assert due == first | {"watermark": START_MS}
    assert parse(due) == LayerOffset(0, watermark=START_MS)
    assert reader.partitions(first, due) == []
    assert reader.latestOffset(due, ReadAllAvailable()) == due
    write_layer(flow["silver"], 1, [silver_row(0)])
    reader = reader_of(gold, due=START_MS)
    (batch,) = walk(reader, first, ReadAllAvailable())
    assert batch[1].keys() == first.keys()


def test_an_empty_layer_gives_nothing(flow: dict[str, Flow]) -> None:
    reader = reader_of(flow["gold"])
    start = reader.initialOffset()
    assert reader.latestOffset(start, ReadAllAvailable()) == start
    assert reader.partitions(start, start) == []


def test_the_work_of_a_large_batch_is_cut_evenly(flow: dict[str, Flow]) -> None:
    write_layer(flow["silver"], 0, [silver_row(n) for n in range(24)], row_group=1)
    with patch.object(source, "_MIN_ROWS_PER_SPLIT", 3):
        reader = reader_of(flow["gold"])
        start = reader.initialOffset()
        tasks = reader.partitions(start, reader.latestOffset(start, ReadAllAvailable()))
    assert [len(groups) for task in tasks for _, groups in task.split.row_groups] == [6, 6, 6, 6]


def test_no_limit_is_no_limit(flow: dict[str, Flow]) -> None:
    assert reader_of(flow["gold"], max_rows=0).getDefaultReadLimit() == ReadAllAvailable()
    assert reader_of(flow["gold"], max_rows=9).getDefaultReadLimit() == ReadMaxRows(9)


def test_each_reader_gets_exactly_the_declared_arrow_types(flow: dict[str, Flow]) -> None:
    """Spark takes no others: string and not large_string, timestamp[us, tz=UTC]."""
    write_layer(flow["bronze"], 0, [bronze_row(0, value(0)), bronze_row(1, b"x")])
    write_layer(flow["silver"], 0, [silver_row(0)])
    for layer in ("quarantine", "silver", "gold", "raw_csv"):
        reader, rows = reader_of(flow[layer]), rows_of(flow[layer])
        start = reader.initialOffset()
        (task,) = reader.partitions(start, reader.latestOffset(start, ReadAllAvailable()))
        (split,) = reader.read(task)
        assert split.schema.equals(to_arrow_schema(SPLIT, timezone="UTC"))
        (batch,) = rows.read(iter([split]))
        assert batch.schema.equals(to_arrow_schema(rows.columns, timezone="UTC")), layer
        assert batch.num_rows == 1


def bronze(flow: dict[str, Flow], records: Sequence[bytes | None]) -> None:
    write_layer(flow["bronze"], 0, [bronze_row(n, record) for n, record in enumerate(records)], row_group=3)


def read_all(flow: Flow) -> list[Row]:
    reader = reader_of(flow)
    start = reader.initialOffset()
    return read_rows(flow, start, reader.latestOffset(start, ReadAllAvailable()))


@examples(40)
@given(records=st.lists(st.none() | st.binary(max_size=9) | st.integers(0, 99).map(value), min_size=1, max_size=12))
def test_silver_and_quarantine_split_bronze_exactly(feed: Feed, records: list[bytes | None]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        flow = {one.sink: one for one in flows([feed], Path(folder))}
        bronze(flow, records)
        valid, invalid = read_all(flow["silver"]), read_all(flow["quarantine"])
        assert sorted([row["offset"] for row in valid + invalid]) == list(range(len(records)))
        for row in invalid:
            record = records[row["offset"]]
            assert row["value"] == record
            assert row["value_text"] == (None if record is None else record.decode("utf-8", "replace"))
            assert row["reasons"]


HOUR = 3600


def rewritten(file: BatchFile, says: dict[bytes, bytes], kafka_us: dict[int, int]) -> None:
    """That file with other metadata, and in some rows another kafka_ts."""
    table = pq.read_table(file.path)
    times = table["kafka_ts"].cast(pa.int64()).to_pylist()
    changed = pa.array([kafka_us.get(i, time) for i, time in enumerate(times)]).view(table["kafka_ts"].type)
    at_column = table.column_names.index("kafka_ts")
    table = table.set_column(at_column, table.field(at_column), changed).replace_schema_metadata(says)
    pq.write_table(table, file.path, row_group_size=3)


def test_each_record_is_judged_by_the_plan_of_its_own_batch(flow: dict[str, Flow]) -> None:
    """Seven records that say they are an hour ahead; a merged file says that four of them came an hour too early."""
    rows = [bronze_row(n, value(n, HOUR), HOUR) for n in range(7)]
    file = write_layer(flow["bronze"], 0, rows, last=1)
    rewritten(file, {b"planned": f"[[4, {START_MS}], [3, {START_MS + HOUR * 1000}]]".encode()}, {})
    assert [row["offset"] for row in read_all(flow["silver"])] == [4, 5, 6]
    refused = [(row["offset"], row["reasons"]) for row in read_all(flow["quarantine"])]
    assert refused == [(n, ["future"]) for n in range(4)]


def test_times_that_older_versions_kept_stop_and_move_nothing(flow: dict[str, Flow]) -> None:
    """Wrapped, or of no calendar: the record is refused, its neighbours are not, and the clock stays behind ours."""
    file = write_layer(flow["bronze"], 0, [bronze_row(n, value(n)) for n in range(5)])
    rewritten(file, {}, {0: -(2**63), 1: -62_135_596_800_000_001, 3: 253_402_300_800_000_000, 4: 2**63 - 1})
    assert [row["offset"] for row in read_all(flow["silver"])] == [2]
    reader = reader_of(flow["silver"])
    assert reader.latestOffset(reader.initialOffset(), ReadAllAvailable())["clock"] == (START_MS + 1000) * 1000
    start = reader.initialOffset()
    (task,) = reader.partitions(start, start | {"batch": 0})
    batches = list(rows_of(flow["quarantine"]).read(iter([encoded([task.split])])))
    found = {n: why for b in batches for n, why in zip(*(b[c].to_pylist() for c in ("offset", "reasons")), strict=True)}
    assert found == {0: ["future"], 1: ["future"], 3: ["late"], 4: ["late"]}


def test_a_valid_record_becomes_a_typed_row_with_its_place_and_the_clock(flow: dict[str, Flow]) -> None:
    bronze(flow, [value(5, 1.25, amount=3)])
    (row,) = read_all(flow["silver"])
    assert row == silver_row(5, 1.25) | {
        "amount": row["amount"],
        "kafka_ts": bronze_row(0, None)["kafka_ts"],
        "offset": 0,
        "_clock": bronze_row(0, None)["kafka_ts"],
    }
    assert str(row["amount"]) == "3.00"


def test_no_row_s_clock_is_behind_the_batches_before(flow: dict[str, Flow]) -> None:
    """A partition that is read ten hours late: its rows' clock is the newest time of earlier batches."""
    write_layer(flow["bronze"], 36_000, [bronze_row(0, value(0, 36_000), seconds=36_000)])
    write_layer(flow["bronze"], 36_001, [bronze_row(1, value(1), partition=1)])
    reader = reader_of(flow["silver"])
    first, second = walk(reader, reader.initialOffset(), ReadMaxRows(1))
    assert first[1]["clock"] == (START_MS + 36_000_000) * 1000
    (row,) = read_rows(flow["silver"], *second)
    assert row["kafka_ts"] == bronze_row(1, None)["kafka_ts"]
    assert int(row["_clock"].timestamp()) == START_MS // 1000 + 36_000
