"""A Delta table has each batch once, whatever dies, answers late or comes between; what a power cut tears is mended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError
from hypothesis import given
from hypothesis import strategies as st

from stream_app.errors import ConfigError, UnavailableError
from stream_app.storage.tables import delta_log
from stream_app.storage.tables.delta import Delta
from stream_app.storage.tables.delta_on_disk import DeltaOnDisk
from stream_app.storage.tables.delta_statistics import statistics
from stream_app.storage.tables.table import ConflictError, Part
from tests.examples import examples
from tests.tables import COLUMNS, OWNER, mark, new, numbered, numbers, part

TYPES = pa.schema(
    [
        ("long", pa.int64()),
        ("text", pa.string()),
        ("money", pa.decimal128(18, 2)),
        ("sum", pa.decimal128(38, 7)),
        ("time", pa.timestamp("us", "UTC")),
        ("day", pa.date32()),
        ("bytes", pa.binary()),
        ("double", pa.float64()),
        ("texts", pa.list_(pa.string())),
    ]
)
VALUES = st.fixed_dictionaries(
    {
        "long": st.none() | st.integers(-(2**63), 2**63 - 1),
        "text": st.none() | st.text(max_size=40) | st.text("a\U0010ffff", min_size=30, max_size=40),
        "money": st.none() | st.decimals(-(10**16) + 1, 10**16 - 1, places=2),
        "sum": st.none() | st.decimals(-(10**31) + 1, 10**31 - 1, places=7),
        "time": st.none() | st.datetimes(timezones=st.just(UTC)),
        "day": st.none() | st.dates(),
        "bytes": st.none() | st.binary(max_size=4),
        "double": st.none() | st.floats(),
        "texts": st.none() | st.lists(st.text(max_size=3), max_size=2),
    }
)


@pytest.fixture
def table(tmp_path: Path) -> DeltaOnDisk:
    return new(tmp_path / "100% ü's")


@pytest.fixture(params=[DeltaOnDisk, Delta])
def either(request: pytest.FixtureRequest, table: DeltaOnDisk) -> Delta:
    """The table by its own commits, as on a disk, and by those of delta-rs, as in an object store."""
    found: Delta = request.param(table.place)
    return found


def test_a_batch_that_is_committed_again_is_there_once(either: Delta) -> None:
    table, stale = either, type(either)(either.place)
    stale.refresh()
    table.commit(mark(0), [numbered(table, 0, 1, 2)])
    for handle in (table, stale, type(either)(table.place)):
        handle.commit(mark(0), [numbered(table, 0, 1, 2)])
        assert handle.written("q") == 0
    assert numbers(table) == [1, 2]
    assert table.version == 1


def test_a_commit_whose_answer_is_lost_is_made_once(either: Delta, monkeypatch: pytest.MonkeyPatch) -> None:
    real = type(either)._write

    def lost(*arguments: Any, **options: Any) -> None:
        real(*arguments, **options)
        raise OSError("the connection was reset")

    monkeypatch.setattr(type(either), "_write", lost)
    either.commit(mark(0), [numbered(either, 0, 1)])
    monkeypatch.undo()
    assert (numbers(either), either.version) == ([1], 1)


@pytest.mark.parametrize("call", ["link", "fsync"])
def test_a_call_that_fails_after_it_was_carried_out_commits_once(
    table: DeltaOnDisk, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, fail_at = list[object](), {1, 3} if call == "fsync" else {1}  # 1 is the entry, 3 the folder

    def fails(*arguments: Any) -> None:
        calls.append(arguments)
        real(*arguments)
        if len(calls) in fail_at:
            raise OSError(5, "Input/output error")

    part, real = numbered(table, 0, 1), getattr(os, call)
    monkeypatch.setattr(os, call, fails)
    if call == "fsync":  # the entry was never linked
        with pytest.raises(OSError, match="Input/output"):
            table.commit(mark(0), [part])
    table.commit(mark(0), [part])
    monkeypatch.undo()
    assert (numbers(table), table.version) == ([1], 1)
    assert not [*Path(table.location, "_delta_log").glob(".*")]


def test_an_error_that_committed_nothing_is_raised(either: Delta, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(either), "_write", refused)
    with pytest.raises(OSError, match="No space"):
        either.commit(mark(0), [numbered(either, 0, 1)])


def test_a_commit_takes_no_look_at_the_whole_log(table: DeltaOnDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    """delta-rs lists it at each look and each commit: at 5,000 versions that was most of what a batch cost."""
    other = DeltaOnDisk(table.place)
    assert (other.live(), table.live()) == ([], [])

    def listed(*_: Any, **__: Any) -> None:
        raise AssertionError

    for name in ("__init__", "update_incremental", "create_write_transaction", "history"):
        monkeypatch.setattr(DeltaTable, name, listed)
    for batch in range(8):  # then comes a checkpoint
        table.refresh()
        table.commit(mark(batch), [numbered(table, batch, batch)], table.live())
        other.refresh()
        assert other.live() == table.live()
    monkeypatch.undo()
    assert numbers(table) == [7]


def test_queries_that_commit_at_once_all_come_in_once(table: DeltaOnDisk) -> None:
    def commit(query_id: str) -> None:
        handle = DeltaOnDisk(table.place)
        for batch in range(20):
            part = numbered(handle, batch, batch)
            for _ in range(2):
                while True:
                    try:
                        handle.refresh()
                        handle.commit(mark(batch, query_id), [part])
                    except CommitFailedError:  # five others came first
                        continue
                    break

    with ThreadPoolExecutor(4) as pool:
        assert [*pool.map(commit, "abcd")] == [None] * 4
    assert numbers(table) == sorted([*range(20)] * 4)
    table.refresh()
    assert table.version == 80


_STEPS = (
    "append",
    "stale",
    "replace",
    "merge",
    "foreign append",
    "foreign delete",
    "foreign optimize",
    "own",
    "vacuum",
)


@given(st.lists(st.sampled_from(_STEPS), min_size=1, max_size=25))
@examples(30)
def test_what_is_followed_by_its_entries_is_what_delta_rs_reads(steps: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        table = new(Path(folder) / "t")
        follower, stale = DeltaOnDisk(table.place), DeltaOnDisk(table.place)
        assert follower.live() == stale.live() == []
        for batch, step in enumerate(steps):
            _take(step, table, stale, batch)
            for handle in (follower, table):
                handle.refresh()
                fresh = Delta(table.place)
                assert (handle.version, handle.owner) == (fresh.version, fresh.owner)
                assert sorted(map(str, handle.live())) == sorted(map(str, fresh.live()))
                assert (handle.written("q"), handle.written("s")) == (fresh.written("q"), fresh.written("s"))


def _take(step: str, table: DeltaOnDisk, stale: DeltaOnDisk, batch: int) -> None:
    match step:
        case "append":
            table.commit(mark(batch), [numbered(table, batch, batch), numbered(table, batch, batch)])
        case "stale" if stale.owner == table.owner:
            stale.commit(mark(batch, "s"), [numbered(table, batch, batch)])
        case "stale":
            with pytest.raises(ConflictError, match="somebody else owns it"):
                stale.commit(mark(batch, "s"), [numbered(table, batch, batch)])
        case "replace":
            table.commit(mark(batch), [numbered(table, batch, batch)], table.live()[:2])
        case "merge" if held := table.live():
            assert table.rewrite([numbered(table, batch, *range(sum(file.rows for file in held)))], held)
        case "foreign append":
            write_deltalake(table.location, pa.table({"number": [batch], "text": ["x"]}), mode="append")
        case "foreign delete":
            DeltaTable(table.location).delete(f"number = {batch - 1}")
        case "foreign optimize":
            DeltaTable(table.location).optimize.compact()
        case "own":
            table.own({"sink": "transactions.x", "query": str(batch)}, 24)
        case "vacuum":
            table.vacuum(0, orphans=True)


@pytest.mark.parametrize(
    ("properties", "problem"),
    [({"delta.appendOnly": "true"}, "only be appended to"), ({"delta.enableChangeDataFeed": "true"}, "features")],
)
def test_what_somebody_switched_on_meanwhile_is_not_broken(
    table: DeltaOnDisk, properties: dict[str, str], problem: str
) -> None:
    table.commit(mark(0), [numbered(table, 0, 1)])
    DeltaTable(table.location).alter.set_table_properties(properties)
    with pytest.raises(UnavailableError, match=problem):
        table.commit(mark(1), [numbered(table, 1, 2)], table.live())
    assert numbers(table) == [1]


def test_entries_that_died_in_the_making_go_once_they_are_old(table: DeltaOnDisk) -> None:
    log = Path(table.location, "_delta_log")
    old, young, foreign = (log / f".{1:020d}.{name}.tmp" for name in ("a" * 16, "b" * 16, "1b4e28ba-2fa1"))
    for path in (old, young, foreign):
        path.write_text("{")
    os.utime(old, (0, 0))
    assert table.mend() == []
    assert (old.exists(), young.exists(), foreign.exists()) == (False, True, True)
    table.commit(mark(0), [numbered(table, 0, 1)])
    assert numbers(table) == [1]


@pytest.mark.parametrize(
    "work", ["create_checkpoint()", "alter.set_table_properties({'delta.logRetentionDuration': 'interval 3 hours'})"]
)
def test_what_delta_rs_was_killed_in_goes_too(table: DeltaOnDisk, work: str) -> None:
    """A checkpoint has the size of the log; each kill in one would leave that much for ever."""
    table.commit(mark(0), [numbered(table, 0, 1)])
    log = Path(table.location, "_delta_log")
    before = {path.name for path in log.iterdir()}
    killed = (
        "import resource, signal, sys\n"
        "from deltalake import DeltaTable\n"
        "table = DeltaTable(sys.argv[1])\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_DFL)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (9, 9))\n"
        f"table.{work}\n"
    )
    done = subprocess.run([sys.executable, "-c", killed, table.location], check=False, timeout=120)
    assert done.returncode == -signal.SIGXFSZ
    (left,) = {path.name for path in log.iterdir()} - before
    assert table.mend() == []
    assert (log / left).exists(), "it may be of a command that runs beside this"
    os.utime(log / left, (0, 0))
    assert table.mend() == []
    assert {path.name for path in log.iterdir()} == before
    assert numbers(table) == [1]


def test_names_that_the_log_spells_in_another_way_are_read(tmp_path: Path) -> None:
    """As of a partition of another writer."""
    table = new(tmp_path / "t")
    write_deltalake(
        table.location,
        pa.table({"number": [1], "text": ["a b%/ü"]}),
        mode="overwrite",
        partition_by=["text"],
        schema_mode="overwrite",
    )
    table.refresh()
    (file,) = table.live()
    assert (tmp_path / "t" / file.path).is_file()
    path = "text=ü 100%/it's.parquet"
    (tmp_path / "t" / path).parent.mkdir()
    (tmp_path / "t" / file.path).rename(tmp_path / "t" / path)
    assert table.rewrite([Part(path, file.size, 1, {"text": "a b%/ü"}, '{"numRecords":1}')], [file])
    assert numbers(table) == [1]
    assert [one.path for one in Delta(table.place).live()] == [one.path for one in table.live()] == [path]


def test_a_commit_of_another_writer_between_look_and_commit_is_no_reason_to_fail(either: Delta) -> None:
    table = either
    table.commit(mark(0), [numbered(table, 0, 1, 2)])
    DeltaTable(table.location).delete("number = 1")
    table.commit(mark(1), [numbered(table, 1, 3)])
    assert numbers(table) == [2, 3]


def test_a_batch_does_not_come_into_a_table_that_was_taken_over_amid_it(either: Delta) -> None:
    """Between the look at its owner and the commit: the other query brings the same rows in under its own name."""
    either.refresh()
    part, other = numbered(either, 0, 1), type(either)(either.place)
    other.create(COLUMNS, (), {"sink": "transactions.x", "query": "another"}, 168)
    other.commit(mark(0, "another"), [numbered(other, 0, 1)])
    with pytest.raises(ConflictError, match="somebody else owns it since batch 0 was planned"):
        either.commit(mark(0), [part])
    assert numbers(other) == [1]


def test_a_replay_after_a_merge_does_not_bring_the_rows_back(either: Delta) -> None:
    table = either
    parts = [numbered(table, batch, batch) for batch in range(3)]
    for batch, one in enumerate(parts):
        table.commit(mark(batch), [one])
    merged = numbered(table, 9, 0, 1, 2)
    assert table.rewrite([merged], table.live())
    table.commit(mark(2), [parts[2]])
    assert numbers(table) == [0, 1, 2]
    assert numbers(table, version=2) == [0, 1]
    entry = Path(table.location, "_delta_log", f"{table.version:020d}.json").read_text()
    assert '"dataChange":true' not in entry


def test_what_a_batch_replaces_goes_in_the_same_version_and_not_if_it_has_gone(either: Delta) -> None:
    table = either
    table.commit(mark(0), [numbered(table, 0, 1)])
    held = table.live()
    table.commit(mark(1), [numbered(table, 1, 2)], held)
    assert [numbers(table, version) for version in (1, 2)] == [[1], [2]]
    with pytest.raises(ConflictError, match="batch 2"):
        table.commit(mark(2), [numbered(table, 2, 3)], held)
    assert numbers(table) == [2]


def test_a_merge_that_comes_second_changes_nothing(either: Delta) -> None:
    table = either
    table.commit(mark(0), [numbered(table, 0, 1)])
    late = type(either)(table.place)
    held = late.live()
    table.commit(mark(1), [numbered(table, 1, 2)], table.live())
    assert not late.rewrite([numbered(table, 9, 1)], held)
    assert numbers(table) == [2]


def test_versions_tell_their_batches(either: Delta) -> None:
    table = either
    for batch in range(3):
        table.commit(mark(batch), [numbered(table, batch, batch)])
    found = [*table.versions()]
    assert [(one.number, one.batch, one.query_id) for one in found] == [
        (3, 2, "q"),
        (2, 1, "q"),
        (1, 0, "q"),
        (0, None, ""),
    ]
    assert found[0].says["end"] == '{"batch": 2}'
    assert [one.number for one in table.versions(1)] == [3]


def test_a_version_that_is_not_there_is_one_line(table: DeltaOnDisk) -> None:
    with pytest.raises(ConfigError, match="there is no version 7; the newest is 0"):
        table.live(7)


@pytest.mark.parametrize("torn", ["", '{"commitInfo":{"timest'])
def test_a_torn_entry_is_mended_and_its_batch_runs_again(table: DeltaOnDisk, torn: str) -> None:
    table.commit(mark(0), [numbered(table, 0, 1)])
    table.commit(mark(1), [numbered(table, 1, 2)])
    newest = Path(table.location, "_delta_log", f"{2:020d}.json")
    newest.write_text(torn)
    after = DeltaOnDisk(table.place)
    assert [str(newest) in line for line in after.mend()] == [True]
    assert after.written("q") == 0
    after.commit(mark(1), [numbered(table, 1, 2)])
    assert numbers(after) == [1, 2]
    assert after.mend() == []


def test_a_torn_checkpoint_is_mended(table: DeltaOnDisk) -> None:
    for batch in range(10):
        table.commit(mark(batch), [numbered(table, batch, batch)])
    (checkpoint,) = Path(table.location, "_delta_log").glob("*.checkpoint.parquet")
    checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    after = DeltaOnDisk(table.place)
    assert [str(checkpoint) in line for line in after.mend()] == [True]
    after.commit(mark(10), [numbered(table, 10, 10)])
    assert numbers(after) == [*range(11)]


def test_the_log_lets_go_of_entries_that_are_older_than_what_is_kept(table: DeltaOnDisk) -> None:
    table.own(OWNER, 1)
    log = Path(table.location, "_delta_log")
    for batch in range(25):
        table.commit(mark(batch), [numbered(table, batch, batch)])
    of_before = sorted(log.glob("*.json"))
    for entry in log.iterdir():
        long_ago = entry.stat().st_mtime - 3 * 3600
        os.utime(entry, (long_ago, long_ago))
    for batch in range(25, 40):
        table.commit(mark(batch), [numbered(table, batch, batch)])
    kept = [entry for entry in of_before if entry.exists()]
    assert len(kept) < 10, "those behind the newest checkpoint are needed"
    assert kept == of_before[-len(kept) :]
    assert numbers(DeltaOnDisk(table.place)) == [*range(40)]


def test_what_a_commit_relies_on_is_flushed_before_it_returns(
    table: DeltaOnDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    done, flushed, log = list[str](), list[Path](), Path(table.location, "_delta_log")
    fsync, link, part = os.fsync, os.link, numbered(table, 9, 1)

    def flush(file: int) -> None:
        done.append(str(Path(f"/proc/self/fd/{file}").readlink()))
        fsync(file)

    def show(made: Path, entry: Path) -> None:
        done.append(str(entry))
        link(made, entry)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(os, "link", show)
    table.commit(mark(9), [part])
    assert done[0].endswith(".tmp")
    assert done[1:] == [str(log / f"{1:020d}.json"), str(log)]
    monkeypatch.undo()
    monkeypatch.setattr(delta_log, "sync", flushed.append)
    for batch in range(10, 20):
        table.commit(mark(batch), [numbered(table, batch, batch)])
    checkpoints = {*log.glob("*.checkpoint.parquet")}
    assert checkpoints
    assert {*checkpoints, log / "_last_checkpoint"} <= {*flushed}


@given(st.lists(VALUES, min_size=1, max_size=6))
@examples(200)
def test_no_row_is_beyond_the_bounds_of_its_file(rows: list[dict[str, Any]]) -> None:
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, TYPES, store_decimal_as_integer=True) as writer:
        writer.write_table(pa.Table.from_pylist(rows, TYPES))
    told = json.loads(statistics(pq.read_metadata(pa.BufferReader(sink.getvalue()))), parse_float=Decimal)
    assert told["numRecords"] == len(rows)
    for column in TYPES.names:
        values = [row[column] for row in rows if row[column] is not None]
        if column != "texts":
            assert told["nullCount"][column] == len(rows) - len(values)
        for bounds, is_within in (("minValues", _at_least), ("maxValues", _at_most)):
            if column in told[bounds]:
                assert all(is_within(value, told[bounds][column]) for value in values), (column, told[bounds][column])
    assert not {"bytes", "double", "texts"} & {*told["minValues"], *told["maxValues"]}


def _at_least(value: Any, bound: Any) -> bool:
    return bool(_like(value, bound) <= value)


def _at_most(value: Any, bound: Any) -> bool:
    return bool(_like(value, bound) >= value)


def _like(value: Any, bound: Any) -> Any:
    match value:
        case datetime():
            return datetime.fromisoformat(bound)
        case date():
            return date.fromisoformat(bound)
    return bound


def test_a_filter_on_a_decimal_beyond_doubles_finds_its_row(tmp_path: Path) -> None:
    columns = pa.schema([("number", pa.int64()), ("money", pa.decimal128(18, 2))])
    table, exact = new(tmp_path / "t", columns), Decimal("90071992547409.93")
    table.commit(mark(0), [part(table, 0, [{"number": 1, "money": exact}], columns)])
    found = DeltaTable(table.location).scan(predicate=f"money = CAST('{exact}' AS DECIMAL(18,2))")
    assert pa.table(found.read_all()).num_rows == 1


def test_no_process_that_forks_workers_and_no_task_imports_deltalake() -> None:
    """A child of a process that has used it panics."""
    code = """
        import importlib, sys
        from stream_app.runtime.python_daemon import _NEEDED
        for module in (*_NEEDED, *(f"stream_app.sinks.{name}" for name in ("table_writer", "kept_by_key", "delta"))):
            importlib.import_module(module)
        sys.exit("deltalake" in sys.modules)
    """
    lines = "\n".join(line.strip() if not line.startswith(" " * 12) else line[8:] for line in code.splitlines())
    assert subprocess.run([sys.executable, "-c", lines], check=False).returncode == 0


def test_a_handle_that_is_older_than_another_query_s_commit_commits_all_the_same(either: Delta) -> None:
    table = either
    other = type(either)(table.place)
    other.refresh()
    table.commit(mark(0), [numbered(table, 0, 1)])
    other.commit(mark(0, "other"), [numbered(table, 0, 2)])
    assert numbers(table) == [1, 2]
