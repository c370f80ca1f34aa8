"""The layers as real streaming queries over Parquet files, drained as TRIGGER_INTERVAL=available-now does."""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
from pyspark.errors import StreamingQueryException

from stream_app.errors import ConfigError
from stream_app.flows import undeclared
from stream_app.flows.flow import Flow
from stream_app.ops import views
from stream_app.sinks.report import REASON, UNDECLARED
from stream_app.storage.layout import LATE
from stream_app.storage.offsets import in_layer
from tests.helpers import START, Row, at, bronze_row, claim, silver_row, value, write_planned
from tests.spark.conftest import Service

MINUTE = 60
ONE_FILE: dict[str, Any] = {"max_offsets_per_trigger": 1}


def ids(flow: Flow) -> list[str]:
    """The txn_ids that an output holds, in the order of its files."""
    return [txn for file in flow.files() for txn in pq.read_table(file.path)["txn_id"].to_pylist()]


def bronze(service: Service, batch: int, records: Sequence[bytes | None], seconds: float = 0, offset: int = 0) -> None:
    rows = [bronze_row(offset + n, record, seconds) for n, record in enumerate(records)]
    write_planned(service.flows["bronze"], batch, rows)


def silver(service: Service, batch: int, rows: list[Row], last: int | None = None) -> Path:
    return write_planned(service.flows["silver"], batch, rows, last).path


def minutes(gold: Flow) -> list[int]:
    """The starts of gold's windows, in minutes after START."""
    rows = views.connect([gold]).sql("SELECT window_start FROM gold ORDER BY 1").fetchall()
    return [int((start.astimezone(UTC) - START).total_seconds() // MINUTE) for (start,) in rows]


def test_silver_and_quarantine_of_a_drain_are_bronze(service: Service) -> None:
    """Every record is in one of the two, typed in silver and with its reasons in quarantine."""
    bronze(service, 0, [value(0, 0.5, amount=3), b"not json", None, value(1, merchant="")])
    bronze(service, 1, [value(2, -600), value(0, 0.5)], offset=4)  # late, and a repeat
    assert [batch.rows_out for batch in service.drain("silver")] == [1]
    (written,) = service.drain("quarantine")
    assert (written.rows_out, written.counters) == (
        4,
        {f"{REASON}{reason}": 1 for reason in ("not_json", "empty", "out_of_range:merchant", "late")},
    )
    connection = views.connect(list(service.flows.values()))
    rows = connection.sql("SELECT * FROM silver").to_arrow_table().to_pylist()
    assert rows == [silver_row(0, 0.5, amount=Decimal("3.00"), offset=0, kafka_ts=at(0))]
    refused = connection.sql('SELECT "offset", reasons FROM quarantine ORDER BY 1').fetchall()
    assert refused == [(1, ["not_json"]), (2, ["empty"]), (3, ["out_of_range:merchant"]), (4, ["late"])]


def test_fields_that_nobody_has_declared_are_counted_by_silver(service: Service) -> None:
    """Of valid, refused and repeated records alike, once a batch, through the tasks of Spark."""
    bronze(service, 0, [value(0, new=1), value(1, -600, new=2, newer=[]), value(2), b"not json"])
    bronze(service, 1, [value(0, new=3)], offset=4)
    reports = service.drain("silver", **ONE_FILE)
    counters = [{name: n for name, n in one.counters.items() if name.startswith(UNDECLARED)} for one in reports]
    assert counters[:2] == [{f"{UNDECLARED}new": 2, f"{UNDECLARED}newer": 1}, {f"{UNDECLARED}new": 1}]
    found = undeclared.read(service.flows["silver"])
    assert {path: (field.records, field.sample) for path, field in found.items()} == {
        "new": (3, "1"),
        "newer": (1, "[]"),
    }


def test_a_follower_may_start_before_there_is_anything(service: Service) -> None:
    """Spark then runs a batch of no tasks."""
    for layer in ("quarantine", "silver", "gold", "raw_csv"):
        assert [batch.rows_out for batch in service.drain(layer) if batch.rows_out] == []
    bronze(service, 0, [value(0)])
    service.drain("silver")
    assert ids(service.flows["silver"]) == ["t0"]


def test_silver_is_once_and_never_drops_what_comes_hours_behind(service: Service) -> None:
    """A partition read ten hours after the others is no repeat and not late (layers/silver.py, CLOCK)."""
    hours = 3600
    bronze(service, 0, [value(0), value(1)])
    bronze(service, 1, [value(0, 600), value(2, 600)], seconds=600)  # a repeat within the hour
    bronze(service, 2, [value(3, 10 * hours)], seconds=10 * hours)
    bronze(service, 3, [value(4, 10 * hours)], seconds=10 * hours)  # behind the watermark of the batch before is late
    bronze(service, 4, [value(5), value(6, 60), value(6, 60)], seconds=30)  # ten hours behind, the last a repeat
    service.drain("silver", **ONE_FILE)
    assert ids(service.flows["silver"]) == ["t0", "t1", "t2", "t3", "t4", "t5", "t6"]


def test_gold_ends_a_drain_with_every_window_that_is_final(service: Service) -> None:
    """The last windows come by the batch without data at the end; the watermark is 5 minutes behind the newest row."""
    for batch in range(3):
        silver(service, batch, [silver_row(batch * 10 + n, batch * 4 * MINUTE + n) for n in range(3)])
    service.drain("gold")
    assert minutes(service.flows["gold"]) == [0] * 3  # of 0, 4 and 8 minutes; 3 cards each
    silver(service, 3, [silver_row(99, 15 * MINUTE)])
    service.drain("gold")
    assert minutes(service.flows["gold"]) == [0] * 3 + [4] * 3 + [8] * 3


def test_windows_that_a_death_left_due_come_without_another_record(service: Service) -> None:
    """The query ended behind the batch that raised the watermark, and before the batch without data (checkpoint.py)."""
    silver(service, 0, [silver_row(n, n * 4 * MINUTE) for n in range(3)])
    service.drain("gold")
    expected, gold = minutes(service.flows["gold"]), service.flows["gold"]
    assert expected == [0]
    for log in ("offsets", "commits"):
        (gold.checkpoint.path / log / "1").unlink()
    (file,) = gold.files()
    file.path.unlink()
    gold.layout.last_file.unlink()
    assert [batch.rows_out for batch in service.drain("gold")] == [1]
    assert minutes(gold) == expected
    assert service.drain("gold") == [], "it is due once"
    silver(service, 1, [silver_row(9, 10 * MINUTE)])
    service.drain("gold")
    assert minutes(gold) == [0, 4], "and the next record does what it did"


@pytest.mark.proves("Late rows are kept", "windows")
def test_gold_and_late_hold_every_row_of_silver_that_is_due(service: Service) -> None:
    """Rows that come after their window was final are kept beside gold, with that window, and nothing is twice.

    The windows of a batch are final when it ends, so a row is late behind the watermark of the batch before.
    """
    late_rows = [silver_row(7, 59), silver_row(11, 55 * MINUTE - 1)]
    rows = [
        [silver_row(0), silver_row(1, 30)],
        [silver_row(2, 20 * MINUTE)],
        [silver_row(3, 5), silver_row(4, 15 * MINUTE), silver_row(5, 20 * MINUTE)],
        [late_rows[0], silver_row(8, 60 * MINUTE)],
        [silver_row(9, 30 * MINUTE), silver_row(10, 70 * MINUTE)],
        [late_rows[1], silver_row(12, 55 * MINUTE)],
    ]
    for batch, batch_rows in enumerate(rows):
        silver(service, batch, batch_rows)
    batches = service.drain("gold", **ONE_FILE)
    assert [batch.counters["late"] for batch in batches] == [0, 0, 0, 1, 0, 1]
    connection = views.connect([service.flows["silver"], service.flows["gold"]])
    late = connection.sql(f"SELECT * EXCLUDE (window_start, window_end) FROM {LATE} ORDER BY event_time")
    assert late.to_arrow_table().to_pylist() == late_rows
    windows = connection.sql(f"SELECT window_start, window_end FROM {LATE} ORDER BY 1").fetchall()
    assert windows == [(at(0), at(MINUTE)), (at(54 * MINUTE), at(55 * MINUTE))]
    due = f"event_time < TIMESTAMPTZ '{at(65 * MINUTE)}' AND txn_id NOT IN (SELECT txn_id FROM {LATE})"
    assert connection.sql("SELECT * FROM gold ORDER BY ALL").fetchall() == expected_gold(connection, due)


def expected_gold(connection: duckdb.DuckDBPyConnection, due: str) -> list[tuple[Any, ...]]:
    """Gold as DuckDB makes it of the due rows of silver; to the cent, averages to the sixth decimal."""
    rows = connection.sql(f"""
        SELECT time_bucket(INTERVAL '1 minute', event_time) AS window_start, window_start + INTERVAL '1 minute',
               card_id, count(*), sum(amount), (sum(amount) / count(*))::DECIMAL(22, 6), max(amount)
        FROM silver WHERE {due} GROUP BY ALL ORDER BY ALL""").fetchall()
    assert rows
    return rows


def test_a_file_that_was_deleted_before_it_was_read_is_not_passed_over(service: Service) -> None:
    for batch in range(5):
        bronze(service, batch, [value(batch)], offset=batch)
    service.drain("silver", **ONE_FILE)
    mirror, files = service.flows["raw_csv"], [file.path for file in service.flows["silver"].files()]
    hidden = {path: path.rename(path.with_name(f"_{path.name}")) for path in files[1:]}
    service.drain("raw_csv")
    for path in (files[2], files[3], files[4]):
        hidden[path].rename(path)
    with pytest.raises(ConfigError, match=r"lost the file of batch 1, which .*raw_csv has not read; put it back"):
        service.drain("raw_csv")
    hidden[files[1]].rename(files[1])
    with pytest.raises(StreamingQueryException, match=r"lost the file of batch 3, which .*raw_csv has not read"):
        service.drain("raw_csv", after=lambda batch: files[3].unlink() if batch == 1 else None, **ONE_FILE)
    assert [file.first for file in mirror.files()] == [0, 1, 2]
    service.drain("raw_csv", fail_on_data_loss=False)
    lines = [line.split(",")[0] for file in mirror.files() for line in file.path.read_text().splitlines()[1:]]
    assert lines == ["t0", "t1", "t2", "t4"]


def test_max_rows_makes_several_batches_of_whole_files(service: Service) -> None:
    for batch in range(5):
        silver(service, batch, [silver_row(batch * 10 + n) for n in range(4)])
    written = service.drain("raw_csv", max_offsets_per_trigger=8)
    assert [batch.rows_out for batch in written] == [8, 8, 4]
    assert [file.first for file in service.flows["raw_csv"].files()] == [0, 1, 2]


def test_a_restart_reads_only_what_is_new_and_compaction_is_not_seen(service: Service) -> None:
    flow, parts = service.flows["raw_csv"], []
    for batch in range(3):
        parts.append(silver(service, batch, [silver_row(batch)]))
    assert [batch.rows_out for batch in service.drain("raw_csv")] == [3]
    silver(service, 0, [silver_row(n) for n in range(3)], last=2)
    for part in parts:
        part.unlink()
    assert service.drain("raw_csv") == []
    silver(service, 3, [silver_row(3)])
    assert [batch.rows_out for batch in service.drain("raw_csv")] == [1]
    lines = [line.split(",")[0] for file in flow.files() for line in file.path.read_text().splitlines()[1:]]
    assert lines == ["t0", "t1", "t2", "t3"]


def test_the_checkpoint_is_as_we_read_it(service: Service) -> None:
    silver(service, 7, [silver_row(0, 600)])
    before = datetime.now(UTC).timestamp() * 1000
    service.drain("gold")
    checkpoint = service.flows["gold"].checkpoint
    first, last = checkpoint.planned(0), checkpoint.last_committed()
    assert last == checkpoint.last_planned()
    assert last is not None
    assert in_layer(first.end).batch == in_layer(last.end).batch == 7
    assert (first.watermark_ms, last.watermark_ms) == (0, int(at(300).timestamp() * 1000))
    assert before <= first.time_ms <= last.time_ms <= datetime.now(UTC).timestamp() * 1000


def forget(flow: Flow, batch: int) -> None:
    """Leave the checkpoint as a crash does that comes before Spark has committed the batch."""
    for log, first in (("commits", batch), ("offsets", batch + 1)):
        for path in (flow.checkpoint.path / log).glob("[0-9]*"):
            if int(path.name) >= first:
                path.unlink()
                path.with_name(f".{path.name}.crc").unlink(missing_ok=True)


def contents(flow: Flow) -> dict[str, Any]:
    """Every file of an output, its bytes and the time of its last change."""
    return {file.path.name: (file.path.read_bytes(), file.path.stat().st_mtime_ns) for file in flow.files()}


def test_what_a_death_leaves_before_the_first_batch_is_planned(service: Service) -> None:
    """Spark writes an entry of its logs under another name first, and begins no query where anything stands."""
    claim(service.flows["gold"])
    checkpoint = service.flows["gold"].checkpoint
    for name in ("offsets", "commits", "state/0/0"):
        folder = checkpoint.path / name
        folder.mkdir(parents=True)
        (folder / ".0.6739af87-dc61-4faa-9479-852e6a5ef08c.tmp").touch()
    query_id = checkpoint.query_id()
    silver(service, 0, [silver_row(0), silver_row(1, 15 * MINUTE)])
    service.drain("gold")
    assert minutes(service.flows["gold"]) == [0]
    assert checkpoint.query_id() == query_id, "those that follow it know it by its query id"


def test_what_deaths_leave_in_every_folder_of_a_checkpoint_is_passed_over(service: Service) -> None:
    """Beside each file that Spark writes, one whose writing was cut short, and of the next number, too."""
    gold = service.flows["gold"]
    for batch in range(6):
        silver(service, batch, [silver_row(batch * 10 + n, batch * 4 * MINUTE + n) for n in range(3)])
        service.drain("gold")
        leave_halves(gold)
    assert minutes(gold) == [start for start in (0, 4, 8, 12) for _ in range(3)]


def leave_halves(flow: Flow) -> None:
    """Leave beside each file of a checkpoint what a death in the midst of writing it leaves."""
    for path in [path for path in flow.checkpoint.path.rglob("*") if path.is_file() and path.suffix != ".tmp"]:
        names = {path.name, str(int(path.name) + 1)} if path.name.isdigit() else {path.name}
        for name in names:
            path.with_name(f".{name}.6739af87-dc61-4faa-9479-852e6a5ef08c.tmp").touch()


def test_a_replayed_batch_leaves_its_file_and_brings_its_state_along(service: Service) -> None:
    """Died between the rename and Spark's commit, in both queries with state: each goes on as if nothing was."""
    silver_flow, gold_flow = service.flows["silver"], service.flows["gold"]
    bronze(service, 0, [value(n, n) for n in range(50)])
    service.drain("silver")
    before = contents(silver_flow)
    forget(silver_flow, 0)
    bronze(service, 1, [value(7, 30), value(50, 900)], seconds=900, offset=50)  # the first is a repeat, and late
    bronze(service, 2, [value(51, 910), value(8, 910)], seconds=910, offset=52)  # the second is a repeat
    replayed, *_ = service.drain("silver")
    assert (replayed.batch_id, replayed.rows_out) == (0, 50)
    assert contents(silver_flow).items() >= before.items()
    assert sorted(ids(silver_flow)) == sorted(f"t{n}" for n in range(52))

    service.drain("gold")
    before = contents(gold_flow)
    forget(gold_flow, gold_flow.files()[-1].last)
    replayed, *_ = service.drain("gold")
    assert (replayed.batch_id, replayed.file) == (gold_flow.files()[-1].last, gold_flow.files()[-1].path)
    assert contents(gold_flow) == before
    bronze(service, 3, [value(60, 1800)], seconds=1800, offset=60)
    service.drain("silver")
    service.drain("gold")
    connection = views.connect([silver_flow, gold_flow])
    due = f"event_time < TIMESTAMPTZ '{at(1500)}'"
    assert connection.sql("SELECT * FROM gold ORDER BY ALL").fetchall() == expected_gold(connection, due)


def test_a_batch_that_died_before_its_rename_is_written_with_the_same_name_and_rows(service: Service) -> None:
    """It runs again with the same offsets, whatever is new upstream."""
    bronze(service, 0, [value(n, n) for n in range(50)])
    service.drain("silver")
    flow = service.flows["silver"]
    (file,) = flow.files()
    rows = pq.read_table(file.path).sort_by("offset")
    forget(flow, 0)
    for path in (file.path, flow.checkpoint.path / "last_file"):
        path.unlink()
    bronze(service, 1, [value(99)], offset=50)
    service.drain("silver")
    assert flow.files()[0].path == file.path
    assert pq.read_table(file.path).sort_by("offset") == rows
    assert sorted(ids(flow)) == sorted([*(f"t{n}" for n in range(50)), "t99"])
